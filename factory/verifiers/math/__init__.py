r"""`verify.math`: is the final answer of a response equal to the reference answer?

The rule-based reward of DeepSeek-R1 for mathematics (R1 paper, section 2.2.2: a final answer in a fixed form, checked
by rule). Where the answer stands is decided by `factory.verifiers.extraction`; whether two answers are equal in two
steps:

1. **In this process**, where it is certain (`math.values`, `math.same`): numbers, fractions, percentages, units, words,
   options, tuples, intervals, sets, ±, matrices and named values are compared exactly, with no symbolic library;
   expressions that differ in value at a point are different (`math.probe`). It is faster, and right where Math-Verify
   is not: for long integers, tiny decimals, anagrams of words, expressions of which it understands a part.
2. **In a worker process**, everything else: Math-Verify (https://github.com/huggingface/Math-Verify) reads LaTeX into
   SymPy and compares (`math.symbolic`).

Five rules stand around it:

- **Three labels.** A reference that is blank, cannot be read or is not equal to itself makes the verdict `undecided`,
  never `correct`; of one that is well formed but beyond the symbolic library only the same text is `correct`. A
  readable reference and no answer, also a response that is cut off inside its thinking, is `incorrect`.
- **The reference goes first.** Math-Verify is not symmetric: it simplifies assignments on the side of the reference.
- **Several finals.** Different boxes are compared with the reference as one set; if that fails, all of them must be
  equal to it. One of them is not enough.
- **One answer only.** A text that says several values, bounds one or denies it (`5 \approx 6`, `(A)(B)`, `at most 5`)
  equals the same text and nothing else (`math.hedges`).
- **A hard deadline.** Math-Verify's own time limits are signals, which fail outside the main thread and cannot
  interrupt a long C call; they are off, and the comparison runs in a process that is killed when it overruns. That is
  a failure of the one row (`timeout`), not a verdict: its neighbours are compared by other processes meanwhile.

Version 2: readings in process, sets of boxes, rounded decimals, Chinese and JSON answers, prose by rule.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import polars as pl
from pydantic import Field

from factory.engine.errors import FactoryError
from factory.engine.op import Kind, OpContext, Params, Trial, op
from factory.verifiers.deadline import DeadlineExceeded
from factory.verifiers.deadline_pool import DeadlinePool
from factory.verifiers.extraction import Taken, answer_part, take_answer, take_gold
from factory.verifiers.math.quick import Task, quick
from factory.verifiers.math.symbolic import Outcome, load, timed_decision
from factory.verifiers.verdict import VERDICT_OUT, Label, Verdict, frame

LONGEST = 10_000
"""An answer of more characters, and of more than four times the reference's, is not read but wrong; a reference of more
is not read."""
CACHED = 50_000
_CACHED_LENGTH = 500

_LABELS: dict[Outcome, tuple[Label, str]] = {
    "equal": ("correct", "equal"), "different": ("incorrect", "wrong_answer"), "unread": ("incorrect", "no_answer"),
    "gold_unparseable": ("undecided", "gold_unparseable"),
    "gold_unequal_to_itself": ("undecided", "gold_unequal_to_itself"),
}
_TRIALS = (("42", "-42"), (r"\frac{3}{4}", r"\frac{4}{3}"), ("1,234.5", "1,234.6"), (r"35\%", r"36\%"),
           ("(1,2)", "(2,1)"), ("[0,1)", "[0,1]"), (r"\{1,2,3\}", r"\{1,2,4\}"), (r"\text{Monday}", r"\text{Sunday}"),
           ("C", "D"), ("x^2+2x+1", "x^2+2x-1"), (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt{2}}{3}"))


class MathParams(Params):
    """Columns and the deadline. `response` and `answer` name the columns of the response and the reference answer;
    `deadline` is seconds per row."""

    response: str = "response"
    answer: str = "answer"
    deadline: float = Field(5.0, gt=0, le=3600)


def math_trials(params: MathParams) -> list[Trial]:
    """References that must be accepted in a box and refused for a changed one, by both steps of the comparison."""
    def said(text: str, gold: str) -> dict[str, str]:
        return {params.response: rf"<think>\boxed{{0}}</think>So \boxed{{{text}}}.", params.answer: gold}

    return [trial for gold, other in _TRIALS
            for trial in (Trial(said(gold, gold), "correct"), Trial(said(other, gold), "incorrect"))]


@op("verify.math", version=2, kind=Kind.SCORE, params=MathParams,
    columns=lambda params: (params.response, params.answer), out=VERDICT_OUT, trials=math_trials,
    code=tuple(f"factory.verifiers.{name}" for name in (
        "extraction", "spelling", "math.units", "math.chinese", "math.numbers", "math.probe", "math.hedges",
        "math.values", "math.same", "math.quick", "math.symbolic")))
def verify_math(batch: pl.DataFrame, params: MathParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the final answer equals the reference answer: exactly where certain, else by Math-Verify.

    Adds `extracted`, the answer as it was taken. `reason_code` is one of `equal`, `wrong_answer`,
    `contradicting_answers`, `no_answer`, `answer_too_long`, `gold_unparseable`, `gold_unequal_to_itself`; rows that hit
    the deadline fail with type `timeout`, rows whose worker died with type `crashed`.
    """
    pairs = list(batch.select(pl.col(params.response, params.answer).cast(pl.String)).iter_rows())
    verdicts = check_many(pairs, params.deadline)
    ctx.count("timeouts", sum(verdict.reason_code == "timeout" for verdict in verdicts))
    return frame(verdicts)


def check_math(response: str | None, gold: str | None, seconds: float = 5.0) -> Verdict:
    """The verdict on one response. `seconds` bounds the comparison; see `verify_math` for the reason codes."""
    return check_many([(response, gold)], seconds)[0]


def check_many(pairs: Sequence[tuple[str | None, str | None]], seconds: float = 5.0) -> list[Verdict]:
    """The verdicts on many (response, reference) pairs, in order. Equal comparisons are made once; those that need
    Math-Verify are spread over the worker processes, each under the deadline of `seconds`."""
    verdicts: list[Verdict | None] = []
    open_rows: dict[Task, list[tuple[int, Taken | None, Taken]]] = {}
    for index, (response, gold) in enumerate(pairs):
        started = time.perf_counter()
        found = _first_step(response, gold)
        if isinstance(found, Verdict):
            verdicts.append(replace(found, seconds=time.perf_counter() - started))
        else:
            task, taken, reference = found
            verdicts.append(None)
            open_rows.setdefault(task, []).append((index, taken, reference))
    for task, result in zip(open_rows, _pool.map(list(open_rows), seconds), strict=True):
        for index, taken, reference in open_rows[task]:
            verdicts[index] = _second_step(result, task, taken, reference)
    return [verdict for verdict in verdicts if verdict is not None]


def _first_step(response: str | None, gold: str | None) -> Verdict | tuple[Task, Taken | None, Taken]:
    """A verdict, or the comparison that is left for a worker."""
    if gold is None or not gold.strip():
        return Verdict("undecided", "gold_unparseable", "the reference answer is blank")
    reference = take_gold(gold)
    if len(reference.text) > LONGEST:
        return Verdict("undecided", "gold_unparseable", f"the reference answer has {len(reference.text)} characters")
    answer = answer_part(response or "")
    again = answer == gold.strip() and (response or "").count("<answer>") < 2
    taken = reference if again else take_answer(response or "") if answer else None
    if taken is not None and len(taken.text) > max(LONGEST, 4 * len(reference.text)):
        return Verdict("incorrect", "answer_too_long", f"the answer has {len(taken.text)} characters", taken.text)
    outcome, task = quick(reference, taken)
    if outcome is None:
        outcome = _known.get(task)
    return (task, taken, reference) if outcome is None else _verdict(outcome, taken, reference)


def _second_step(result: tuple[Outcome, float] | FactoryError, task: Task, taken: Taken | None,
                 reference: Taken) -> Verdict:
    if isinstance(result, DeadlineExceeded):
        return Verdict("undecided", "timeout", f"the comparison gave {result}", transient=True)
    if isinstance(result, FactoryError):
        return Verdict("undecided", "crashed", str(result), transient=True)
    outcome, seconds = result
    _known.put(task, outcome)
    return replace(_verdict(outcome, taken, reference), seconds=seconds)


def _verdict(outcome: Outcome, taken: Taken | None, reference: Taken) -> Verdict:
    label, code = _LABELS[outcome]
    extracted = taken.text if taken is not None and (taken.bare or outcome != "unread") else None
    if outcome == "equal" and taken is not None:
        return Verdict(label, code, "the answer equals the reference answer", extracted, 1.0)
    if outcome.startswith("gold"):
        fault = "cannot be read" if outcome == "gold_unparseable" else "is not equal to itself"
        return Verdict(label, code, f"the reference answer {_brief(reference.text)} {fault}")
    if taken is None or outcome == "unread":
        why = "the response has no answer part" if taken is None else "the answer part holds no answer that can be read"
        return Verdict("incorrect", "no_answer", why, extracted, 0.0)
    if taken.finals:
        return Verdict(label, "contradicting_answers", f"{len(taken.finals)} different final answers are not the "
                       f"reference answer {_brief(reference.text)}", extracted, 0.0)
    return Verdict(label, code, f"the answer {_brief(taken.text)} is not equal to the reference answer "
                   f"{_brief(reference.text)}", extracted, 0.0)


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


class _Known:
    """What workers found, by comparison: bounded, the longest unused go first."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[Task, Outcome] = OrderedDict()

    def get(self, task: Task) -> Outcome | None:
        outcome = self._outcomes.get(task)
        if outcome is not None:
            self._outcomes.move_to_end(task)
        return outcome

    def put(self, task: Task, outcome: Outcome) -> None:
        if len(task[0]) + sum(map(len, task[2])) > _CACHED_LENGTH:
            return
        self._outcomes[task] = outcome
        while len(self._outcomes) > CACHED:
            self._outcomes.popitem(last=False)

    def clear(self) -> None:
        self._outcomes.clear()


_known = _Known()


_pool: DeadlinePool[tuple[Outcome, float]] = DeadlinePool(timed_decision, warm=load)
