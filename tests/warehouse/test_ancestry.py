"""Chains of checkpoints from records alone: old ones, ones without a step, names that only look like checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warehouse import NotInWarehouse, Warehouse, layout
from warehouse.lineage.ancestry import ancestry, story


@pytest.fixture
def house(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "w", create=True)


def commit(house: Warehouse, tmp_path: Path, name: str, base: str | None, **fields: Any) -> str:
    folder = tmp_path / "files" / name.replace("/", "_") / str(len(house.checkpoints(name)))
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"{folder}")
    record = {"base": base, "dataset_ref": "d@1", "fingerprint": str(folder), "metrics": {}, "run_id": "r", **fields}
    return house.commit_checkpoint(name, folder, record).ref


def test_a_chain_ends_at_a_model_that_is_no_checkpoint(house: Warehouse, tmp_path: Path) -> None:
    first = commit(house, tmp_path, "r/base", "org/model@1234abcd")
    second = commit(house, tmp_path, "r/dev", first, dataset_refs=["d@1", "e@2"])
    chain = ancestry(house, "r/dev")
    assert [(one.checkpoint, one.base, one.from_checkpoint) for one in chain] == [
        (second, first, True), (first, "org/model@1234abcd", False)]
    assert [[learned.ref for learned in one.datasets] for one in chain] == [["d@1", "e@2"], ["d@1"]]
    assert [one.op for one in chain] == [None, None]
    assert house.sql("SELECT ref FROM behind('r/dev@1') WHERE kind = 'checkpoint'")["ref"].to_list() == [first]


def test_each_checkpoint_is_told_once(house: Warehouse, tmp_path: Path) -> None:
    base = commit(house, tmp_path, "r/base", None)
    one, two = (commit(house, tmp_path, f"r/{name}", base) for name in ("one", "two"))
    told = story(house, [one, two, one, "nobody@1"])
    assert [[training.checkpoint for training in chain] for chain in told] == [[one, base], [two]]


def test_versions_are_kept_apart(house: Warehouse, tmp_path: Path) -> None:
    old = commit(house, tmp_path, "r/base", None)
    new = commit(house, tmp_path, "r/base", old)
    assert [one.checkpoint for one in ancestry(house, "r/base")] == [new, old]
    assert [one.checkpoint for one in ancestry(house, old)] == [old]
    with pytest.raises(NotInWarehouse):
        ancestry(house, "r/base@3")
    with pytest.raises(NotInWarehouse):
        ancestry(house, "r@1@2")


def test_a_model_named_like_its_own_checkpoint_makes_no_circle(house: Warehouse, tmp_path: Path) -> None:
    commit(house, tmp_path, "r/base", "r/base@1")
    assert len(ancestry(house, "r/base")) == 1


def test_records_without_all_inputs_are_read(house: Warehouse, tmp_path: Path) -> None:
    commit(house, tmp_path, "r/base", None)
    path = house.store.path(layout.checkpoint("r/base", 1))
    record = json.loads(path.read_bytes())
    del record["dataset_refs"]
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    again = Warehouse(house.root)
    assert again.checkpoint("r/base").trained_on == ["d@1"]
    assert again.sql("SELECT dataset_refs FROM checkpoints")["dataset_refs"].to_list() == [["d@1"]]


def test_an_empty_warehouse_has_the_views(house: Warehouse) -> None:
    for query in ("SELECT * FROM evaluations", "SELECT * FROM version_lineage", "SELECT * FROM behind('x')",
                  "SELECT op, dataset_refs, passed, gate FROM checkpoints"):
        assert house.sql(query).height == 0
