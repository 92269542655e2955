"""GLOBAL ops that gather: what they see of parts and waves, and which earlier tables they may build on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import factory
from factory.engine.gathered import Gathered
from factory.engine.op import Kind, NoParams, OpContext, op
from factory.engine.run import RunReport
from warehouse import Warehouse

SEEN = pl.Schema({"row_id": pl.Int64(), "wave": pl.Int32(), "settled": pl.Boolean(), "texts": pl.String(),
                  "base": pl.Int64(), "scratch": pl.Int64(), "memory": pl.Int64()})


class Seeing:
    """Tells what it was given: a row for each part, in stored order."""

    @staticmethod
    def partial(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
        return batch.select("row_id", "row_key")

    @staticmethod
    def gather(gathered: Gathered, params: NoParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        base = gathered.base["seen"]().height if gathered.base else -1
        (gathered.scratch / "file").write_text("of this step")
        held = len(list(gathered.scratch.iterdir()))
        found: list[dict[str, Any]] = []
        for part, frame in zip(gathered.parts, gathered.frames(["row_id"]), strict=True):
            texts = " ".join(gathered.rows(frame["row_id"].sort()).sort("row_id")["text"].to_list())
            found.append({"row_id": frame["row_id"][0], "wave": part.wave, "settled": part.settled, "texts": texts,
                          "base": base, "scratch": held, "memory": gathered.memory})
        return {"seen": pl.DataFrame(found, schema=SEEN)}


@op("test.seeing", version=1, kind=Kind.GLOBAL, params=NoParams, columns=["text"])
class Plain(Seeing):
    """Builds on nothing."""


@op("test.seeing_any", version=1, kind=Kind.GLOBAL, params=NoParams, columns=["text"])
class Any_(Seeing):
    """Builds on any earlier set."""

    grows = "any"


@op("test.seeing_waves", version=1, kind=Kind.GLOBAL, params=NoParams, columns=["text"])
class Waves(Seeing):
    """Builds on earlier waves."""

    grows = "waves"


class Files:
    """Numbered files of texts, one part each, and what ops saw of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> None:
        for name, texts in files.items():
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts.split())
            (self.folder / f"{name}.jsonl").write_text(lines)

    def run(self, *ops: str, runtime: dict[str, Any] | None = None) -> dict[str, pl.DataFrame]:
        steps = {name: {"op": f"test.{name}", "from": "texts", "runtime": runtime or {}} for name in ops}
        path = self.folder / "r.yaml"
        path.write_text(json.dumps({"recipe": "r", "steps": {
            "texts": {"op": "source.files", "params": {"paths": ["*.jsonl"]}}, **steps}}))
        report: RunReport = factory.run(path, warehouse=self.folder / "w", executor="inline", workers=1)
        assert report.status == "succeeded", (report.errors, report.tracebacks)
        warehouse = Warehouse(self.folder / "w")
        return {name: warehouse.dataset(report.manifests[name].ref).table("seen").collect() for name in ops}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_first_version_has_no_base(files: Files) -> None:
    files.write(a="x y", b="z")
    seen = files.run("seeing_any")["seeing_any"]
    assert sorted(" ".join(seen["texts"]).split()) == ["x", "y", "z"]
    assert seen.select("wave", "settled", "base", "scratch", "memory").unique().rows() == [(0, False, -1, 1, 512)]
    assert not [path for path in (files.folder / "w").rglob("gather-*")]


def test_memory_is_a_setting_of_the_run(files: Files) -> None:
    files.write(a="x")
    assert files.run("seeing", runtime={"memory": 64})["seeing"]["memory"].to_list() == [64]


def test_a_version_that_grew_has_the_one_before_as_its_base(files: Files) -> None:
    ops = ("seeing", "seeing_any", "seeing_waves")
    files.write(a="x y")
    before = files.run(*ops)
    files.write(b="z")
    after = files.run(*ops)
    for name in ops[1:]:
        assert after[name].sort("wave").select("wave", "settled", "texts").rows() == [(0, True, "x y"), (1, False, "z")]
        assert after[name]["base"].unique().to_list() == [before[name].height]
    assert after["seeing"]["base"].unique().to_list() == [-1]
    assert not after["seeing"]["settled"].any()


def test_a_wave_that_lost_rows_is_no_base(files: Files) -> None:
    ops = ("seeing_any", "seeing_waves")
    files.write(a="x y", b="z")
    files.run(*ops)
    files.write(a="x", c="w")
    after = files.run(*ops)
    assert sorted(" ".join(after["seeing_waves"]["texts"]).split()) == ["w", "x", "z"]
    assert after["seeing_waves"]["base"].unique().to_list() == [-1]
    assert not after["seeing_waves"]["settled"].any()


def test_the_largest_earlier_set_is_the_base(files: Files) -> None:
    files.write(a="x")
    files.run("seeing_any")
    files.write(b="y")
    files.run("seeing_any")
    files.write(c="z")
    seen = files.run("seeing_any")["seeing_any"]
    assert seen.sort("wave").select("wave", "settled", "base").rows() == [(0, True, 2), (1, True, 2), (2, False, 2)]
