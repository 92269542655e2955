r"""`verify.math`: is the final answer of a response equal to the reference answer?

The rule-based reward of DeepSeek-R1 for mathematics (R1 paper, section 2.2.2: a final answer in a fixed form, checked
by rule). Where the answer stands is decided by `factory.verifiers.extraction`; whether two answers are equal is decided
by Math-Verify (https://github.com/huggingface/Math-Verify), which reads LaTeX into SymPy. Around it stand four rules:

- **Three labels.** A reference that is blank, cannot be read, or is not equal to itself makes the verdict `undecided`
  (`gold_unparseable`), never `correct`. A readable reference and no answer, also a response that is cut off inside its
  thinking, is `incorrect` (`no_answer`); another answer is `incorrect` (`wrong_answer`).
- **The reference goes first.** Math-Verify is not symmetric: it simplifies assignments on the side of the reference.
- **Exact where exactness is free.** Two plain numbers are compared as decimals with no symbolic library: faster, and
  right for long integers, which Math-Verify compares by their leading digits. Answers that are words are compared
  as text: read as LaTeX, a word is a product of letters, and every anagram of it would be equal.
- **A hard deadline.** Math-Verify's own time limits are signals, which fail outside the main thread and cannot
  interrupt a long C call; they are off, and the comparison runs in a process that is killed when it overruns. That is
  a failure of the one row (`timeout`), not a verdict.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from typing import Any

import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, op
from factory.verifiers.deadline import CallFailed, DeadlineExceeded, DeadlineWorker, WorkerCrashed
from factory.verifiers.extraction import Taken, is_bare, locate, take_answer
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

LONGEST = 10_000
"""An answer of more characters, and of more than four times the reference's, is not read but wrong."""

_NUMBER = re.compile(r"([-+]?)((?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_THIN = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|,\\!|~)+(?=\d{3})")
_WORDS = re.compile(r"[A-Za-z][A-Za-z '’\-]*[A-Za-z]")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox|textit)\s*\{([^{}]*)\}")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?\s*(?:[ap]\.?m\.?)?", re.IGNORECASE)
_SYMBOLS = str.maketrans({"−": "-", "–": "-", "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "π": r"\pi ",
                          "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ",
                          "∩": r"\cap ", "∈": r"\in ", "°": r"^\circ ", "±": r"\pm "})


class MathParams(Params):
    """Columns and the deadline. `response` and `answer` name the columns of the response and the reference answer;
    `deadline` is seconds per row."""

    response: str = "response"
    answer: str = "answer"
    deadline: float = Field(5.0, gt=0, le=3600)


@op("verify.math", version=1, kind=Kind.SCORE, params=MathParams,
    columns=lambda params: (params.response, params.answer), out=VERDICT_OUT)
def verify_math(batch: pl.DataFrame, params: MathParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the final answer equals the reference answer: numbers exactly, all else by Math-Verify.

    Adds `extracted`, the answer as it was taken. `reason_code` is one of `equal`, `wrong_answer`, `no_answer`,
    `answer_too_long`, `gold_unparseable`; rows that hit the deadline fail with type `timeout`, rows whose worker died
    with type `crashed`.
    """
    pairs = batch.select(pl.col(params.response, params.answer).cast(pl.String)).iter_rows()
    verdicts = [check_math(response, gold, params.deadline) for response, gold in pairs]
    ctx.count("timeouts", sum(verdict.reason_code == "timeout" for verdict in verdicts))
    return frame(verdicts)


def check_math(response: str | None, gold: str | None, seconds: float = 5.0) -> Verdict:
    """The verdict on one response. `seconds` bounds the comparison; see `verify_math` for the reason codes."""
    reference = read_gold(gold)
    if reference is None:
        return Verdict("undecided", "gold_unparseable", "the reference answer is blank")
    taken = take_answer(response or "")
    exact = _compare_numbers(reference, taken) if taken is not None else None
    if exact is not None:
        return exact
    if taken is not None and len(taken.text) > max(LONGEST, 4 * len(reference.text)):
        taken_length = len(taken.text)
        return Verdict("incorrect", "answer_too_long", f"the answer has {taken_length} characters", taken.text)
    try:
        return _worker.call((reference, taken), seconds)
    except DeadlineExceeded:
        return Verdict("undecided", "timeout", f"the comparison took longer than {seconds:g} s", transient=True)
    except (WorkerCrashed, CallFailed) as error:
        return Verdict("undecided", "crashed", str(error), transient=True)


def read_gold(gold: str | None) -> Taken | None:
    """The reference answer within its text (a box, after `####`, or all of it); None when it is blank."""
    if gold is None or not gold.strip():
        return None
    found = locate(gold)
    return found if found.bare else Taken(gold.strip(), is_bare(gold.strip()))


def as_number(text: str) -> tuple[Decimal, bool] | None:
    """A plain decimal number and whether it is a percentage; None for everything else."""
    text = _THIN.sub("", text.strip().strip("$").removeprefix("\\").removeprefix("$").strip().replace("−", "-"))
    percent = text.endswith("%")
    match = _NUMBER.fullmatch(text.rstrip("%").removesuffix("\\").rstrip().removesuffix("."))
    if match is None or len(text) > 400:
        return None
    return Decimal(match[1] + match[2].replace(",", "")), percent


def _compare_numbers(reference: Taken, taken: Taken) -> Verdict | None:
    """Decide where both are plain numbers and decimals are enough. Unequal fractions are left to Math-Verify, which
    allows for rounding in the last places; so are numbers of which one is a percentage."""
    wanted, got = as_number(reference.text), as_number(taken.text)
    if wanted is None or got is None or wanted[1] != got[1]:
        return None
    if wanted[0] == got[0]:
        return _equal(taken.text)
    if all(value == value.to_integral_value() for value in (wanted[0], got[0])):
        return _wrong(reference.text, taken.text)
    return None


def _equal(extracted: str) -> Verdict:
    return Verdict("correct", "equal", "the answer equals the reference answer", extracted, 1.0)


def _wrong(reference: str, extracted: str | None) -> Verdict:
    return Verdict("incorrect", "wrong_answer", f"the answer {_brief(extracted or '')} is not equal to the reference "
                   f"answer {_brief(reference)}", extracted, 0.0)


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


# ---- below: what runs in the worker process ----------------------------------------------------------------------


def _load() -> None:
    import logging

    # Math-Verify warns that its time limits are off; they are off on purpose.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    _equals(_parse(Taken("x", True)), _parse(Taken("1/2", True)))


def _decide(reference: Taken, taken: Taken | None) -> Verdict:
    words = _as_words(reference.text)
    gold = [] if words is not None else _parse_gold(reference)
    if words is None and not gold:
        return Verdict("undecided", "gold_unparseable", f"the reference answer {_brief(reference.text)} cannot be read")
    if taken is None:
        return Verdict("incorrect", "no_answer", "the response has no answer part", None, 0.0)
    if words is not None:
        plain = taken.text.removeprefix("answer is ") if not taken.bare else taken.text
        return _equal(plain) if _as_words(plain) == words else _wrong(words, plain)
    if taken.bare and reference.bare and taken.text == reference.text:
        return _equal(taken.text)
    answer = _parse(taken)
    if not answer:
        return Verdict("incorrect", "no_answer", "the answer part holds no answer that can be read",
                       taken.text if taken.bare else None, 0.0)
    extracted = taken.text if taken.bare else next((str(e) for e in answer if isinstance(e, str)), taken.text)
    return _equal(extracted) if _equals(gold, answer) else _wrong(reference.text, extracted)


@functools.lru_cache(maxsize=256)
def _parse_gold(reference: Taken) -> list[Any]:
    """The reference as Math-Verify reads it; empty unless it is an expression with a value and equal to itself."""
    from sympy import Basic, nan, zoo  # type: ignore[import-untyped]

    gold = _parse(reference)
    expressions = [item for item in gold if not isinstance(item, str)]
    if not expressions or any(isinstance(item, Basic) and item.has(zoo, nan) for item in expressions):
        return []
    return gold if _equals(expressions, expressions) else []


def _parse(taken: Taken) -> list[Any]:
    from math_verify import parse

    number = as_number(taken.text)
    text = _normalise(taken.text) if number is None else f"{number[0]:f}" + ("\\%" if number[1] else "")
    if taken.bare or number is not None:
        # In a box, LaTeX conventions hold and a trailing unit is dropped; a box is the form least often misread.
        found = parse(f"\\boxed{{{text}}}", parsing_timeout=None)
        if any(not isinstance(item, str) for item in found):
            return list(found)
    return list(parse(text, parsing_timeout=None))


def _equals(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, timeout_seconds=None))


def _as_words(text: str) -> str | None:
    """Answers that are text and not mathematics, in one form: "Monday", "no solution", a time of day. Words of up to
    three letters without a text command are read as mathematics (`xyz` is a product)."""
    plain = _TEXT.sub(r"\1", text.strip().strip("$*").strip()).strip().rstrip(".").strip("\"'()[]")
    if _CLOCK.fullmatch(plain):
        return re.sub(r"[\s.]", "", plain).lower().removeprefix("0")
    if not _WORDS.fullmatch(plain) or not re.search(r"[A-Za-z]{4}", plain):
        return None if plain == text or not _WORDS.fullmatch(plain) or len(plain) < 2 else plain.lower()
    return " ".join(plain.lower().split())


def _normalise(text: str) -> str:
    """Put spellings that Math-Verify misreads into LaTeX: Unicode signs, programmers' powers and roots, thousands."""
    text = text.translate(_SYMBOLS).replace("\\$", "")
    if "\\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z(\[{])", r"\\", text)
    text = _THIN.sub("", text)
    text = re.sub(r"^\s*(-?\d[\d./]*)\s*=\s*([A-Za-z])\s*$", r"\2=\1", text)
    text = re.sub(r"(^|=)\s*\+(?=\d)", r"\1", text)
    text = _regroup(text.replace("**", "^"), re.compile(r"(?<![\\A-Za-z])sqrt\s*\(|√\("), r"\sqrt{", "}")
    text = _regroup(text, re.compile(r"\^\("), "^{", "}")
    text = re.sub(r"√(\d+|[A-Za-z])", r"\\sqrt{\1}", text)
    if not re.search(r"[\[({]|,\s", text):
        text = _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text)
    return text


def _regroup(text: str, opening: re.Pattern[str], left: str, right: str) -> str:
    """Replace the parentheses that begin with `opening` by other brackets, innermost last."""
    pieces: list[str] = []
    closers: list[str] = []
    at = 0
    while at < len(text):
        match = opening.match(text, at)
        if match:
            pieces.append(left)
            closers.append(right)
            at = match.end()
            continue
        sign = text[at]
        if sign == "(":
            closers.append(")")
        elif sign == ")" and closers:
            sign = closers.pop()
        pieces.append(sign)
        at += 1
    return "".join(pieces) if not closers else text


_worker: DeadlineWorker[Verdict] = DeadlineWorker(_decide, warm=_load)
