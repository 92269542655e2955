"""Several engines of one step: each has a process, devices and shards of its own; together they answer all, once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import factory
from warehouse import Warehouse

RECIPE: dict[str, Any] = {
    "recipe": "engines", "version": 1, "plugins": ["engines_plugin"],
    "models": {"big": {"served": "big", "revision": "r1", "runtime": {
        "backend": "devices", "tensor_parallel": 2, "data_parallel": 2,
        "price": {"input": 1e6, "output": 2e6}}}},
    "steps": {"prompts": {"op": "source.files", "params": {"paths": ["prompts.jsonl"]}},
              "samples": {"op": "generate.sample", "from": "prompts", "model": "big", "params": {"n": 2},
                          "runtime": {"shard_rows": 3}}}}


def write(folder: Path, prompt: str, count: int, **runtime: Any) -> Path:
    """A recipe that asks `count` questions."""
    shutil.copy(Path(__file__).with_name("engines_plugin.py"), folder)
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "{prompt} {number}"}}\n' for number in range(count)))
    body = json.loads(json.dumps(RECIPE))
    body["models"]["big"]["runtime"] |= runtime
    (folder / "recipe.yaml").write_text(json.dumps(body))
    return folder / "recipe.yaml"


@pytest.mark.parametrize(("visible", "seen"), [(None, {"0,1", "2,3"}), ("4,5,6,7", {"4,5", "6,7"})])
def test_each_engine_has_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None,
                                     seen: set[str]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    write(tmp_path, "question", 13)
    report = factory.run(tmp_path / "recipe.yaml", warehouse=tmp_path / "data", executor="local", workers=2)
    assert report.status == "succeeded", (report.errors, report.tracebacks)
    rows = Warehouse(tmp_path / "data").dataset("engines/samples").scan().collect()
    assert rows.height == rows["answer_key"].n_unique() == 26
    said = [text.split(" ") for text in rows["response"].unique()]
    assert {devices for _, devices in said} == seen
    assert len({process for process, _ in said}) == 2


def test_half_a_character_costs_nobody_else_anything(tmp_path: Path) -> None:
    recipe = write(tmp_path, "half", 4, data_parallel=1)
    for n in (2, 3):
        report = factory.run(recipe, warehouse=tmp_path / "data", executor="inline",
                             overrides={"steps.samples.params.n": n})
        assert report.status == "succeeded", report.errors
        rows = report.manifests["samples"]
        assert report.steps[-1].usage.requested == (8 if n == 2 else 4)
        assert set(Warehouse(tmp_path / "data").dataset(rows.ref).scan().collect()["response"]) == {"\ufffd half"}


def test_what_a_run_spent_is_told_whatever_became_of_it(tmp_path: Path) -> None:
    recipe = write(tmp_path, "question", 6, data_parallel=1)
    first = factory.run(recipe, warehouse=tmp_path / "data", executor="inline")
    assert (first.steps[-1].usage.requested, first.steps[-1].usage.cost) == (12, 12 * (3 + 2 * 2))
    again = factory.run(recipe, warehouse=tmp_path / "data", executor="inline", )
    assert (again.steps[-1].reused, again.steps[-1].usage.requested, again.steps[-1].usage.cost) == (True, 0, 0)
    other = recipe.with_name("other.yaml")
    other.write_text(recipe.read_text().replace('"engines"', '"others"', 1))
    taken = factory.run(other, warehouse=tmp_path / "data", executor="inline")
    assert (taken.steps[-1].usage.requested, taken.steps[-1].usage.cost) == (0, 0)  # the run paid nothing
    assert taken.manifests["samples"].usage.cost == 12 * 7  # its answers did cost that


def test_a_model_that_refuses_everybody_is_not_asked_a_million_times(tmp_path: Path) -> None:
    recipe = write(tmp_path, "bad", 150, data_parallel=1)
    report = factory.run(recipe, warehouse=tmp_path / "data", executor="inline")
    assert report.status == "failed"
    assert "not this one" in str(report.errors[0])
    assert 200 <= report.steps[-1].usage.requested < 300
    assert Warehouse(tmp_path / "data").versions("engines/samples") == []
