"""A model and ops that fail when the environment variable MOODS says so: `step digit, …`.

A step fails on the values that end in the digit it is listed with: answer keys of the model, word counts of the score,
first letters of the map.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import polars as pl

from factory.engine.op import Kind, NoParams, OpContext, Params, Selection, op
from factory.models.base import Backend, Completion, Request
from factory.models.open import backend
from factory.models.replay import open_replay
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel

MOOD = "moody: not today"


def _fails(step: str, value: str) -> bool:
    return f"{step} {value}" in os.environ.get("MOODS", "").split(",")


class Moody:
    """The replay backend in a mood."""

    def __init__(self, inner: Backend):
        self._inner = inner

    def stop(self) -> None:
        """Nothing waits here."""

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """What the replay backend answers, or an error."""
        for completion in self._inner.generate(requests):
            bad = _fails("samples", str(int(completion.key[-4:], 16) % 10))
            yield Completion(completion.key, error=MOOD) if bad else completion

    def close(self) -> None:
        """Close the inner one."""
        self._inner.close()


@backend("moody")
def open_moody(model: ResolvedModel, runtime: ModelRuntime) -> Moody:
    """A moody replay backend."""
    return Moody(open_replay(model, runtime))


@op("moody.words", version=1, kind=Kind.SCORE, columns=["response"], out={"words": pl.Int64()})
def words(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Count words; what has more than 15 is refused."""
    counted = batch["response"].str.split(" ").list.len().cast(pl.Int64)
    failed = pl.Series([MOOD if _fails("words", str(count % 10)) else None for count in counted], dtype=pl.String)
    return pl.DataFrame({"passed": counted <= 15, "words": counted, "_failed": failed})


@op("moody.mark", version=1, kind=Kind.MAP, columns=["response"], out={"mark": pl.String()})
def mark(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Take the first letter; texts that begin with a digit are refused."""
    marks = batch["response"].str.slice(0, 1).to_list()
    return pl.DataFrame({
        "mark": pl.Series(marks, dtype=pl.String),
        "_rejected": pl.Series(["digit: begins with a digit" if m.isdigit() else None for m in marks], dtype=pl.String),
        "_failed": pl.Series([MOOD if _fails("marked", m) else None for m in marks], dtype=pl.String)})


class SkipParams(Params):
    """How many of the oldest rows to leave out."""

    rows: int


@op("moody.skip", version=1, kind=Kind.SELECT, params=SkipParams)
def skip(rows: pl.DataFrame, params: SkipParams, ctx: OpContext) -> Selection:
    """Leave out the oldest rows."""
    ordered = rows.sort("row_id")
    refused = ordered.head(params.rows).select("row_id", reason_code=pl.lit("skipped"))
    return Selection(ordered.slice(params.rows).select("row_id", weight=pl.lit(1, pl.Int32)), refused)
