"""Committing: whoever is first wins, everybody agrees, nothing half-written has a name, and nothing unsound gets in."""

from __future__ import annotations

import io
import multiprocessing as mp
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from warehouse import NotInWarehouse, Warehouse, WarehouseError
from warehouse.content import hash_rows
from warehouse.dataset import pack_schema
from warehouse.errors import DamagedPart
from warehouse.parts import read_part, write_part
from warehouse.records import Counts, Manifest


def draft(warehouse: Warehouse, name: str, values: list[int], **fields: Any) -> Manifest:
    """A dataset version of these row ids, not committed yet."""
    frame = pl.DataFrame({"row_id": values, "text": [f"row {value}" for value in values]}, schema={"row_id": pl.Int64,
                                                                                                 "text": pl.String})
    part = write_part(warehouse.store, frame)
    base: dict[str, Any] = {
        "dataset": name,
        "version": 0,
        "commit_id": "",
        "kind": "rows",
        "op": "test.op",
        "op_version": 1,
        "recipe": "test",
        "step": name,
        "run_id": "",
        "fingerprint": f"of {values}",
        "family": "f",
        "identity": {},
        "work_key": "k",
        "content_hash": str(hash_rows(str(value).encode() for value in values)),
        "row_count": len(values),
        "bytes": part.bytes,
        "columns": {},
        "schemas": {"rows": pack_schema(frame)},
        "tables": {"rows": [part]},
        "inputs": [],
        "counts": Counts(owed=len(values), kept=len(values)),
    }
    return Manifest(**{**base, **fields})


def _commit(root: str, me: int, environment: dict[str, str], out: Any) -> None:
    os.environ.update(environment)
    warehouse = Warehouse(root)
    own = [warehouse.commit(draft(warehouse, "d/e", [me * 100 + at])).version for at in range(5)]
    out.put((own, [warehouse.commit(draft(warehouse, "d/e", [9, 9 + at])).version for at in range(3)]))


def test_four_committers_make_contiguous_versions_and_equal_ones_meet(new_root: Callable[[], Path | str]) -> None:
    root = new_root()
    Warehouse(root, create=True)
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_commit, args=(str(root), me, dict(os.environ), queue)) for me in range(1, 5)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    shared = [same for _, same in results]
    assert all(same == shared[0] for same in shared)
    versions = sorted([*(version for own, _ in results for version in own), *shared[0]])
    assert versions == list(range(1, 24))
    found = Warehouse(root)
    assert found.versions("d/e") == versions
    assert [item.version for item in found.manifests()] == versions
    assert {item.parent_version for item in found.manifests()} == {None, *range(1, 23)}


def test_the_same_content_is_the_same_version(warehouse: Warehouse) -> None:
    first = warehouse.commit(draft(warehouse, "d", [1, 2]))
    other = warehouse.commit(draft(warehouse, "d", [3]))
    again = warehouse.commit(draft(warehouse, "d", [1, 2]))
    assert (first.version, other.version, again) == (1, 2, first)
    assert warehouse.commit(draft(warehouse, "e", [1, 2])).ref == "e@1"
    assert warehouse.commit(draft(warehouse, "d", [1, 2], fingerprint="another step")).version == 3


def test_counts_that_do_not_balance_are_refused(warehouse: Warehouse) -> None:
    for counts in (Counts(owed=3, kept=2), Counts(owed=2, kept=2, rejected=1), Counts(owed=2, kept=1, failed=2)):
        with pytest.raises(WarehouseError):
            warehouse.commit(draft(warehouse, "d", [1, 2], counts=counts))
    assert warehouse.versions("d") == []


def test_a_part_that_is_gone_or_cut_is_refused(warehouse: Warehouse) -> None:
    made = draft(warehouse, "d", [1, 2])
    store, path = warehouse.store, made.tables["rows"][0].path
    store.replace(path, store.get(path)[:-10])
    with pytest.raises(WarehouseError):
        warehouse.commit(made)
    store.delete(path)
    with pytest.raises(WarehouseError):
        warehouse.commit(made)
    with pytest.raises(DamagedPart):
        read_part(warehouse.store, made.tables["rows"][0])
    assert warehouse.versions("d") == []
    write_part(warehouse.store, pl.DataFrame({"row_id": [1, 2], "text": ["row 1", "row 2"]}))
    assert warehouse.commit(made).version == 1


@pytest.mark.parametrize("name", ["", "/d", "d/", "a b", "../d", "a//b", "d@1", "x" * 201, ".hidden"])
def test_names_that_would_leave_the_folder_are_refused(name: str, warehouse: Warehouse) -> None:
    with pytest.raises((WarehouseError, ValueError)):
        warehouse.commit(draft(warehouse, name, [1]))


def test_tags_name_versions_and_can_be_moved(warehouse: Warehouse) -> None:
    for values in ([1], [2]):
        warehouse.commit(draft(warehouse, "d", values))
    warehouse.set_tag("d@1", "prod")
    assert warehouse.manifest("d@prod").version == 1
    warehouse.set_tag("d", "prod")
    assert Warehouse(warehouse.root).manifest("d@prod").version == 2
    for tag in ("", "3", "a b", "../x"):
        with pytest.raises((WarehouseError, ValueError)):
            warehouse.set_tag("d", tag)
    for ref in ("d@dev", "d@7"):
        with pytest.raises(NotInWarehouse):
            warehouse.manifest(ref)


@pytest.mark.parametrize("ref", ["pico/reasonin", "pico/reasonin@1", "pico/reasonin@prod"])
def test_an_unknown_name_gets_the_nearest_ones(ref: str, warehouse: Warehouse) -> None:
    warehouse.commit(draft(warehouse, "pico/reasoning", [1]))
    with pytest.raises(NotInWarehouse, match=r"pico/reasoning\b"):
        warehouse.dataset(ref)


def test_the_latest_is_the_newest_whole_version(warehouse: Warehouse) -> None:
    warehouse.commit(draft(warehouse, "d", [1], partial=True))
    assert warehouse.manifest("d").version == 1
    warehouse.commit(draft(warehouse, "d", [1, 2]))
    warehouse.commit(draft(warehouse, "d", [1, 2, 3], partial=True))
    assert warehouse.manifest("d").version == 2


def test_only_a_warehouse_opens_as_one(warehouse: Warehouse, new_root: Callable[[], Path | str]) -> None:
    nothing = new_root()
    with pytest.raises(NotInWarehouse):
        Warehouse(nothing)
    assert not Path(nothing).exists()
    warehouse.store.replace("warehouse.json", b'{"format": 99}')
    with pytest.raises(WarehouseError):
        Warehouse(warehouse.root)


def test_a_copied_warehouse_reads_itself(local_warehouse: Warehouse, tmp_path: Path) -> None:
    local_warehouse.commit(draft(local_warehouse, "d", [1, 2]))
    Path(local_warehouse.root).rename(tmp_path / "moved")
    assert Warehouse(tmp_path / "moved").dataset("d").scan().collect()["row_id"].to_list() == [1, 2]


def test_equal_tables_are_one_part_however_they_lie_in_memory(warehouse: Warehouse) -> None:
    frame = pl.DataFrame({"row_id": range(3000), "text": [f"text {at % 77}" for at in range(3000)],
                          "messages": [[{"role": "user", "content": str(at)}] for at in range(3000)]})
    halves = pl.concat([frame[:1000], frame[1000:]], rechunk=False)
    part = write_part(warehouse.store, frame)
    assert write_part(warehouse.store, halves) == part
    assert write_part(warehouse.store, read_part(warehouse.store, part)) == part
    assert (part.rows, part.min_row_id, part.max_row_id) == (3000, 0, 2999)
    assert write_part(warehouse.store, frame.reverse()).sha256 != part.sha256


def test_row_groups_are_cut_by_bytes(warehouse: Warehouse) -> None:
    narrow = write_part(warehouse.store, pl.DataFrame({"row_id": range(70_000)}))
    assert pq.ParquetFile(io.BytesIO(warehouse.store.get(narrow.path))).num_row_groups == 2
    text = "".join(chr(33 + at % 90) for at in range(5_000_000))
    wide = write_part(warehouse.store, pl.DataFrame({"row_id": range(20), "text": [f"{at}{text}" for at in range(20)]}))
    file = pq.ParquetFile(io.BytesIO(warehouse.store.get(wide.path)))
    sizes = [file.metadata.row_group(at).total_byte_size for at in range(file.num_row_groups)]
    assert file.num_row_groups >= 3
    assert max(sizes) <= 48 << 20


def test_text_has_wide_offsets_and_every_value_comes_back(warehouse: Warehouse) -> None:
    frame = pl.DataFrame(
        {
            "row_id": [1, 2, 3],
            "text": ["x" * 5_000_000, "", None],
            "odd": ["\x00", "👩‍👩‍👧", "\u202eRTL"],
            "raw": [b"\x00\xff", b"", None],
            "messages": [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}], [], None],
            "deep": [{"a": [{"b": [1, 2]}]}, {"a": []}, None],
            "flags": [True, None, False],
            "real": [1.5, float("nan"), None],
        }
    )
    part = write_part(warehouse.store, frame)
    assert read_part(warehouse.store, part).equals(frame, null_equal=True)
    assert read_part(warehouse.store, part, ["text", "row_id"]).columns == ["text", "row_id"]
    schema = pq.read_schema(io.BytesIO(warehouse.store.get(part.path)))
    assert str(schema.field("text").type) == "large_string"
    empty = write_part(warehouse.store, frame.head(0))
    assert read_part(warehouse.store, empty).schema == frame.schema


def test_checkpoints_are_versions_of_files(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "sub/config.json").write_text("{}")
    record = {"base": None, "dataset_ref": "d@1", "fingerprint": "f", "metrics": {"loss": 1.0}, "run_id": "r"}
    first = warehouse.commit_checkpoint("line/m", folder, record)
    assert warehouse.commit_checkpoint("line/m", folder, record) == first
    (folder / "model.bin").write_bytes(b"other weights")
    second = warehouse.commit_checkpoint("line/m", folder, record)
    assert [found.ref for found in warehouse.checkpoints("line/m")] == ["line/m@1", "line/m@2"]
    assert (warehouse.checkpoint("line/m"), warehouse.checkpoint("line/m@1")) == (second, first)
    laid = warehouse.checkpoint_folder(first, tmp_path / "laid")
    assert (laid / "model.bin").read_bytes() == b"weights"
    assert (laid / "sub/config.json").read_text() == "{}"
    with pytest.raises(NotInWarehouse):
        warehouse.checkpoint("line/n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WarehouseError):
        warehouse.commit_checkpoint("line/m", tmp_path / "empty", record)
