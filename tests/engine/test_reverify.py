"""A newer verifier judges again what an older one has judged, and nothing is generated."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab_verifier
import pytest
from labs import Lab

import factory
from factory.engine import reverify, trial
from factory.engine.errors import UsageError
from factory.engine.progress import Silent
from factory.engine.verdicts import diff_verdicts, unjudged

Texts = Callable[..., dict[str, Any]]
MODELS = {"echo": {"replay": {"rules": [{"text": "it is {{ answer }}"}, {"text": "it is {{ answer | upper }}"}]}}}


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_version(number: int) -> None:
        monkeypatch.setenv("TEST_VERIFIER_VERSION", str(number))
        lab_verifier.register()

    monkeypatch.setattr(trial, "_PROVEN", set())
    set_version(1)
    return set_version


def recipe(lab: Lab, texts: Texts, answers: tuple[Any, ...] = ("red", "blue", "green", ""), **top: Any) -> Path:
    steps = {
        "rows": texts(*(f"say {n}" for n in "abcd"), answer=list(answers)),
        "samples": {"op": "generate.sample", "from": "rows", "model": "echo",
                    "params": {"prompt": "text", "template": "plain", "n": 4}},
        "right": {"op": "test.word", "from": "samples", "params": {"response": "response"}},
        "kept": {"op": "select.rejection", "from": "samples", "where": ["right"]}}
    return lab.recipe(steps, plugins=["plugin_ops", "lab_verifier"], models=top.pop("models", MODELS), **top)


def run(lab: Lab, texts: Texts, limit: int | None = None, **top: Any) -> Any:
    return factory.run(recipe(lab, texts, **top), warehouse=lab.folder / "w", executor="inline", limit=limit)


def test_a_recipe_scores_again_and_asks_for_nothing(lab: Lab, texts: Texts, version: Callable[[int], None]) -> None:
    first = run(lab, texts)
    assert first.status == "succeeded", first.errors
    version(2)
    second = run(lab, texts)
    reused = {step.step: step.reused for step in second.steps}
    assert reused == {"rows": True, "samples": True, "right": False, "kept": False}
    assert sum(step.usage.requested for step in second.steps) == 0
    assert second.manifests["right"].ref == "lab/right@2"
    assert second.manifests["kept"].row_count > first.manifests["kept"].row_count


def test_the_whole_warehouse_is_judged_again(lab: Lab, texts: Texts, version: Callable[[int], None]) -> None:
    first = run(lab, texts)
    house = lab.folder / "w"
    assert factory.reverify(warehouse=house, executor="inline") == ([], [])
    version(2)
    told, reports = factory.reverify(warehouse=house, dry_run=True)
    assert ([each.state for each in told], reports) == (["stale"], [])
    told, reports = factory.reverify("lab", op="test.word", warehouse=house, executor="inline")
    assert [(each.ref, each.made, each.then, each.now, each.state) for each in told] == [
        ("lab/right@1", "lab/right@2", 1, 2, "done")]
    assert [step.usage.requested for step in reports[0].steps] == [0]
    assert told[0].changed is not None
    assert set(told[0].changed.labels) == {("incorrect", "correct")}
    made = lab.dataset("right").manifest
    assert [item.ref for item in made.inputs] == [item.ref for item in first.manifests["right"].inputs]
    assert (made.op_version, made.recipe, made.step) == (2, "lab", "right")
    again = run(lab, texts)  # a recipe finds these verdicts made
    assert {step.step: step.reused for step in again.steps}["right"] is True
    assert factory.reverify(warehouse=house, executor="inline") == ([], [])
    for prefix in ("other", "lab/rows"):
        with pytest.raises(UsageError, match=f"begins with '{prefix}'"):
            factory.reverify(prefix, warehouse=house, executor="inline")
    with pytest.raises(UsageError, match=r"select\.rejection is no verifier"):
        factory.reverify(op="select.rejection", warehouse=house)


def test_changed_verdicts_are_counted_and_shown(lab: Lab, texts: Texts, version: Callable[[int], None]) -> None:
    run(lab, texts)
    version(2)
    run(lab, texts)
    warehouse = lab.warehouse()
    found = diff_verdicts(warehouse, "lab/right@1", "lab/right@2")
    assert (found.both, found.only_old, found.only_new) == (16, 0, 0)
    assert found.made == {"op_version": (1, 2)}
    (moved,) = found.changes.iter_rows()
    assert moved[:4] == ("incorrect", "correct", "other", "same")
    assert moved[4] == found.rows.height == found.labels["incorrect", "correct"]
    for row in found.rows.iter_rows(named=True):
        assert row["extracted_before"] == row["extracted_after"] == row["reference"].upper()
    assert diff_verdicts(warehouse, "lab/right@2", "lab/right@2").changes.height == 0
    with pytest.raises(UsageError, match="holds no verdicts"):
        diff_verdicts(warehouse, "lab/samples", "lab/right")


def test_prompts_that_nobody_can_judge_are_named(lab: Lab, texts: Texts) -> None:
    run(lab, texts)
    found = unjudged(lab.warehouse(), "lab/right")
    row_id = lab.dataset("rows").scan().collect()["row_id"][3]
    assert found.to_dicts() == [{"reason_code": "gold_unparseable", "reason": "the reference '' cannot be read",
                                 "prompts": 1, "rows": 4, "row_id": row_id}]


def test_a_broken_upgrade_judges_nothing(lab: Lab, texts: Texts, version: Callable[[int], None],
                                         monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(lab, texts)
    version(2)
    monkeypatch.setenv("TEST_VERIFIER_FAULT", "blind")
    told, reports = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert [each.state for each in told] == ["failed"]
    assert "accepts what it must refuse" in told[0].why
    assert reports[0].exit_code == 1
    assert lab.dataset("right").manifest.version == 1


def test_a_rehearsal_hides_nothing(lab: Lab, texts: Texts, version: Callable[[int], None]) -> None:
    """What a rehearsal judged by the newer version leaves the whole version stale."""
    run(lab, texts)
    version(2)
    assert run(lab, texts, limit=2).manifests["right"].ref == "lab/right@2"
    told, _ = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert [(each.ref, each.made) for each in told] == [("lab/right@1", "lab/right@3")]


class _Hasty(Silent):
    """Asks for an end as the first step is done."""

    def step_ended(self, report: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interruption_ends_what_is_begun_and_tells_it(lab: Lab, texts: Texts,
                                                         version: Callable[[int], None]) -> None:
    for name in ("lab", "labour"):
        run(lab, texts, name=name)
    version(2)
    told, reports = factory.reverify(warehouse=lab.folder / "w", executor="inline", progress=lambda _steps: _Hasty())
    assert [(each.ref, each.state) for each in told] == [("lab/right@1", "done"), ("labour/right@1", "stale")]
    assert [report.exit_code for report in reports] == [130]
    told, _ = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert [(each.ref, each.state) for each in told] == [("labour/right@1", "done")]


def test_the_share_that_may_fail_is_an_option(lab: Lab, texts: Texts, version: Callable[[int], None],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    run(lab, texts)
    version(2)
    monkeypatch.setenv("TEST_VERIFIER_FAULT", "slow")
    told, _ = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert told[0].state == "failed"
    assert "or raise --max-failed" in told[0].why
    told, _ = factory.reverify(warehouse=lab.folder / "w", executor="inline", max_failed=1)
    assert told[0].changed is not None
    assert {after for _, after in told[0].changed.labels} == {"failed"}


def test_a_list_of_references_can_be_compared(lab: Lab, texts: Texts, version: Callable[[int], None],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    judge = lab_verifier._judge
    monkeypatch.setattr(lab_verifier, "_judge", lambda text, answer, fault: judge(
        text, answer if isinstance(answer, str) else answer[0], fault))
    rules = [{"text": "it is {{ answer[0] }}"}, {"text": "it is {{ answer[0] | upper }}"}]
    run(lab, texts, answers=([["red", "rot"]] * 4), models={"echo": {"replay": {"rules": rules}}})
    version(2)
    told, _ = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert told[0].changed is not None
    assert told[0].changed.rows["reference"].unique().to_list() == ['["red", "rot"]']


def test_what_cannot_be_told_keeps_no_other_from_being_judged(lab: Lab, texts: Texts, version: Callable[[int], None],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: Any) -> Any:
        raise UsageError("no words")

    for name in ("lab", "labour"):
        run(lab, texts, name=name)
    version(2)
    monkeypatch.setattr(reverify, "diff_verdicts", fails)
    told, reports = factory.reverify(warehouse=lab.folder / "w", executor="inline")
    assert [(each.made, each.state, each.changed) for each in told] == [
        ("lab/right@2", "done", None), ("labour/right@2", "done", None)]
    assert "no words" in told[0].why
    assert len(reports) == 2
