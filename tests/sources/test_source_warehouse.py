"""source.warehouse: a version of a warehouse is read whole, with inherited columns, and named by its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import factory
from factory.engine.errors import RecipeError
from warehouse import Warehouse

MODELS = {"rules": {"replay": {"rules": [{"text": "<answer>{{ answer }}</answer>"}]}}}
MAKE = {
    "problems": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 5}]}},
    "samples": {"op": "generate.sample", "from": "problems", "model": "rules",
                "params": {"template": "r1_zero", "n": 2, "max_tokens": 32}},
    "size": {"op": "filter.length", "from": "samples"},
    "chosen": {"op": "select.rejection", "from": "samples", "where": ["size"], "params": {"keep_per_prompt": 1}}}


def take(dataset: str, **params: Any) -> dict[str, Any]:
    return {"op": "source.warehouse", "params": {"dataset": dataset, "warehouse": "theirs", **params}}


def write(folder: Path, name: str, steps: dict[str, Any]) -> Path:
    (folder / f"{name}.yaml").write_text(json.dumps({"recipe": name, "models": MODELS, "steps": steps}))
    return folder / f"{name}.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = factory.run(write(tmp_path, "make", MAKE), warehouse=tmp_path / "theirs", executor="inline")
    assert made.status == "succeeded", made.errors
    return tmp_path


def test_rows_and_selections_come_with_their_inherited_columns(folder: Path) -> None:
    path = write(folder, "take", {"all": take("make/samples"), "some": take("make/chosen@1", columns={
        "question": "prompt", "response": "response"})})
    run = factory.run(path, warehouse=folder / "ours", executor="inline")
    assert run.status == "succeeded", run.errors
    theirs, ours = Warehouse(folder / "theirs"), Warehouse(folder / "ours")
    rows, given = ours.dataset("take/all").scan().collect(), theirs.dataset("make/samples").scan().collect()
    assert sorted(rows.select("prompt", "response").rows()) == sorted(given.select("prompt", "response").rows())
    some, chosen = ours.dataset("take/some").scan().collect(), theirs.dataset("make/chosen").scan().collect()
    assert sorted(some.select("question", "response").rows()) == sorted(chosen.select("prompt", "response").rows())
    native = ours.dataset("take/some").table("provenance").collect()["native_id"]
    assert set(native) == {key.hex() for key in chosen["row_key"]}
    again = write(folder, "again", {"all": take("take/all", warehouse="ours", license="mit")})
    assert factory.run(again, warehouse=folder / "ours", executor="inline").manifests["all"].license == ["mit"]


def test_the_version_is_named_by_its_content(folder: Path) -> None:
    def printed(dataset: str) -> str:
        return factory.plan(write(folder, "take", {"all": take(dataset)})).plan.steps["all"].fingerprint

    assert printed("make/samples") == printed("make/samples@1") != printed("make/chosen")
    limited = factory.run(write(folder, "take", {"all": take("make/samples")}), warehouse=folder / "ours",
                          executor="inline", limit=3)
    assert limited.manifests["all"].row_count == 3


@pytest.mark.parametrize(("step", "said"), [
    (take("make/nothing"), "no dataset 'make/nothing'"), (take("make/samples@7"), "make/samples@7"),
    (take("make/size"), "kind scores"), (take("make/samples", columns={"a": "respons"}), "did you mean 'response'"),
    (take("make/samples", warehouse="nowhere"), "there is no warehouse at")])
def test_what_is_not_there_is_found_before_anything_runs(folder: Path, step: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        factory.plan(write(folder, "take", {"all": step}))
