"""evaluate: figures that can be worked out by hand, from a model whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import factory
from factory.engine.errors import RecipeError
from factory.training.evaluate import _majority
from warehouse import Warehouse


def run(folder: Path, text: str, *, executor: str = "inline", **params: Any) -> Warehouse:
    """Evaluate a rule-made model on ten sums."""
    recipe = {"recipe": "exam", "models": {"rules": {"replay": {"rules": [{"text": text}]}}}, "steps": {
        "held_out": {"op": "source.procedural", "params": {"tasks": [
            {"task": "arithmetic", "seed": 1, "count": 10, "config": {"terms": 2, "operators": ["+"]}}]}},
        "exam": {"op": "evaluate", "from": "held_out", "model": "rules", "params": {"k": 3, **params}}}}
    path = folder / "exam.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    report = factory.run(path, warehouse=folder / "wh", executor=executor)
    assert report.status == "succeeded", report.errors
    return Warehouse(folder / "wh")


def figures(warehouse: Warehouse) -> dict[str, float]:
    return warehouse.manifest("exam/exam").facts["metrics"]


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_model_that_is_always_right_and_well_formed(tmp_path: Path, executor: str) -> None:
    warehouse = run(tmp_path, "<think> sum </think> <answer> {{ answer }} </answer>", executor=executor)
    found = figures(warehouse)
    assert [found[name] for name in ("accuracy", "sampled", "majority", "format", "sampled_format")] == [1.0] * 5
    assert found["problems"] == 10


def test_right_without_form(tmp_path: Path) -> None:
    found = figures(run(tmp_path, "<answer> {{ answer }} </answer>"))
    assert (found["accuracy"], found["format"]) == (1.0, 0.0)


def test_two_of_three_samples_right_is_a_majority(tmp_path: Path) -> None:
    text = "<think> x </think> <answer> {{ answer if sample_index < 2 else 999 }} </answer>"
    found = figures(run(tmp_path, text))
    assert found["sampled"] == pytest.approx(2 / 3)
    assert (found["majority"], found["accuracy"]) == (1.0, 1.0)


def test_a_wrong_majority_outvotes_a_right_answer(tmp_path: Path) -> None:
    text = "<think> x </think> <answer> {{ answer if sample_index == 0 else 999 }} </answer>"
    found = figures(run(tmp_path, text))
    assert found["sampled"] == pytest.approx(1 / 3)
    assert found["majority"] == 0.0


def test_votes_are_counted_by_answer_and_the_first_wins_a_tie() -> None:
    assert _majority(["1", "2", "2"], [True, False, False]) is False
    assert _majority(["1", "2"], [True, False]) is True
    assert _majority([None, None, "2"], [False, False, True]) is True
    assert _majority([None], [False]) is False


def test_every_answer_stays_in_the_warehouse(tmp_path: Path) -> None:
    warehouse = run(tmp_path, "<answer> {{ answer }} </answer>")
    assert warehouse.dataset("exam/exam.sampled").manifest.row_count == 30
    assert warehouse.dataset("exam/exam.greedy").manifest.row_count == 10


def test_a_problem_that_is_not_answered_counts_as_wrong(tmp_path: Path) -> None:
    """Two of four problems have no text to ask about."""
    rules = {"replay": {"rules": [{"text": "<answer> {{ answer }} </answer>"}]}}
    recipe = {"recipe": "exam", "models": {"rules": rules}, "steps": {
        "held_out": {"op": "source.files", "params": {"paths": ["rows.jsonl"]}},
        "exam": {"op": "evaluate", "from": "held_out", "model": "rules", "params": {"k": 2}}}}
    rows = [{"prompt": text, "answer": str(number)} for number, text in enumerate(["a?", None, "b?", None])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "exam.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    report = factory.run(tmp_path / "exam.yaml", warehouse=tmp_path / "wh", executor="inline")
    assert report.status == "succeeded", report.errors
    found = figures(Warehouse(tmp_path / "wh"))
    assert [found[name] for name in ("accuracy", "sampled", "majority", "answered", "problems")] == [
        0.5, 0.5, 0.5, 0.5, 4.0]


def test_the_summary_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps({"recipe": "r", "steps": {
        "rows": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 3}]}},
        "exam": {"op": "evaluate.summary", "from": ["rows"]}}}), encoding="utf-8")
    report = factory.run(path, warehouse=tmp_path / "wh", executor="inline")
    assert "op: evaluate" in str(report.errors[0])


def test_a_wrong_param_names_the_step_and_the_field(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"steps.exam.params.kk"):
        run(tmp_path, "x", kk=3)
