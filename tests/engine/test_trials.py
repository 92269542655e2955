"""A verifier judges nothing before it has accepted its own golds and refused mutated ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lab_verifier
import pytest
from labs import Lab

from factory.engine import trial
from factory.engine.errors import OpError
from factory.engine.op import Trial, get_op

Texts = Callable[..., dict[str, Any]]
ROWS = ("it is red", "it is Blue", "it is green")
ANSWERS = {"answer": ["red", "blue", "red"]}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trial, "_PROVEN", set())
    monkeypatch.setenv("TEST_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("TEST_VERIFIER_VERSION", "1")
    lab_verifier.register()


def steps(texts: Texts) -> dict[str, Any]:
    return {"rows": texts(*ROWS, **ANSWERS), "right": {"op": "test.word", "from": "rows"}}


def run(lab: Lab, texts: Texts, executor: str) -> Any:
    return lab.run(steps(texts), executor, plugins=["plugin_ops", "lab_verifier"])


def test_trials_come_first_and_once(lab: Lab, texts: Texts, executor: str, tmp_path: Path) -> None:
    assert run(lab, texts, executor).status == "succeeded"
    assert (tmp_path / "log").read_text().split() == ["2", "3"]
    again = run(lab, texts, executor)
    assert [step.reused for step in again.steps] == [True, True]
    assert (tmp_path / "log").read_text().split() == ["2", "3"]
    assert lab.dataset("right").manifest.counts.owed == 3


@pytest.mark.parametrize(("fault", "said"), [("deaf", "refuses a gold of its own"),
                                             ("blind", "accepts what it must refuse")])
def test_a_broken_verifier_stops_the_step(lab: Lab, texts: Texts, executor: str, monkeypatch: pytest.MonkeyPatch,
                                          fault: str, said: str, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_VERIFIER_FAULT", fault)
    report = run(lab, texts, executor)
    assert report.status == "failed"
    assert [step.status for step in report.steps] == ["done", "failed"]
    assert said in str(report.errors[0])
    assert "test.word version 1" in str(report.errors[0])
    assert (tmp_path / "log").read_text().split() == ["2"]
    monkeypatch.delenv("TEST_VERIFIER_FAULT")
    assert run(lab, texts, executor).status == "succeeded"


@pytest.mark.parametrize(("wanted", "said"), [("incorrect", "undecided"), ("undecided", "incorrect")])
def test_a_mutant_needs_its_own_label(monkeypatch: pytest.MonkeyPatch, wanted: str, said: str) -> None:
    row = {"text": "it is blue", "answer": "red" if said == "incorrect" else ""}
    spec = replace(get_op("test.word"), trials=lambda params: [Trial(row, wanted)])
    tried = trial.try_op(spec, spec.params())
    assert (tried.mutants, tried.refused, len(tried.faults)) == (1, 0, 1)
    with pytest.raises(OpError, match=f"another label.*must be {wanted}, it said {said}"):
        trial.require_trials(spec, spec.params())


def test_a_trial_without_a_verdict_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_VERIFIER_FAULT", "slow")
    spec = get_op("test.word")
    tried = trial.try_op(spec, spec.params())
    assert (tried.golds, tried.mutants, tried.failed, tried.faults) == (0, 0, 2, ())
    trial.require_trials(spec, spec.params())
