"""Before a judge is asked: what it is shown of a row, and what needs no asking.

Model-based judges can be talked into accepting nothing at all: a colon or an opening phrase is enough for many of them
("One Token to Fool LLM-as-a-Judge", arXiv 2507.08794). So a response without substance never reaches one:

- `empty`: blank, or blank after the thinking;
- `unfinished`: cut off inside the thinking, or stopped by the token limit;
- `degenerate`: no letter and no digit, or one piece repeated from end to end. A response that equals the reference is
  never degenerate, since some right answers look like that (the empty set, 1111111111111111).

Of a response that passes only the answer part is shown, unless the thinking is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from factory.engine.errors import OpError
from factory.engine.prompts import column_text
from factory.engine.text import split_response
from factory.verifiers.extraction import locate, take_gold
from factory.verifiers.verdict import Verdict

Form = Literal["r1", "answers"]
Policy = Literal["always", "undecided", "refused"]

LONGEST_ANSWER = 1000
"""The form `answers` shows this many last characters of an answer that is prose."""
_LOOP_TIMES, _LOOP_CHARS = 8, 16


@dataclass(frozen=True, slots=True)
class Case:
    """One row for the judge: the texts that it is shown, or the `verdict` that stands without asking it."""

    question: str = ""
    reference: str = ""
    shown: str = ""
    verdict: Verdict | None = None


def open_case(question: Any, reference: Any, response: Any, form: Form = "r1", *, finish_reason: str | None = None,
              show_thinking: bool = False) -> Case:
    """Look at one row. Values that are not text (numbers, chats) are shown as JSON."""
    wanted, asked, said = (column_text(value) if value is not None else "" for value in (reference, question, response))
    if not wanted.strip():
        return Case(verdict=Verdict("undecided", "gold_missing", "the reference answer is blank"))
    fault = find_fault(said, finish_reason, like=wanted)
    if fault is not None:
        return Case(verdict=Verdict("incorrect", *fault, None, 0.0))
    if not asked.strip():
        return Case(verdict=Verdict("undecided", "question_missing", "the question is blank"))
    if form == "answers":
        return Case(asked, take_gold(wanted).text, _final(said))
    return Case(asked, wanted.strip(), said.strip() if show_thinking else shown_part(said))


def shown_part(response: str) -> str:
    """The answer part of a response; "" where there is none."""
    return (split_response(response).answer or "").strip()


def find_fault(response: str, finish_reason: str | None = None, like: str = "") -> tuple[str, str] | None:
    """Why a response is refused without asking (reason code, reason); None where a judge has to look at it. What is as
    plain as the reference `like` is not degenerate."""
    if not response.strip():
        return "empty", "the response is blank"
    part = split_response(response).answer
    if part is None:
        return "unfinished", "the response ends inside its thinking"
    if finish_reason == "length":
        return "unfinished", "the response was cut off by the token limit"
    if not part.strip():
        return "empty", "there is nothing after the thinking"
    text = " ".join(part.split())
    if text == " ".join(like.split()):
        return None
    if not any(sign.isalnum() for sign in text) and any(sign.isalnum() for sign in like or "x"):
        return "degenerate", f"the response has no letter and no digit: {text[:40]!r}"
    unit = repeated_unit(text)
    return None if unit is None else ("degenerate", f"the response only repeats {unit[:40]!r}")


def repeated_unit(text: str) -> str | None:
    """The piece that a text repeats from end to end, eight times or more; None for other texts and short ones. The last
    repetition may be cut short."""
    longest = (len(text) + 1) // _LOOP_TIMES
    if len(text) < _LOOP_CHARS or longest < 1:
        return None
    # A text with a period that short begins again, with its first eighth, at that period and nowhere before.
    period = text.find(text[:longest], 1, 2 * longest)
    return text[:period] if period > 0 and text[period:] == text[:-period] else None


def to_ask(batch: pl.DataFrame, policy: Policy) -> list[bool]:
    """Which rows the policy puts to the judge: all, those that no earlier verdict decides, or those that none of them
    calls correct.

    Raises:
        OpError: the policy looks at earlier verdicts and the step names none.
    """
    if policy == "always":
        return [True] * batch.height
    earlier = _earlier_labels(batch)
    if not earlier:
        raise OpError(f"ask: {policy} looks at earlier verdicts, and this step names none: add `verdicts: [step]` with "
                      "a verifier step over the same rows, or use ask: always")
    settled = {"correct"} if policy == "refused" else {"correct", "incorrect"}
    return [not any(label in settled for label in labels) for labels in zip(*earlier, strict=True)]


def _earlier_labels(batch: pl.DataFrame) -> list[Sequence[str | None]]:
    """The labels of each earlier step, by row; of steps without labels, what `passed` says."""
    found: list[Sequence[str | None]] = []
    for passed in (name for name in batch.columns if name.endswith(".passed")):
        label = f"{passed.removesuffix('.passed')}.label"
        known = [pl.col(label).cast(pl.String)] if label in batch.columns else []
        said = pl.when(pl.col(passed)).then(pl.lit("correct")).when(~pl.col(passed)).then(pl.lit("incorrect"))
        found.append(batch.select(said=pl.coalesce(*known, said)).get_column("said").to_list())
    return found


def _final(response: str) -> str:
    """The final answer as the extraction takes it; of prose its end, whatever number was picked from it."""
    found = locate(split_response(response).answer or "")
    return found.text if found.bare and not found.prose else (found.prose or found.text).strip()[-LONGEST_ANSWER:]
