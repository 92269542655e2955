"""No op can lose, double, swap or invent a row unnoticed: its shard is not committed, the run fails and says which step
it was, the other shards are kept, and once the op is mended the same command completes without redoing them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labs import Lab

from factory.engine.errors import ConservationError, FactoryError, ShardFailed

TEXTS = ("aa", "bb", "trigger", "dd", "ee", "ff", "gg")
ROWS, SCORE, EXPAND, ASK = "test.fickle", "test.fickle_score", "test.fickle_words", "test.fickle_ask"
MODEL = {"models": {"rules": {"replay": {"rules": [{"text": "{{ text }}!"}]}}}}
Texts = Callable[..., dict[str, Any]]


def steps_for(op: str, texts: Texts, folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = {"op": op, "from": "rows", "runtime": {"shard_rows": 3}}
    if op == ASK:
        made["model"] = "rules"
        made["runtime"] = {"shard_rows": 3, "model": {"log": str(folder / "asked.log")}}
    return {"rows": texts(*TEXTS, splits=3), "made": made, "after": {"op": "test.gate", "from": "rows"}}


def asked(folder: Path) -> list[str]:
    path = folder / "asked.log"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        *((ROWS, fault) for fault in ("drop", "double", "empty", "swap", "same")),
        *((SCORE, fault) for fault in ("drop", "double", "swap")),
        *((EXPAND, fault) for fault in ("double", "empty", "same")),
        *((ASK, fault) for fault in ("drop", "double", "same")),
    ],
)
def test_a_broken_count_is_not_committed_and_a_mended_op_goes_on(
    op: str, fault: str, lab: Lab, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_for(op, texts, lab.folder)
    monkeypatch.setenv("TEST_FAULT", fault)
    report = lab.run(steps, "inline", **MODEL)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert [step.status for step in report.steps] == ["done", "failed", "done"]
    assert [type(error) for error in report.errors] == [ConservationError]
    assert "made" in str(report.errors[0])
    assert op in str(report.errors[0])
    assert "made" not in report.manifests
    assert not lab.warehouse().versions("lab/made")
    before = asked(lab.folder)
    monkeypatch.setenv("TEST_FAULT", "none")
    report = lab.run(steps, "inline", **MODEL)
    assert report.status == "succeeded", report.errors
    assert report.manifests["made"].counts.balanced
    assert len(asked(lab.folder)) == len(set(asked(lab.folder)))
    if op == ASK:
        assert len(asked(lab.folder)) == 14
        assert len(before) == (14 if fault == "same" else 8)


def test_a_crash_leaves_the_other_shards_finished(lab: Lab, texts: Texts, executor: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.mkdir()
    monkeypatch.setenv("TEST_LOG", str(log))
    monkeypatch.setenv("TEST_FAULT", "raise")
    steps = steps_for(ROWS, texts, lab.folder)
    steps["made"]["runtime"] = {"shard_rows": 1}
    report = lab.run(steps, executor)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert isinstance(report.errors[0], ShardFailed)
    assert any("cannot bear" in trace for trace in report.tracebacks)
    assert sorted(path.read_text() for path in log.iterdir()) == sorted(TEXTS)
    monkeypatch.setenv("TEST_FAULT", "none")
    assert lab.run(steps, executor).status == "succeeded"
    again = sorted(path.read_text() for path in log.iterdir())
    assert again == sorted([*TEXTS, "trigger"])
    assert lab.dataset("made").scan().collect()["copy"].to_list() == list(TEXTS)


def test_a_worker_that_dies_costs_its_shard_alone(lab: Lab, texts: Texts, monkeypatch: pytest.MonkeyPatch,
                                                  tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    monkeypatch.setenv("TEST_LOG", str(log))
    monkeypatch.setenv("TEST_FAULT", "exit")
    steps = steps_for(ROWS, texts, lab.folder)
    report = lab.run(steps, "local", workers=1)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert isinstance(report.errors[0], FactoryError)
    assert sorted("".join(path.read_text().split()) for path in log.iterdir()) == ["aabbtrigger", "ddeeff", "gg"]
    monkeypatch.setenv("TEST_FAULT", "none")
    assert lab.run(steps, "local", workers=1).status == "succeeded"
    assert len(list(log.iterdir())) == 4


@pytest.mark.parametrize("fault", ["drop", "double", "same"])
def test_an_op_that_asks_crashes_in_workers_without_losing_an_answer(fault: str, lab: Lab, texts: Texts,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_for(ASK, texts, lab.folder)
    monkeypatch.setenv("TEST_FAULT", fault)
    report = lab.run(steps, "local", workers=2, **MODEL)
    assert isinstance(report.errors[0], ConservationError)
    monkeypatch.setenv("TEST_FAULT", "none")
    assert lab.run(steps, "local", workers=2, **MODEL).status == "succeeded"
    assert len(asked(lab.folder)) == len(set(asked(lab.folder))) == 14


def test_a_choice_settles_every_row_once(
    lab: Lab, texts: Texts, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"rows": texts("a", "b", "c"), "chosen": {"op": "test.repeat", "from": "rows"}}
    monkeypatch.setenv("TEST_FAULT", "double")
    report = lab.run(steps, executor)
    assert isinstance(report.errors[0], ConservationError)
    assert report.exit_code == 1
    monkeypatch.setenv("TEST_FAULT", "none")
    assert lab.run(steps, executor).status == "succeeded"


def test_a_failed_step_blocks_only_what_needs_it(lab: Lab, texts: Texts, executor: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FAULT", "drop")
    steps = {"rows": texts(*TEXTS), "made": {"op": ROWS, "from": "rows"}, "on": {"op": "test.gate", "from": "made"},
             "size": {"op": "test.size", "from": "rows"}}
    report = lab.run(steps, executor)
    assert {step.step: step.status for step in report.steps} == {
        "rows": "done", "made": "failed", "on": "blocked", "size": "done"}


def test_too_many_failures_commit_nothing_and_are_tried_again(lab: Lab, texts: Texts, executor: str,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"rows": texts("boom", "a", "b", splits=3), "size": {"op": "test.size", "from": "rows"}}
    report = lab.run(steps, executor)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert "explosion" in str(report.errors[0])
    monkeypatch.setenv("TEST_FAULT", "none")
    report = lab.run(steps, executor)
    assert report.status == "succeeded", report.errors
    assert lab.dataset("size").manifest.counts.failed == 0


def test_failures_within_the_allowance_are_kept_until_a_retry_is_asked_for(lab: Lab, texts: Texts, executor: str,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"rows": texts("boom", "a", "b", splits=2),
             "size": {"op": "test.size", "from": "rows", "runtime": {"max_failed": 0.5}}}
    assert lab.run(steps, executor).status == "succeeded"
    monkeypatch.setenv("TEST_FAULT", "none")
    assert lab.run(steps, executor).manifests["size"].counts.failed == 1
    report = lab.run(steps, executor, retry_failed=True)
    counts = report.manifests["size"].counts
    assert (counts.owed, counts.kept, counts.failed) == (3, 3, 0)
    assert lab.dataset("size").scan().collect().height == 3
