"""Scores that ask a model, and what they are asked with: a plugin for the tests.

`ask.grade` counts votes that begin with "yes": none of a text with "skip", of the others `votes`. A null text asks
something that no model takes. TEST_FAULT breaks it: `canary` (the judge accepts one), `raise`, `drop` (a row too few),
`stray` (asks about a row that is not there), `twice` (the same question twice).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from factory.engine.errors import OpError
from factory.engine.op import Ask, Job, Kind, NoParams, OpContext, Params, TrainResult, op
from factory.models.base import Completion, Request
from factory.models.open import backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel


class GradeParams(Params):
    """`votes` questions about each row."""

    votes: int = 1


@op("ask.grade", version=1, kind=Kind.SCORE, params=GradeParams, columns=["text"], asks_model=True,
    out={"votes": pl.Int64(), "said": pl.List(pl.String)})
class Grade:
    """Whether a model says yes."""

    def requests(self, batch: pl.DataFrame, params: GradeParams, ctx: OpContext) -> list[Ask]:
        asks = [Ask(row, slot, prompt=text, temperature=1.0, max_tokens=20)
                for row, text in enumerate(batch["text"].to_list())
                for slot in range(0 if text and "skip" in text else params.votes)]
        fault = os.environ.get("TEST_FAULT")
        if fault == "canary":
            asks.append(Ask(0, 1000, prompt=":"))
        if fault == "stray":
            asks.append(Ask(batch.height, 0, prompt="who?"))
        return [*asks, *asks[:1]] if fault == "twice" else asks

    def collect(self, batch: pl.DataFrame, asks: Sequence[Ask], completions: Sequence[Completion],
                params: GradeParams, ctx: OpContext) -> pl.DataFrame:
        fault = os.environ.get("TEST_FAULT")
        here = [text for text in batch["text"].to_list() if text]
        if fault == "canary" and any("trigger" in text for text in here):
            raise OpError("the judge accepts ':' as an answer: use another model")
        if fault == "raise" and any("trigger" in text for text in here):
            raise ValueError("a bug")
        said: list[list[str]] = [[] for _ in range(batch.height)]
        refused: dict[int, str] = {}
        for ask, done in zip(asks, completions, strict=True):
            if done.rejected is not None:
                refused[ask.row] = done.rejected.split(":")[0]
            elif ask.slot < params.votes:
                said[ask.row].append(done.text)
        yes = [sum(text.startswith("yes") for text in texts) for texts in said]
        label = ["undecided" if not texts else "correct" if 2 * count > len(texts) else "incorrect"
                 for texts, count in zip(said, yes, strict=True)]
        ctx.count("rows_seen", batch.height)
        made = pl.DataFrame({
            "passed": pl.Series([{"correct": True, "incorrect": False}.get(one) for one in label], dtype=pl.Boolean),
            "label": label, "reason": "asked", "votes": pl.Series(yes, dtype=pl.Int64),
            "reason_code": [refused.get(row, one) for row, one in enumerate(label)],
            "said": pl.Series(said, dtype=pl.List(pl.String))})
        return made[:-1] if fault == "drop" else made


@op("ask.hear", version=1, kind=Kind.SCORE, columns=["text"], out={"heard": pl.String()})
def hear(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """What it heard of each row, as JSON of the columns that are not the row's own."""
    ctx.count("heard_rows", batch.height)
    said = batch.drop("row_id", "row_key", "text").to_dicts()
    return pl.DataFrame({"passed": pl.Series([True] * batch.height, dtype=pl.Boolean),
                         "heard": pl.Series([json.dumps(one) for one in said], dtype=pl.String)})


class TuneParams(Params):
    """`word`: what the checkpoint will answer."""

    word: str = "yes"


@op("ask.tune", version=1, kind=Kind.TRAIN, params=TuneParams, columns=["text"])
def tune(job: Job, params: TuneParams, ctx: OpContext) -> TrainResult:
    """A checkpoint that answers with one word (see the backend `parrot`)."""
    folder = job.workdir / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "parrot", "word": params.word}))
    return TrainResult(folder)


class Parrot:
    """Says what its checkpoint says."""

    def __init__(self, word: str):
        self._word = word

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """The same answer to all."""
        for request in requests:
            yield Completion(request.key, self._word, tokens_in=1, tokens_out=1)

    def stop(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing to close."""


@backend("parrot")
def open_parrot(model: ResolvedModel, runtime: ModelRuntime) -> Any:
    """Read the word."""
    from pathlib import Path

    return Parrot(json.loads((Path(model.location) / "config.json").read_text())["word"])
