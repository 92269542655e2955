"""What a verifier says of one response, and how its verdicts become a score table.

A verdict has three labels. `correct` and `incorrect` are decisions; `undecided` means that the verifier cannot know,
most often because the reference answer itself cannot be read, and it never counts as correct. A verdict that depended
on the clock (a time-out, a crashed worker) is *transient*: it would come out differently on another machine, so it is
never stored as a verdict but reported as a failure of that row, which a later run may try again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from factory.engine.op import SCORE_SCHEMA

Label = Literal["correct", "incorrect", "undecided"]

VERDICT_OUT: dict[str, pl.DataType] = {"extracted": pl.String()}
"""What verifiers add to `SCORE_SCHEMA`: the answer as it was taken from the response."""

_PASSED: dict[Label, bool | None] = {"correct": True, "incorrect": False, "undecided": None}
_EXTRACTED_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """One response's verdict. `reason_code` is a stable word to count by, `reason` a sentence for people, `extracted`
    the answer taken from the response (None: there was none), `score` the verifier's number where it has one.
    `seconds` is the time that was spent on it; no score table holds it, for equal verdicts must be equal rows."""

    label: Label
    reason_code: str
    reason: str
    extracted: str | None = None
    score: float | None = None
    transient: bool = False
    seconds: float = field(default=0.0, compare=False)


def frame(verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """Verdicts as the score table of a SCORE op, one row each, in order.

    Returns:
        The columns of `SCORE_SCHEMA` and `extracted` (cut after 1000 characters). If any verdict is transient there is
        also `_failed` ("reason_code: reason"), set on those rows only; all their other columns are null.
    """
    rows = [_row(verdict) for verdict in verdicts]
    table = pl.DataFrame(rows, schema={**SCORE_SCHEMA, **VERDICT_OUT, "_failed": pl.String()}, orient="row")
    return table if any(verdict.transient for verdict in verdicts) else table.drop("_failed")


def _row(verdict: Verdict) -> tuple[bool | str | float | None, ...]:
    if verdict.transient:
        return (None, None, None, None, None, None, f"{verdict.reason_code}: {verdict.reason}")
    extracted = None if verdict.extracted is None else verdict.extracted[:_EXTRACTED_LIMIT]
    return (_PASSED[verdict.label], verdict.label, verdict.score, verdict.reason_code, verdict.reason, extracted, None)
