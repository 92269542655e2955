"""filter.length: how long a response is, and whether its writer was cut off.

Characters are Unicode code points of the text without the white space around it; a word is a run of letters, digits,
underscores and combining marks, or one character of a script written without spaces; tokens are those of a named
tokenizer, of thinking and answer without the tags around them. The default rule compares the response, and its thinking
and answer apart, with the bounds of the params; a row whose domain has a band of its own is held to that band's bounds,
and to the params' where the band says nothing. A part that is missing has length 0. A response whose
`finish_reason` is `length` was cut off by the token limit; it passes unless `allow_truncated` is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import Kind, OpContext, Params, PlanContext, op
from factory.filters.measured import Column, Flags, Verdicts, read_column, score_table, sides, split_column
from factory.filters.tokenizer import TokenizerSpec, identify, open_tokenizer
from factory.filters.tokens import count_tokens

if TYPE_CHECKING:
    from factory.filters.measure.parts import Spans

_UNITS = {"chars": "characters", "words": "words", "tokens": "tokens"}
_OUT: dict[str, pl.DataType] = {
    "chars": pl.Int64(), "words": pl.Int64(), "chars_thinking": pl.Int64(), "chars_answer": pl.Int64(),
    "words_thinking": pl.Int64(), "words_answer": pl.Int64(), "truncated": pl.Boolean(),
    "thinking_chars": pl.Int64(), "answer_chars": pl.Int64(),
}
_TOKENS: dict[str, pl.DataType] = {"tokens": pl.Int64(), "tokens_thinking": pl.Int64(), "tokens_answer": pl.Int64()}


class Bounds(Params):
    """Inclusive bounds of one text; None is no bound."""

    min_chars: int | None = Field(default=None, ge=0)
    max_chars: int | None = Field(default=None, ge=0)
    min_words: int | None = Field(default=None, ge=0)
    max_words: int | None = Field(default=None, ge=0)
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_bounds(self) -> Bounds:
        for unit in _UNITS:
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is above max_{unit} {high}: no response could pass; swap them")
        return self

    def counts_tokens(self) -> bool:
        """Whether a bound of it is one of tokens."""
        return self.min_tokens is not None or self.max_tokens is not None


class Band(Bounds):
    """Bounds of a response, and of its parts."""

    thinking: Bounds = Bounds()
    answer: Bounds = Bounds()

    def parts(self) -> tuple[tuple[str, Bounds], ...]:
        """The bounds by the ending of the columns they hold for."""
        return ("", self), ("_thinking", self.thinking), ("_answer", self.answer)


class LengthParams(Band):
    """Bounds for all rows, and `bands` by the value of `domain_column`. `finish_reason` names the column that says how
    generation ended; `tokenizer` counts tokens (slow: some 1 to 3 MB/s)."""

    text: str = "response"
    min_chars: int | None = Field(default=1, ge=0)
    max_chars: int | None = Field(default=100_000, ge=0)
    finish_reason: str | None = None
    allow_truncated: bool = True
    tokenizer: TokenizerSpec | None = None
    domain_column: str | None = None
    bands: dict[str, Band] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_columns(self) -> LengthParams:
        if not self.allow_truncated and self.finish_reason is None:
            raise ValueError("allow_truncated: false needs `finish_reason`, the name of the column that tells")
        if bool(self.bands) != (self.domain_column is not None):
            raise ValueError("`bands` and `domain_column` belong together: the column says which band a row is in")
        counted = any(bounds.counts_tokens() for band in (self, *self.bands.values()) for _, bounds in band.parts())
        if counted and self.tokenizer is None:
            raise ValueError("bounds of tokens need `tokenizer`, the one that counts them")
        return self


def _columns(params: LengthParams) -> tuple[str, ...]:
    return (params.text, *(name for name in (params.finish_reason, params.domain_column) if name))


def _out(params: LengthParams) -> dict[str, pl.DataType]:
    return _OUT if params.tokenizer is None else {**_OUT, **_TOKENS}


def _identity(params: LengthParams, plan: PlanContext) -> dict[str, Any] | None:
    return None if params.tokenizer is None else identify(params.tokenizer, Path(plan.base_dir))


def _texts(spans: Spans) -> list[str]:
    """The texts of a part without the white space around them, "" where there is none."""
    return [spans.data[at:end].tobytes().decode().strip() if at >= 0 else ""
            for at, end in zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)]


def _measure(texts: pl.Series, params: LengthParams, identity: dict[str, Any] | None) -> dict[str, Any]:
    from factory.filters.measure.length import LENGTH, measure_length

    parts = split_column(texts)
    columns: dict[str, Any] = dict(zip(LENGTH, measure_length(parts.whole).T, strict=True))
    for side, spans in sides(parts):
        columns |= zip((f"{name}_{side}" for name in LENGTH), measure_length(spans).T, strict=True)
        if params.tokenizer is not None:
            counted = count_tokens(_texts(spans), open_tokenizer(params.tokenizer, identity))
            columns[f"tokens_{side}"] = np.where(spans.there, counted, -1)
    if params.tokenizer is not None:
        columns["tokens"] = sum(np.maximum(columns[f"tokens_{side}"], 0) for side, _ in sides(parts))
    return {**columns, "thinking_chars": columns["chars_thinking"], "answer_chars": columns["chars_answer"]}


def _bands(batch: pl.DataFrame, params: LengthParams) -> Iterator[tuple[Flags, Band, str]]:
    """The rows of each band, its bounds, and how a reason names it."""
    if params.domain_column is None:
        yield np.ones(batch.height, np.bool_), params, ""
        return
    domains = batch[params.domain_column].cast(pl.String)
    named = domains.is_in(list(params.bands)).fill_null(False)
    yield ~named.to_numpy(), params, ""
    for domain, band in params.bands.items():
        yield (domains == domain).fill_null(False).to_numpy(), _merge(params, band), f" for {domain}"


def _merge(general: Band, band: Band) -> Band:
    """The band's bounds, and the general ones where it has none."""
    def both(one: Bounds, other: Bounds) -> dict[str, Any]:
        return {name: getattr(one if getattr(other, name) is None else other, name) for name in Bounds.model_fields}

    return Band.model_construct(**both(general, band),
                                thinking=Bounds.model_construct(**both(general.thinking, band.thinking)),
                                answer=Bounds.model_construct(**both(general.answer, band.answer)))


def _hold(verdicts: Verdicts, rows: Flags, band: Band, columns: Mapping[str, Any], told: str) -> None:
    """Refuse the rows outside a band."""
    for part, bounds in band.parts():
        where = f" in the {part[1:]}" if part else ""
        for unit, name in _UNITS.items():
            for limit, code, word in ((getattr(bounds, f"min_{unit}"), "too_short", "least"),
                                      (getattr(bounds, f"max_{unit}"), "too_long", "most")):
                if limit is None:
                    continue
                values = np.maximum(columns[unit + part], 0)
                reason = f"{{}} {name}{where}, at {word} {limit} wanted{told}"
                broken = values < limit if word == "least" else values > limit
                verdicts.refuse(rows & broken, code, partial(_tell, reason, values))


def _tell(reason: str, values: Any, row: int) -> str:
    return reason.format(values[row])


# Version 3: measures words with underscores as one, thinking and answer apart, tokens, and bands by domain.
@op("filter.length", version=3, kind=Kind.SCORE, params=LengthParams, columns=_columns, out=_out, identity=_identity,
    code=("factory.filters.measured", "factory.filters.measure.length", "factory.filters.measure.parts",
          "factory.filters.tokens"))
def length(batch: pl.DataFrame, params: LengthParams, ctx: OpContext) -> pl.DataFrame:
    """Measure a response's length in characters, words and tokens.

    Columns: `chars`, `words` of the whole response; `chars_thinking`, `chars_answer`, `words_thinking`, `words_answer`
    (null where the response has no such part); with a tokenizer `tokens_thinking`, `tokens_answer` and `tokens`, their
    sum; `truncated` (null where no finish reason is known); `thinking_chars` and `answer_chars`, the older names of
    `chars_thinking` and `chars_answer`. `score` is `chars`. Reason codes: `too_short`, `too_long`, `truncated`,
    `no_text` (null text: undecided).

    Raises:
        DataError: the column does not hold text.
        ModelError: the tokenizer cannot be loaded.
    """
    texts = read_column(batch, params.text)
    columns = _measure(texts, params, ctx.identity)
    ends = batch[params.finish_reason] if params.finish_reason else pl.Series([None] * len(texts), dtype=pl.String)
    columns["truncated"] = ends == "length"
    verdicts = Verdicts(len(texts))
    for rows, band, told in _bands(batch, params):
        _hold(verdicts, rows, band, columns, told)
    if not params.allow_truncated:
        verdicts.refuse(columns["truncated"].fill_null(False).to_numpy(), "truncated",
                        lambda row: f"finish_reason is length after {columns['chars'][row]} characters")
    chars, words = pl.Series(columns["chars"]), pl.Series(columns["words"])
    said: Column = pl.select(pl.format("{} characters, {} words", chars, words)).to_series()
    return score_table(texts, params.text, verdicts, said, columns["chars"].astype(np.float64), columns, _out(params))
