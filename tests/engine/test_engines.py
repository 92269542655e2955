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
        "backend": "devices", "tensor_parallel": 2, "data_parallel": 2}}},
    "steps": {"prompts": {"op": "source.files", "params": {"paths": ["prompts.jsonl"]}},
              "samples": {"op": "generate.sample", "from": "prompts", "model": "big", "params": {"n": 2},
                          "runtime": {"shard_rows": 3}}}}


@pytest.mark.parametrize(("visible", "seen"), [(None, {"0,1", "2,3"}), ("4,5,6,7", {"4,5", "6,7"})])
def test_each_engine_has_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None,
                                     seen: set[str]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    shutil.copy(Path(__file__).with_name("engines_plugin.py"), tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "question {number}"}}\n' for number in range(13)))
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    report = factory.run(tmp_path / "recipe.yaml", warehouse=tmp_path / "data", executor="local", workers=2)
    assert report.status == "succeeded", (report.errors, report.tracebacks)
    rows = Warehouse(tmp_path / "data").dataset("engines/samples").scan().collect()
    assert rows.height == rows["answer_key"].n_unique() == 26
    said = [text.split(" ") for text in rows["response"].unique()]
    assert {devices for _, devices in said} == seen
    assert len({process for process, _ in said}) == 2
