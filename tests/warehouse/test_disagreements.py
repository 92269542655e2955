"""The view `disagreements`: rows that one verifier calls correct and another incorrect, by the latest versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import factory
from warehouse import Warehouse

GOOD = "<think>two and two</think><answer>4</answer>"
PLAIN = "<think>two and two</think>It is 4."
RECIPE: dict[str, Any] = {
    "recipe": "court", "steps": {
        "rows": {"op": "source.files", "params": {"paths": ["rows.jsonl"], "columns": {"response": "response"},
                                                  "license": "mit"}},
        "tags": {"op": "verify.format", "from": "rows", "params": {"form": "r1_zero"}},
        "markdown": {"op": "verify.format", "from": "rows", "params": {"form": "r1"}},
        "lax": {"op": "verify.format", "from": "rows", "params": {"form": "none"}},
        "both": {"op": "verify.combine", "from": "rows", "verdicts": ["tags", "markdown"]},
        "short": {"op": "filter.length", "from": "rows", "params": {"max_chars": 10}}}}
SHOWN = "row_id, step_a, label_a, reason_code_a, step_b, label_b, reason_code_b"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three responses: one in both forms, one in Markdown alone, one blank; judged twice."""
    folder = tmp_path_factory.mktemp("court")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"response": text}) + "\n" for text in (GOOD, PLAIN, " ")))
    for form in ("none", "r1_zero"):  # what `tags` said first is not what it says last
        RECIPE["steps"]["tags"]["params"]["form"] = form
        (folder / "court.yaml").write_text(json.dumps(RECIPE))
        report = factory.run(folder / "court.yaml", warehouse=folder / "w", executor="inline")
        assert report.status == "succeeded", report.errors
    return folder / "w"


def test_each_pair_stands_once_and_by_its_latest_version(root: Path) -> None:
    warehouse = Warehouse(root)
    first, plain, _ = sorted(warehouse.dataset("court/rows").scan().collect()["row_id"])
    assert first < plain
    found = warehouse.sql(f"SELECT {SHOWN} FROM disagreements ORDER BY ALL").rows()
    assert found == [
        (plain, "lax", "correct", "well_formed", "tags", "incorrect", "missing_answer"),
        (plain, "markdown", "correct", "well_formed", "tags", "incorrect", "missing_answer")]
    (told,) = warehouse.sql("SELECT DISTINCT judge_a, judge_b, dataset_b, reason_b FROM disagreements").rows()
    assert told == ("verify.format", "verify.format", "court/tags", "there is no <answer>")


def test_plain_duckdb_reads_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Warehouse(root).sql("SELECT 1")
    monkeypatch.chdir(root)
    connection = duckdb.connect()
    connection.execute(Path("catalog/views.sql").read_text(encoding="utf-8"))
    assert connection.execute("SELECT count(*) FROM disagreements").fetchone() == (2,)


def test_parts_that_datasets_share_speak_once(tmp_path: Path) -> None:
    """The same recipe under a second name reuses its verdicts and disagrees with nobody anew."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"response": text}) + "\n" for text in (GOOD, PLAIN)))
    kept = ("rows", "tags", "lax")
    for name in ("court", "appeal"):
        steps = {step: RECIPE["steps"][step] for step in kept}
        steps["tags"] = {**steps["tags"], "params": {"form": "r1_zero"}}
        (tmp_path / "court.yaml").write_text(json.dumps({"recipe": name, "steps": steps}))
        assert factory.run(tmp_path / "court.yaml", warehouse=tmp_path / "w", executor="inline").status == "succeeded"
    warehouse = Warehouse(tmp_path / "w")
    assert warehouse.sql("SELECT count(*) FROM datasets WHERE kind = 'scores' AND latest").rows() == [(4,)]
    found = warehouse.sql("SELECT step_a, step_b, dataset_a, dataset_b FROM disagreements").rows()
    assert found == [("lax", "tags", "appeal/lax", "appeal/tags")]
