"""What the measuring filters share: a text column as compiled scans read it, and score tables made of flat columns.

A filter measures a whole batch at once and gets one array per column. Then its rules are asked in order, each with the
rows that break it: the first one gives a row its reason (`Verdicts`). Only refused rows are looked at one by one.

In an array of integers a negative value means that there is none (a part that is missing, evidence without a place), in
one of floats NaN does; both become null. A row whose text is null has nothing but the verdict `no_text`, undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.engine.errors import DataError
from factory.engine.op import SCORE_SCHEMA

if TYPE_CHECKING:
    from factory.filters.measure.parts import Parts, Spans

Flags = npt.NDArray[np.bool_]
Column = npt.NDArray[Any] | pl.Series
MOST_REASON = 120
PLACES = ("in the thinking", "in the answer")


def read_column(batch: pl.DataFrame, column: str) -> pl.Series:
    """A text column; one without any text at all is as one of nulls.

    Raises:
        DataError: the column does not hold text.
    """
    texts = batch[column]
    if texts.dtype not in (pl.String, pl.Null):
        raise DataError(f"column {column!r} has type {texts.dtype}, a filter measures text: "
                        "name a text column with the param that names it")
    return texts.cast(pl.String)


def split_column(texts: pl.Series) -> Parts:
    """Thinking and answer of every row."""
    from factory.filters.measure.parts import split_rows
    from factory.text.buffers import text_buffers

    return split_rows(text_buffers(texts))


def sides(parts: Parts) -> tuple[tuple[str, Spans], tuple[str, Spans]]:
    """The two parts under the names that end their columns."""
    return ("thinking", parts.thinking), ("answer", parts.answer)


def snippet(text: str, at: int, end: int, most: int = 60) -> str:
    """Quoted evidence, cut to `most` characters."""
    return repr(text[at:min(end, at + most)])


class Verdicts:
    """Which rows the default rule refuses, why first."""

    def __init__(self, rows: int) -> None:
        self.passed: Flags = np.ones(rows, np.bool_)
        self.codes: list[str | None] = [None] * rows
        self.reasons: list[str | None] = [None] * rows

    def refuse(self, broken: npt.NDArray[Any], code: str, tell: Callable[[int], str]) -> None:
        """Refuse the rows that break a rule and none before it; `tell` words the reason of a row."""
        for row in np.flatnonzero(broken & self.passed).tolist():
            self.codes[row], self.reasons[row] = code, tell(row)[:MOST_REASON]
        self.passed &= ~broken


def _series(name: str, values: Column, dtype: pl.DataType) -> pl.Series:
    if isinstance(values, pl.Series):
        return values.alias(name).cast(dtype)
    series = pl.Series(name, np.ascontiguousarray(values))
    if values.dtype.kind == "f":
        series = series.fill_nan(None)
    elif values.dtype.kind == "i":
        series = series.to_frame().select(pl.when(pl.col(name) >= 0).then(pl.col(name))).to_series()
    return series.cast(dtype)


def score_table(texts: pl.Series, column: str, verdicts: Verdicts, said: Column, score: Column,
                columns: Mapping[str, Column], out: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The score table of a batch: `said` is the reason of rows that pass, `columns` are the measurements of `out`."""
    passed = pl.Series(verdicts.passed)
    reason = pl.Series(verdicts.reasons, dtype=pl.String).fill_null(pl.Series(said, dtype=pl.String))
    standard: dict[str, Column] = {
        "passed": passed, "label": pl.Series([None] * len(passed), dtype=pl.String), "score": score,
        "reason_code": pl.Series(verdicts.codes, dtype=pl.String), "reason": reason}
    schema = {**SCORE_SCHEMA, **out}
    frame = pl.DataFrame([_series(name, {**standard, **columns}[name], dtype) for name, dtype in schema.items()])
    if not texts.null_count():
        return frame
    nothing = {"reason_code": "no_text", "reason": f"{column} is null"}
    return frame.select(pl.when(texts.is_not_null()).then(pl.col(name)).otherwise(pl.lit(nothing.get(name)))
                        .cast(dtype).alias(name) for name, dtype in schema.items())
