"""Collecting around real runs: what a recipe made can go, and the same recipe makes it again, wherever gc died."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import factory
from warehouse import Warehouse, faults
from warehouse.upkeep import fsck, gc
from warehouse.upkeep.gc import DAY
from warehouse.upkeep.reachable import Survey

RECIPE = """
recipe: small
version: 1
seed: 7
models:
  rules:
    replay:
      rules:
        - {weight: 3, text: "<think>{{ prompt }} is {{ answer }}.</think><answer>{{ answer }}</answer>"}
        - {weight: 1, text: "The answer is {{ answer }}."}
        - {weight: 1, text: "<think>again {{ 'and again ' * 60 }}", finish_reason: length}
steps:
  problems:
    op: source.procedural
    params: {tasks: [{task: arithmetic, count: 24, config: {terms: 3}}]}
  samples:
    op: generate.sample
    from: problems
    model: rules
    params: {template: r1_zero, n: 2, temperature: 1.0, max_tokens: 64}
    runtime: {shard_rows: 8}
  correct: {op: verify.math, from: samples}
  copies: {op: dedup.exact, from: samples, params: {scope: prompt}}
  chosen:
    op: select.rejection
    from: samples
    where: [correct, copies]
    params: {keep_per_prompt: 1}
"""


class Died(Exception):
    pass


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    faults.arm(None)


def run(folder: Path) -> dict[str, str]:
    """Content hash of every step; the run must succeed."""
    (folder / "small.yaml").write_text(RECIPE)
    report = factory.run(folder / "small.yaml", warehouse=folder / "w", executor="inline")
    assert report.status == "succeeded", report.errors
    return {step: found.content_hash for step, found in report.manifests.items()}


def sweep(root: Path) -> None:
    """Two calls, with enough time between them."""
    for _ in range(2):
        for path in root.rglob("*"):
            os.utime(path, (time.time() - 30 * DAY,) * 2)
        gc.collect(Warehouse(root))


def delete(root: Path, *steps: str) -> None:
    warehouse = Warehouse(root)
    for step in steps:
        warehouse.delete(f"small/{step}")


def clean(root: Path) -> bool:
    report = fsck.check(Warehouse(root))
    assert report.damage == []
    return report.clean


@pytest.mark.parametrize("at", [None, "gc.marked", "gc.unmarked", "gc.deleted"])
@pytest.mark.parametrize("steps", [("chosen",), ("correct", "chosen"), ("chosen", "copies", "correct", "samples"),
                                   ("chosen", "copies", "correct", "samples", "problems")])
def test_the_same_recipe_makes_again_what_was_collected(at: str | None, steps: tuple[str, ...], tmp_path: Path) -> None:
    before = run(tmp_path)
    root = tmp_path / "w"
    delete(root, *steps)

    def die(name: str) -> None:
        if name == at:
            raise Died

    faults.arm(die)
    try:
        sweep(root)
    except Died:
        pass
    else:
        assert at is None
    faults.arm(None)
    assert clean(root)
    assert run(tmp_path) == before
    assert clean(root)
    sweep(root)
    assert clean(root)
    assert run(tmp_path) == before  # all of it reused


def test_what_was_never_finished_is_found_again_within_its_retention(tmp_path: Path) -> None:
    """A run that dies before its last commit left shards; gc in between takes none of them."""
    root = tmp_path / "w"

    class Stop(BaseException):
        pass

    seen = []

    def die(name: str) -> None:
        if name == "commit.checked":
            seen.append(name)
            if len(seen) == 3:
                raise Stop

    faults.arm(die)
    with pytest.raises(Stop):
        run(tmp_path)
    faults.arm(None)
    work = Survey(Warehouse(root).store)
    work.refresh()
    parts = {name for record in work.work.values() for name in record.names}
    assert parts
    for _ in range(2):
        for path in root.rglob("*"):
            os.utime(path, (time.time() - 3 * DAY,) * 2)
        assert "work records" not in gc.collect(Warehouse(root)).deleted
    assert parts <= set(Warehouse(root).store.keys("parts"))
    run(tmp_path)
    assert parts <= set(Warehouse(root).store.keys("parts"))
    assert clean(root)
