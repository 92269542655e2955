"""The dedup ops in recipes: versions that grow by increments, with both executors, and rules that use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dedup_rows import corpus, jaccard, text_of

import factory
from factory.engine.run import RunReport
from warehouse import Warehouse

TWINS = {"op": "dedup.minhash", "from": "texts", "params": {"text": "text"}}
FRESH = {"op": "dedup.incremental", "from": "texts", "params": {"text": "text"}}
CHOSEN = {"op": "select.rejection", "from": "texts", "where": ["twins"],
          "params": {"keep_per_prompt": None}}


class Shelf:
    """A folder with files of texts that a recipe reads, and a warehouse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def write(self, name: str, texts: list[str]) -> None:
        (self.folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def run(self, steps: dict[str, Any], executor: str = "inline", warehouse: str = "w") -> RunReport:
        source = {"op": "source.files", "params": {"paths": ["part*.jsonl"]}}
        path = self.folder / "r.yaml"
        path.write_text(json.dumps({"recipe": "r", "steps": {"texts": source, **steps}}))
        report = factory.run(path, warehouse=self.folder / warehouse, executor=executor, workers=2)
        assert report.status == "succeeded", (report.errors, report.tracebacks)
        return report

    def table(self, report: RunReport, step: str, table: str, warehouse: str = "w") -> pl.DataFrame:
        return Warehouse(self.folder / warehouse).dataset(report.manifests[step].ref).table(table).collect()

    def texts(self, report: RunReport) -> pl.DataFrame:
        return Warehouse(self.folder / "w").dataset(report.manifests["texts"].ref).scan().collect()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_increments_give_what_one_run_gives(shelf: Shelf, executor: str) -> None:
    texts = corpus(2, 12, 5)
    for number, at in enumerate(range(0, 60, 20)):
        shelf.write(f"part{number}", texts[at:at + 20])
        grown = shelf.run({"twins": TWINS}, executor if number == 2 else "inline")
    whole = shelf.run({"twins": TWINS}, "inline", "other")
    assert shelf.table(grown, "twins", "pairs").height > 10
    assert grown.manifests["twins"].content_hash == whole.manifests["twins"].content_hash
    assert grown.manifests["twins"].counts == whole.manifests["twins"].counts


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_increments_are_judged_in_their_order(shelf: Shelf, executor: str) -> None:
    texts = corpus(3, 12, 5)
    ran = []
    for number, at in enumerate(range(0, 60, 20)):
        shelf.write(f"part{number}", texts[at:at + 20])
        ran.append(shelf.run({"fresh": FRESH}, executor if number == 2 else "inline"))
    rows = shelf.texts(ran[-1])
    scores = shelf.table(ran[-1], "fresh", "scores").join(rows, on="row_id")
    assert scores["wave"].value_counts().sort("wave").rows() == [(0, 20), (1, 20), (2, 20)]
    kept: list[str] = []
    for row in scores.sort("wave", "row_key", "row_id").iter_rows(named=True):
        nearest = max((jaccard(row["text"], text) for text in kept), default=0.0)
        assert row["passed"] == (nearest < 0.8)
        assert row["score"] == (None if row["passed"] else nearest)
        kept += [row["text"]] if row["passed"] else []
    assert 10 < len(kept) < 60
    first = shelf.table(ran[0], "fresh", "scores")
    assert scores.filter(pl.col("wave") == 0).select(first.columns).sort("row_id").equals(first.sort("row_id"))
    stored = [{part.path for part in report.manifests["fresh"].tables["scores"]} for report in ran]
    assert stored[0] < stored[1] < stored[2]


def test_rows_are_compared_with_other_datasets(shelf: Shelf) -> None:
    shelf.write("part0", [text_of(0, 60), text_of(100, 160), text_of(200, 260)])
    shelf.write("old", [text_of(100, 159) + " other"])
    old = {"op": "source.files", "params": {"paths": ["old.jsonl"]}}
    ran = shelf.run({"old": old, "fresh": {**FRESH, "against": ["old"]},
                     "chosen": {**CHOSEN, "where": ["fresh"]}})
    scores = shelf.table(ran, "fresh", "scores")
    assert sorted(scores["reason_code"].to_list(), key=str) == [None, None, "duplicate"]
    assert scores["jaccard"].max() == 55 / 57
    key = Warehouse(shelf.folder / "w").dataset("r/old").scan().collect()["row_key"][0]
    assert scores["duplicate_of"].drop_nulls().to_list() == [key.hex()]
    assert ran.manifests["chosen"].row_count == 2


def test_one_of_each_group_stays(shelf: Shelf) -> None:
    shelf.write("part0", [text_of(0, 100), text_of(0, 99) + " longer than the others", text_of(0, 98), text_of(5, 50)])
    ran = shelf.run({"twins": TWINS, "chosen": CHOSEN})
    chosen = Warehouse(shelf.folder / "w").dataset(ran.manifests["chosen"].ref).scan().collect()
    assert sorted(len(text.split()) for text in chosen["text"])[0] == 45
    assert chosen.height == 2


def test_prompt_and_answer_may_be_compared_together(shelf: Shelf) -> None:
    rows = [("q", "a"), ("Q ", "a"), ("q", "b"), ("q", "a")]
    (shelf.folder / "part.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt, "response": answer}) + "\n" for prompt, answer in rows))
    exact = {"op": "dedup.exact", "from": "texts", "params": {"text": ["prompt", "response"]}}
    ran = shelf.run({"exact": exact, "loose": {**exact, "params": {**exact["params"], "normalise": "casefold"}}})
    assert [shelf.table(ran, step, "nodes").height for step in ("exact", "loose")] == [2, 3]


def test_how_much_memory_is_used_is_no_identity(shelf: Shelf) -> None:
    shelf.write("part0", corpus(4, 12, 5))
    much = shelf.run({"twins": TWINS})
    little = shelf.run({"twins": {**TWINS, "runtime": {"memory": 16}}})
    assert much.manifests["twins"].ref == little.manifests["twins"].ref


@pytest.mark.parametrize("twins", [TWINS, FRESH])
def test_rows_that_two_datasets_hold_are_read_once(shelf: Shelf, twins: dict[str, Any]) -> None:
    shelf.write("part0", corpus(3, 6, 4))
    again = {"op": "source.files", "params": {"paths": ["part*.jsonl"]}}
    both = {"op": "select.rejection", "from": ["texts", "again"], "params": {"keep_per_prompt": None}}
    report = shelf.run({"again": again, "both": both, "twins": {**twins, "from": "both"}, "alone": twins})
    name = "pairs" if twins is TWINS else "scores"
    assert shelf.table(report, "twins", name).equals(shelf.table(report, "alone", name))
    assert shelf.table(report, "alone", name).height > 3
