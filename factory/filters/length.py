"""filter.length: how long a response is, and whether its writer was cut off.

Characters are Unicode code points of the text without the white space around it; words as in `filters.masking`.
The default rule compares the whole response with the bounds of the params, shortest first. A response whose
`finish_reason` is `length` was cut off by the token limit; it passes unless `allow_truncated` is false.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, op
from factory.engine.text import split_response
from factory.filters.masking import count_words, read_texts

_OUT: dict[str, pl.DataType] = {
    "chars": pl.Int64(), "words": pl.Int64(), "thinking_chars": pl.Int64(), "answer_chars": pl.Int64(),
    "truncated": pl.Boolean(),
}


class LengthParams(Params):
    """Bounds are inclusive; None is no bound. `finish_reason` names the column that says how generation ended."""

    text: str = "response"
    min_chars: int = Field(default=1, ge=0)
    max_chars: int | None = Field(default=100_000, ge=0)
    min_words: int | None = Field(default=None, ge=0)
    max_words: int | None = Field(default=None, ge=0)
    finish_reason: str | None = None
    allow_truncated: bool = True

    @model_validator(mode="after")
    def _check_bounds(self) -> LengthParams:
        for unit, low, high in (("chars", self.min_chars, self.max_chars), ("words", self.min_words, self.max_words)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is above max_{unit} {high}: no response could pass; swap them")
        if not self.allow_truncated and self.finish_reason is None:
            raise ValueError("allow_truncated: false needs `finish_reason`, the name of the column that tells")
        return self


def _judge(chars: int, words: int, truncated: bool | None, params: LengthParams) -> tuple[bool, str | None, str]:
    for unit, value, low, high in (("characters", chars, params.min_chars, params.max_chars),
                                   ("words", words, params.min_words, params.max_words)):
        if low is not None and value < low:
            return False, "too_short", f"{value} {unit}, at least {low} wanted"
        if high is not None and value > high:
            return False, "too_long", f"{value} {unit}, at most {high} wanted"
    if truncated and not params.allow_truncated:
        return False, "truncated", f"finish_reason is length after {chars} characters"
    return True, None, f"{chars} characters, {words} words"


def _columns(params: LengthParams) -> tuple[str, ...]:
    return (params.text, *([params.finish_reason] if params.finish_reason else []))


@op("filter.length", version=2, kind=Kind.SCORE, params=LengthParams, columns=_columns, out=_OUT)
def length(batch: pl.DataFrame, params: LengthParams, ctx: OpContext) -> pl.DataFrame:
    """Measure a response's length in characters and words.

    Columns: `chars`, `words`, `thinking_chars` and `answer_chars` (null where the response has no such part),
    `truncated` (null where no finish reason is known). `score` is `chars`. Reason codes: `too_short`, `too_long`,
    `truncated`, `no_text` (null text: undecided).

    Raises:
        DataError: the column does not hold text.
    """
    ends = batch[params.finish_reason].to_list() if params.finish_reason else [None] * batch.height
    rows: list[tuple[Any, ...]] = []
    for text, end in zip(read_texts(batch, params.text), ends, strict=True):
        if text is None:
            rows.append((None, None, None, "no_text", f"{params.text} is null", *[None] * len(_OUT)))
            continue
        parts = split_response(text)
        thinking, answer = (None if part is None else len(part.strip()) for part in parts[:2])
        chars, words, truncated = len(text.strip()), count_words(text), None if end is None else end == "length"
        passed, code, reason = _judge(chars, words, truncated, params)
        rows.append((passed, None, float(chars), code, reason, chars, words, thinking, answer, truncated))
    return pl.DataFrame(rows, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
