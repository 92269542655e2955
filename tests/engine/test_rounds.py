"""A block that is repeated: each round builds on the one before, and one round more redoes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labs import Lab

Texts = Callable[..., dict[str, Any]]
BLOCK = {
    "copies": {"op": "test.fickle", "from": "previous.best", "runtime": {"shard_rows": 2}},
    "asked": {"op": "generate.sample", "from": "copies", "model": "rules", "params": {"prompt": "text", "n": 2}},
    "size": {"op": "test.size", "from": "asked"},
    "best": {"op": "select.rejection", "from": "asked", "where": ["size"], "params": {"keep_per_prompt": 1}},
}
MODELS = {"rules": {"replay": {"rules": [{"text": "{{ text }} {{ rng.integer(0, 9) }}"}]}}}


def run(lab: Lab, texts: Texts, count: int, executor: str, warehouse: str = "w") -> Any:
    rounds = {"count": count, "initial": {"best": "rows"}, "steps": BLOCK}
    report = lab.run({"rows": texts("a", "b", "c"), "end": {"op": "test.gate", "from": "last.best"}}, executor,
                     warehouse=warehouse, rounds=rounds, models=MODELS)
    assert report.status == "succeeded", report.errors
    return report


def test_each_round_takes_what_the_one_before_chose(lab: Lab, texts: Texts, executor: str) -> None:
    report = run(lab, texts, 2, executor)
    assert report.manifests["r1.copies"].inputs[0].ref == "lab/rows@1"
    assert report.manifests["r2.copies"].inputs[0].ref == "lab/r1.best@1"
    assert report.manifests["end"].inputs[0].ref == "lab/r2.best@1"
    rows = lab.dataset("r2.best").scan().collect()
    assert sorted(rows["text"]) == ["a", "b", "c"]
    assert rows["row_key"].n_unique() == 3


def test_one_round_more_redoes_nothing(lab: Lab, texts: Texts, executor: str, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.mkdir()
    monkeypatch.setenv("TEST_LOG", str(log))
    first = run(lab, texts, 2, executor)
    before = len(list(log.iterdir()))
    third = run(lab, texts, 3, executor)
    assert {step.step for step in third.steps if not step.reused} == {
        "r3.copies", "r3.asked", "r3.size", "r3.best", "end"}
    assert len(list(log.iterdir())) - before == before // 2
    assert all(third.manifests[name].ref == found.ref for name, found in first.manifests.items() if name != "end")
    back = run(lab, texts, 1, executor)
    assert {step.step for step in back.steps if not step.reused} == {"end"}
    whole = run(lab, texts, 3, executor, warehouse="other")
    assert {name: found.content_hash for name, found in whole.manifests.items()} == {
        name: found.content_hash for name, found in third.manifests.items()}
