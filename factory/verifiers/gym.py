r"""`verify.gym`: does a response solve a procedural task, by that task's own scorer?

reasoning-gym (https://github.com/open-thought/reasoning-gym) makes puzzles without end, and each of its data sets has
a scorer, because many puzzles have more than one right answer (any expression that reaches 24 will do). This verifier
finds the answer in the response and asks that scorer.

**Which text is the answer.** Only the answer part counts (after `</think>`). What stands in `<answer>…</answer>`, else
in the last `\boxed{…}`, is taken as it is. A plain chat reply is read by the *form* of the reference answer, never by
its value:

- a number: the last number; a fraction: the last fraction or number;
- one word: the word after the last "answer is", or else the last word;
- several lines, or no reference: the last fenced block, or else the last paragraph, from "answer is" on if it has that;
- otherwise what follows the last "answer is", or else the last line.

A number inside tags is read the same way if there is just one. Numbers are written plainly for the scorer: `$1,234.00`
becomes `1234`.

**What is not trusted.** Some scorers call `eval` or SymPy's parser on the answer. For those tasks an answer that could
call anything but a function of mathematics is refused before it is scored (`unscorable_answer`). All scoring has a hard
deadline in a process of its own. An item that cannot be read, or whose own scorer does not accept its reference answer,
makes the verdict `undecided`, whatever was answered.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import polars as pl
from pydantic import Field

from factory.engine.errors import FactoryError, MissingExtraError
from factory.engine.gym import load_gym
from factory.engine.op import Kind, OpContext, Params, Trial, op
from factory.engine.text import ANSWER_OPEN, split_response
from factory.verifiers.deadline import DeadlineExceeded, WorkerCrashed
from factory.verifiers.deadline_pool import DeadlinePool
from factory.verifiers.extraction import last_boxed
from factory.verifiers.gym_trials import GYM_TRIALS
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

_LONGEST = 20_000
_NUMBER = re.compile(r"(?<![\w.)\]])[-+]?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|(?<![\w.)\]])[-+]?\.\d+")
_NUMBERISH = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_FRACTION = re.compile(r"(?<![\w./])-?\d+(?:\s*/\s*-?\d+)?(?![\w/])")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(-?\d+)\}")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_ANSWER_IS = re.compile(r"\banswer\s*(?:\*\*)?\s*(?:is|:|=)\s*(?:\*\*)?\s*:?[ \t]*", re.IGNORECASE)
_FENCE = re.compile(r"```[^\n`]*\n(.*?)\n?```", re.DOTALL)
_BOLD = re.compile(r"(?<![\w)\]])\*\*|\*\*(?![\w(-])")
_ATTRIBUTE = re.compile(r"[^\W\d_]\s*\.|\.\s*[^\W\d]|[)\]]\s*\.")
_QUOTED = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_SYMPY = frozenset({"parse_expr", "sympify"})
_SAFE_NAMES = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh", "log", "ln", "exp",
    "sqrt", "Abs", "abs", "pi", "Rational", "and", "or", "not", "if", "else", "True", "False", "None",
    "true", "false", "null"})


class GymParams(Params):
    """`response`, `entry` and `task` name the columns of the response, of the item as JSON text, and of the data set's
    name; `threshold` is the least score that passes; `deadline` is seconds per row."""

    response: str = "response"
    entry: str = "entry"
    task: str = "task"
    threshold: float = Field(1.0, gt=0, le=1)
    deadline: float = Field(5.0, gt=0, le=3600)


def gym_trials(params: GymParams) -> list[Trial]:
    """The reference of items of five kinds, and answers that are not right beside them."""
    trials = []
    for task, item, wrong, score in GYM_TRIALS:
        row = {params.entry: json.dumps(item), params.task: task}
        trials.append(Trial({**row, params.response: f"<think>?</think><answer>{item['answer']}</answer>"}, "correct"))
        if score < params.threshold:
            trials.append(Trial({**row, params.response: f"<think>?</think><answer>{wrong}</answer>"}, "incorrect"))
    return trials


# Version 2: an item that cannot be read or used makes its own row undecided, whatever was answered.
@op("verify.gym", version=2, kind=Kind.SCORE, params=GymParams, trials=gym_trials,
    columns=lambda params: (params.response, params.entry, params.task), out=VERDICT_OUT)
def verify_gym(batch: pl.DataFrame, params: GymParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the response solves its procedural task, by the task's own scorer.

    Adds `extracted`; `score` is the scorer's value from 0 to 1. `reason_code` is one of `scored`, `below_threshold`,
    `no_answer`, `unscorable_answer`, `unknown_task`, `gold_unparseable` (the entry is no JSON object with `answer` and
    `metadata`, or the answer is no text or blank), `gold_refused`; time-outs fail the row.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise MissingExtraError("reasoning_gym", "gym")
    rows = list(batch.select(pl.col(params.response, params.entry, params.task).cast(pl.String)).iter_rows())
    verdicts = check_gym_many([row[:2] for row in rows], [row[2] for row in rows], params.threshold, params.deadline)
    ctx.count("timeouts", sum(verdict.reason_code == "timeout" for verdict in verdicts))
    return frame(verdicts)


def check_gym(response: str | None, entry: str | None, task: str | None = None, threshold: float = 1.0,
              seconds: float = 5.0) -> Verdict:
    """The verdict on one response; see `verify_gym`. Without `task` the item's metadata name it (`source_dataset`)."""
    return check_gym_many([(response, entry)], task, threshold, seconds)[0]


def check_gym_many(pairs: Sequence[tuple[str | None, str | None]], task: str | Sequence[str | None] | None = None,
                   threshold: float = 1.0, seconds: float = 5.0) -> list[Verdict]:
    """`check_gym` for many (response, item) pairs, in order; the scorers' process is given the next while it works on
    one. `task` is one name for all, or one for each."""
    tasks = [task] * len(pairs) if task is None or isinstance(task, str) else task
    verdicts: list[Verdict | None] = []
    calls = []
    for (response, entry), name in zip(pairs, tasks, strict=True):
        item = _read_entry(entry)
        verdicts.append(item if isinstance(item, Verdict) else None)
        if not isinstance(item, Verdict):
            own = item["metadata"].get("source_dataset") if isinstance(item["metadata"], dict) else None
            calls.append((str(name or own or ""), take_gym_answer(response or "", item["answer"]), item, threshold))
    try:
        judged = iter([_verdict(result, seconds) for result in _pool.map(calls, seconds)] if calls else [])
    except WorkerCrashed as error:  # it does not start
        judged = iter([_verdict(error, seconds)] * len(calls))
    return [verdict or next(judged) for verdict in verdicts]


def _verdict(result: Verdict | FactoryError, seconds: float) -> Verdict:
    if isinstance(result, Verdict):
        return result
    if isinstance(result, DeadlineExceeded):
        return Verdict("undecided", "timeout", f"scoring took longer than {seconds:g} s", transient=True)
    return Verdict("undecided", "crashed", str(result), transient=True)


def take_gym_answer(response: str, gold: str | None) -> str | None:
    """The answer of a response, by the rules of the module docstring; None when there is none."""
    part = split_response(response).answer
    if part is None or not part.strip():
        return None
    several = gold is None or "\n" in gold.strip()
    gold = (gold or "").strip()
    numeric = _NUMBERISH.fullmatch(gold) is not None
    tagged = ANSWER_OPEN in response
    text = part.strip() if tagged else last_boxed(part)
    if text is not None:
        numbers = _NUMBER.findall(_plain(text)) if numeric else []
        return _write_number(numbers[0]) if len(numbers) == 1 else text
    text = _plain(part)
    if numeric:
        numbers = _NUMBER.findall(text)
        return _write_number(numbers[-1]) if numbers else None
    if re.fullmatch(r"-?\d+/-?\d+", gold):
        fractions = _FRACTION.findall(_LATEX_FRACTION.sub(r"\1/\2", text))
        return re.sub(r"\s", "", fractions[-1]) if fractions else None
    if several:
        fenced = _FENCE.findall(part)
        return fenced[-1] if fenced else _after_mark(part.strip("\n").rsplit("\n\n", 1)[-1]).strip("\n")
    rest = _after_mark(text).strip().split("\n", 1)[0] if _ANSWER_IS.search(text) else ""
    line = _trim(rest, gold) or _trim(text.rsplit("\n", 1)[-1], gold)
    if _WORD.fullmatch(gold):
        words = _WORD.findall(line)
        return (words[0] if rest else words[-1]) if words else None
    return line or None


def _read_entry(entry: str | None) -> dict[str, Any] | Verdict:
    try:
        item = json.loads(entry or "")
    except (ValueError, RecursionError) as error:
        return Verdict("undecided", "gold_unparseable", f"the entry is no reasoning-gym item as JSON text, it is "
                       f"{entry!r:.80} ({error}): name the right column with `entry`")
    if not isinstance(item, dict) or "answer" not in item or "metadata" not in item:
        return Verdict("undecided", "gold_unparseable", "the entry is no JSON object with `answer` and `metadata`, it "
                       f"is {entry!r:.80}: use rows made by source.procedural")
    answer = item["answer"]
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        return Verdict("undecided", "gold_unparseable", f"the reference answer of the entry is {answer!r:.80}: it must "
                       "be text that is not blank, or null where the scorer needs none")
    return item


def _plain(text: str) -> str:
    return _BOLD.sub("", text.strip().replace("−", "-")).replace("\\,", "").replace("\\$", "$").replace("$", " ")


def _after_mark(text: str) -> str:
    """What follows the last "answer is"; the whole text where there is none."""
    marks = list(_ANSWER_IS.finditer(text))
    return text[marks[-1].end():] if marks else text


def _trim(line: str, gold: str) -> str:
    line = line.strip().strip("*` ")
    return line if gold.endswith(".") else line.rstrip(".").strip("*` ")


def _write_number(text: str) -> str:
    value = Decimal(text.replace(",", ""))
    return f"{value.to_integral_value():f}" if value == value.to_integral_value() else f"{value:f}".rstrip("0")


# ---- below: what runs in the worker process ----------------------------------------------------------------------


def _load() -> None:
    load_gym()


def _decide(task: str, taken: str | None, item: dict[str, Any], threshold: float) -> Verdict:
    scorer, evaluators = _scorer(task)
    if scorer is None:
        return Verdict("undecided", "unknown_task", f"reasoning-gym has no task {task!r:.80}", taken)
    item, reference = _settle(task, json.dumps(item))
    if reference is None or reference < threshold:
        return Verdict("undecided", "gold_refused", f"the scorer of {task} gives its own reference answer "
                       f"{'no score' if reference is None else f'{reference:g}'}", taken)
    if taken is None:
        return Verdict("incorrect", "no_answer", "the response has no answer", None, 0.0)
    if len(taken) > _LONGEST or (evaluators and not _is_safe(taken, evaluators)):
        return Verdict("incorrect", "unscorable_answer", "the answer is too long, or holds more than mathematics for a "
                       "task whose scorer evaluates it", taken, 0.0)
    score = _score(scorer, taken, item)
    if score is not None and score >= threshold:
        return Verdict("correct", "scored", f"the scorer of {task} gives {score:g}", taken, score)
    if score is None:
        return Verdict("incorrect", "unscorable_answer", f"the scorer of {task} could not read the answer", taken, 0.0)
    return Verdict("incorrect", "below_threshold", f"the scorer of {task} gives {score:g}, {threshold:g} is asked for",
                   taken, score)


@functools.lru_cache(maxsize=64)
def _settle(task: str, entry: str) -> tuple[dict[str, Any], float | None]:
    """The item in the form that its scorer accepts the reference of, and what that scores; an item without a reference
    has nothing to refuse. Cached because one item has many responses."""
    item = json.loads(entry)
    scorer, _ = _scorer(task)
    if item["answer"] is None or scorer is None:
        return item, 1.0
    plain = _score(scorer, item["answer"], item)
    tuples = _as_tuples(item)
    if plain == 1.0 or tuples == item:
        return item, plain
    other = _score(scorer, item["answer"], tuples)
    return (tuples, other) if (other or 0.0) > (plain or 0.0) else (item, plain)


def _score(scorer: Callable[..., float], answer: str, item: dict[str, Any]) -> float | None:
    # Scorers raise whatever their parsing raises; a fresh copy of the item, since some of them change it.
    try:
        return float(scorer(answer, copy.deepcopy(item)))
    except Exception:
        return None


def _as_tuples(value: Any) -> Any:
    """JSON knows no tuples, but some scorers compare with the tuples that their generator made."""
    if isinstance(value, list):
        return tuple(_as_tuples(each) for each in value)
    return {key: _as_tuples(each) for key, each in value.items()} if isinstance(value, dict) else value


@functools.cache
def _scorer(task: str) -> tuple[Callable[..., float] | None, frozenset[str]]:
    """The scorer of a task, and by which functions it, or a method of its class, evaluates text as code."""
    gym = load_gym()
    known = gym.factory.DATASETS
    if task not in known:
        return None, frozenset()
    scorer: Callable[..., float] = gym.get_score_answer_fn(task)
    names: set[str] = set()
    for cls in known[task][0].__mro__:
        for member in vars(cls).values():
            names.update(getattr(getattr(member, "__func__", member), "__code__", _decide.__code__).co_names)
    return scorer, frozenset(names & {"eval", "exec", *_SYMPY})


def _is_safe(text: str, evaluators: frozenset[str]) -> bool:
    """Whether evaluating the text as an expression can call nothing but functions of mathematics. Without "(" there is
    no call; with it, every name must be known and stand apart from quoted strings. SymPy evaluates strings that it
    meets in an expression once more, so for it there are no quotes at all."""
    if "__" in text or (evaluators & _SYMPY and ("'" in text or '"' in text)):
        return False
    if "(" not in text:
        return True
    rest = _QUOTED.sub(" ", text)
    names = set(re.findall(r"[^\W\d]\w*", rest))
    if "'" in rest or '"' in rest or (names and rest != text) or _ATTRIBUTE.search(rest):
        return False
    return all(name in _SAFE_NAMES or len(name) == 1 for name in names)


_pool: DeadlinePool[Verdict] = DeadlinePool(_decide, warm=_load, size=1)
