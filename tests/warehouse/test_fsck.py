"""Whatever is wrong with a warehouse is named, all of it, and a whole one is clean wherever it lies."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bundles import (
    chain,
    derived,
    draft,
    edges_of,
    first_part,
    keyed,
    parts_of,
    refusals,
    selection,
    source,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_store import draft as store_draft

from warehouse import Warehouse, layout
from warehouse.content import hash_frame, hash_rows
from warehouse.dataset import pack_schema
from warehouse.parts import write_part
from warehouse.records import Counts, Manifest, ShardRecord
from warehouse.upkeep import fsck
from warehouse.upkeep.fsck import FsckReport

Made = dict[str, Manifest]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "w", create=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """A warehouse with one of everything, to copy and to spoil."""
    root = tmp_path_factory.mktemp("whole") / "w"
    made = Warehouse(root, create=True)
    chained = chain(made)
    made.set_tag("a/chosen@1", "prod")
    trained = root.parent / "trained"
    trained.mkdir()
    (trained / "model.bin").write_bytes(b"weights" * 100)
    made.commit_checkpoint("line/m", trained, {"base": None, "dataset_ref": "a/chosen@1", "fingerprint": "f",
                                               "metrics": {}, "run_id": "r"})
    made.sql("SELECT 1")
    return root, chained


@pytest.fixture
def copied(whole: tuple[Path, Made], tmp_path: Path) -> Path:
    shutil.copytree(whole[0], tmp_path / "copy")
    return tmp_path / "copy"


def check(root: Path, **options: Any) -> FsckReport:
    return fsck.check(Warehouse(root), **options)


def kinds(report: FsckReport) -> set[str]:
    return {damage.kind for damage in report.damage}


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_whole_warehouse_and_its_copy_are_clean(whole: tuple[Path, Made], copied: Path) -> None:
    for root in (whole[0], copied):
        for quick in (False, True):
            report = check(root, quick=quick)
            assert report.damage == []
            assert report.clean
            assert report.checked["versions"] == 4
            assert report.checked["parts"] == len(parts_of(*whole[1].values()))
    full = check(copied)
    assert full.checked["edges"] == 11
    assert full.checked["content hashes"] == 4
    assert full.checked["checkpoint files"] == 1


def test_progress_is_told(whole: tuple[Path, Made]) -> None:
    told: list[tuple[str, int, int]] = []
    check(whole[0], progress=lambda what, done, total: told.append((what, done, total)))
    assert {what for what, _, _ in told} == {"parts", "versions"}
    assert all(0 <= done < total for _, done, total in told)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("spoil", [_cut, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("table", ["rows", "row_lineage", "rejections"])
def test_a_spoilt_part_is_named(spoil: Callable[[Path], Any], table: str, whole: tuple[Path, Made],
                                copied: Path) -> None:
    part = first_part(whole[1]["derived"], table)
    spoil(copied / part.path)
    report = check(copied)
    assert [(damage.kind, damage.where) for damage in report.damage] == [("part", part.path)]
    assert report.damage[0].next_act
    if spoil is not _flip:
        assert not check(copied, quick=True).clean


def test_all_damage_is_named_not_only_the_first(whole: tuple[Path, Made], copied: Path) -> None:
    paths = parts_of(*whole[1].values())
    for number, path in enumerate(sorted(paths)):
        (_cut, _flip, Path.unlink)[number % 3](copied / path)
    (copied / "ids/00000001.json").write_text("{")
    report = check(copied)
    assert {damage.where for damage in report.damage} == {*paths, "ids/00000001.json"}


RECORDS = ["datasets/a/source/v00000001.json", "datasets/a/chosen/v00000001.json", "checkpoints/line/m/v00000001.json",
           "ids/00000002.json", "refs/a/chosen/prod.json", "feed/00000002.json"]


@pytest.mark.parametrize("key", RECORDS)
@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "\x00\xff", '{"a": ' * 200])
def test_a_record_that_cannot_be_read_is_named(key: str, text: str, copied: Path) -> None:
    (copied / key).write_text(text)
    report = check(copied)
    if not (key.startswith("ids") and text == '{"format": 1}'):
        assert key in {damage.where for damage in report.damage}


def test_the_missing_manifest_of_an_input(copied: Path) -> None:
    key = "datasets/a/derived/v00000001.json"
    (copied / key).unlink()
    report = check(copied)
    assert {damage.what for damage in report.damage if damage.kind == "input"} == {"a/scores@1", "a/chosen@1"}
    assert {damage.where for damage in report.damage if damage.kind == "input"} == {key}


@pytest.mark.parametrize(("change", "kind"), [
    (lambda m: m.update(row_count=3), "counts"),
    (lambda m: m.update(bytes=3), "counts"),
    (lambda m: m["counts"].update(kept=3), "counts"),
    (lambda m: m["counts"].update(rejected=0, owed=11), "counts"),
    (lambda m: m.update(content_hash="mset256:11:" + "0" * 64), "content"),
    (lambda m: m.update(version=2), "record"),
    (lambda m: m.update(dataset="b/derived"), "record"),
    (lambda m: m["tables"]["rows"][0].update(min_row_id=1), "part"),
    (lambda m: m["tables"]["rows"][0].update(rows=12), "part"),
    (lambda m: m["tables"]["rows"][0].update(path="parts/00/x.parquet"), "record"),
    (lambda m: m["inputs"][0].update(parts_digest="x"), "input"),
    (lambda m: m["inputs"][0].update(version=7), "input"),
    (lambda m: m["tables"].pop("rejections"), "counts"),
    (lambda m: m["tables"].pop("rows"), "counts"),
    (lambda m: m.update(sequence=1), "feed"),
])
def test_an_edited_manifest_does_not_pass(change: Callable[[dict[str, Any]], Any], kind: str, copied: Path) -> None:
    edit(copied / "datasets/a/derived/v00000001.json", change)
    assert kind in kinds(check(copied))


def _with_edges(warehouse: Warehouse, above: Manifest, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Manifest:
    made = derived(warehouse, "bad", above, commit=False)
    edges = change(pl.read_parquet(warehouse.root / first_part(made, "row_lineage").path))
    part = write_part(warehouse.store, edges)
    was = first_part(made, "row_lineage")
    return warehouse.commit(made.model_copy(update={"tables": {**made.tables, "row_lineage": [part]},
                                                    "bytes": made.bytes - was.bytes + part.bytes}))


@pytest.mark.parametrize("change", [
    lambda e: e.with_columns(parent_row_id=pl.lit(77, pl.Int64)),
    lambda e: e.with_columns(parent_row_id=pl.lit(None, pl.Int64)),
    lambda e: e.with_columns(parent_row_id="child_row_id"),
    lambda e: e.with_columns(child_row_id=pl.col("child_row_id") + 1),
    lambda e: e.reverse(),
])
def test_an_edge_to_nowhere(change: Callable[[pl.DataFrame], pl.DataFrame], warehouse: Warehouse) -> None:
    above = source(warehouse, "s", ["a", "b", "c"])
    assert fsck.check(warehouse).clean
    _with_edges(warehouse, above, change)
    assert kinds(fsck.check(warehouse)) & {"edge", "part"}


def test_rows_that_are_there_twice_or_out_of_order(warehouse: Warehouse) -> None:
    space = 1 << 40
    (warehouse.root / "ids").mkdir()
    (warehouse.root / "ids/00000001.json").write_text(json.dumps({"dataset": "d", "step": "d", "op": "o"}))
    good = keyed([space, space + 1], ["a", "b"])
    keys = good["row_key"].to_list()
    for at, frames in enumerate([[good, good], [good.reverse()], [pl.concat([good, good]).sort("row_id")]]):
        content = hash_rows(keys * (sum(frame.height for frame in frames) // 2))
        made = warehouse.commit(draft(warehouse, f"d{at}", "rows", {"rows": frames}, content))
        report = fsck.check(warehouse)
        assert any(made.ref in damage.what and damage.kind in ("rows", "part") for damage in report.damage)
        warehouse.delete(made.ref)
        assert fsck.check(warehouse).clean
    warehouse.commit(draft(warehouse, "e", "rows", {"rows": [keyed([5 * space], ["a"])]}, hash_rows(keys[:1])))
    assert kinds(fsck.check(warehouse)) == {"rows"}  # nobody owns the namespace


def test_refusals_and_choices_of_rows_that_never_were(warehouse: Warehouse) -> None:
    above = source(warehouse, "s", ["a", "b", "c"])
    chosen = pl.DataFrame({"row_id": [3], "weight": pl.Series([1], dtype=pl.Int32)})
    content = hash_frame(chosen.with_columns(row_key=pl.lit(b"x" * 16)), columns=["weight"])
    warehouse.commit(draft(warehouse, "choice", "selection", {"selection": [chosen]}, content, [above]))
    assert "choice" in kinds(fsck.check(warehouse))
    warehouse.delete("choice@1")
    assert fsck.check(warehouse).clean
    nobody = draft(warehouse, "refused", "selection", {"selection": [chosen.head(0)], "rejections": [
        refusals(pl.Series([4]))]}, hash_rows([]), [above])
    warehouse.commit(nobody)
    assert kinds(fsck.check(warehouse)) == {"refusal"}
    # a choice among a choice is held to what was chosen
    warehouse.delete("refused@1")
    first = selection(warehouse, "first", above)
    warehouse.commit(draft(warehouse, "second", "selection", {"selection": [pl.read_parquet(
        warehouse.root / first_part(first, "rejections").path).select("row_id", weight=pl.lit(1, pl.Int32))]},
        hash_rows([]), [first]))
    assert "choice" in kinds(fsck.check(warehouse))


def test_superseded_rows_count_no_more(warehouse: Warehouse) -> None:
    rows = keyed([1, 2, 3], ["a", "b", "c"])
    gone = rows.filter(pl.col("row_id") == 2)
    tables = {"rows": [rows], "superseded": [gone.select("row_id")]}
    content = hash_rows(rows["row_key"].to_list()) - hash_rows(gone["row_key"].to_list())
    warehouse.commit(draft(warehouse, "d", "rows", tables, content, row_count=2, counts=Counts(owed=2, kept=2)))
    assert fsck.check(warehouse).clean
    warehouse.commit(draft(warehouse, "e", "rows", tables, hash_rows(rows["row_key"].to_list()), row_count=2,
                           counts=Counts(owed=2, kept=2)))
    assert kinds(fsck.check(warehouse)) == {"content"}


def test_tags_tombstones_checkpoints_and_the_catalog(copied: Path) -> None:
    (copied / "refs/a/chosen/old.json").write_text('{"version": 9}')
    (copied / "datasets/a/chosen/v00000007.tomb.json").write_text(
        '{"key": "datasets/a/chosen/v00000007.json", "deleted_at": "", "reason": ""}')
    record = json.loads((copied / "checkpoints/line/m/v00000001.json").read_text())
    file = layout.checkpoint_file(record["files"]["model.bin"])
    _flip(copied / file)
    (copied / "catalog/state.json").write_text("{")
    report = check(copied)
    assert kinds(report) == {"tag", "tombstone", "checkpoint", "catalog"}
    assert {damage.where for damage in report.damage} == {
        "refs/a/chosen/old.json", "datasets/a/chosen/v00000007.tomb.json", file, "catalog/state.json"}
    (copied / file).unlink()
    assert "checkpoint" in kinds(check(copied, quick=True))
    assert "catalog" not in kinds(check(copied, repair=True))
    assert "catalog" not in kinds(check(copied))


def test_what_nobody_announced_is_announced(copied: Path) -> None:
    """A version that a copy brought without its announcement."""
    key = "datasets/a/chosen/v00000001.json"
    other = copied / "datasets/a/other/v00000001.json"
    other.parent.mkdir()
    shutil.copy(copied / key, other)
    edit(other, lambda m: m.update(dataset="a/other", sequence=0))
    report = check(copied)
    assert report.clean
    assert any(note.kind == "feed" for note in report.notes)
    assert "a/other" not in Warehouse(copied).sql("SELECT dataset FROM datasets")["dataset"].to_list()
    assert check(copied, repair=True).repaired
    assert not any(note.kind == "feed" for note in check(copied).notes)
    assert "a/other" in Warehouse(copied).sql("SELECT dataset FROM datasets")["dataset"].to_list()


def test_a_marker_with_nothing_behind_it(warehouse: Warehouse) -> None:
    part = write_part(warehouse.store, pl.DataFrame({"row_id": [1]}))
    shard = ShardRecord(shard="0", tables={"rows": part}, content_hash="")
    warehouse.store.put_if_absent(layout.work_shard("k", 0), shard.to_json())
    assert fsck.check(warehouse).clean
    warehouse.store.delete(part.path)
    assert kinds(fsck.check(warehouse)) == {"marker"}
    assert fsck.check(warehouse, repair=True).repaired
    assert fsck.check(warehouse).clean
    assert not warehouse.store.exists(layout.work_shard("k", 0))


def test_what_only_takes_room_is_no_damage(warehouse: Warehouse) -> None:
    chain(warehouse)
    write_part(warehouse.store, pl.DataFrame({"row_id": [1]}))
    (warehouse.root / "tmp/gone-1-0000/deep").mkdir(parents=True)
    report = fsck.check(warehouse)
    assert report.clean
    assert {"orphans", "scratch"} <= {note.kind for note in report.notes}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_bytes_that_change_anywhere_never_pass_for_a_part_and_never_raise(
        seed: int, whole: tuple[Path, Made], tmp_path_factory: pytest.TempPathFactory) -> None:
    dice = random.Random(seed)
    root = tmp_path_factory.mktemp("spoilt") / "w"
    shutil.copytree(whole[0], root)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "warehouse.json"
                   and path.stat().st_size)
    path = dice.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 8])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(bytes(data))
    report = check(root)
    if path.parts[-3] == "parts":
        assert [damage.where for damage in report.damage] == [path.relative_to(root).as_posix()] or (
            path.read_bytes() == (whole[0] / path.relative_to(root)).read_bytes())
    shutil.rmtree(root)


def _tiny(warehouse: Warehouse, count: int) -> Manifest:
    start = 1 << 40
    rows = keyed(list(range(start, start + count)), [f"text {at}" for at in range(count)])
    (warehouse.root / "ids").mkdir(exist_ok=True)
    (warehouse.root / "ids/00000001.json").write_text(json.dumps({"dataset": "d", "step": "d", "op": "o"}))
    above = source(warehouse, "s", ["only"], parts=1)
    seed = pl.Series([first_part(above, "rows").min_row_id] * count)
    edges = edges_of(rows["row_id"], seed)
    frames = {"rows": [rows[at:at + 1] for at in range(count)],
              "row_lineage": [edges[at:at + 1] for at in range(count)]}
    return warehouse.commit(draft(warehouse, "tiny", "rows", frames, hash_rows(rows["row_key"].to_list()), [above]))


@pytest.mark.parametrize("count", [200, pytest.param(2500, marks=pytest.mark.exhaustive)])
def test_thousands_of_tiny_parts(count: int, warehouse: Warehouse) -> None:
    made = _tiny(warehouse, count)
    report = fsck.check(warehouse)
    assert report.clean
    assert report.checked["parts"] == 2 * count + 1
    assert report.checked["edges"] == count
    spoilt = [made.tables["rows"][7].path, made.tables["row_lineage"][-1].path]
    for path in spoilt:
        _flip(warehouse.root / path)
    assert {damage.where for damage in fsck.check(warehouse).damage} == set(spoilt)


def test_rows_without_their_key_are_named(local_warehouse: Warehouse) -> None:
    """The manifest promises a key for each row, and the part has none."""
    promised = pl.DataFrame(schema={"row_id": pl.Int64(), "row_key": pl.Binary(), "text": pl.String()})
    local_warehouse.commit(store_draft(local_warehouse, "d", [1, 2], schemas={"rows": pack_schema(promised)}))
    found = fsck.check(local_warehouse)
    assert any(damage.kind == "rows" and "row_key" in damage.found for damage in found.damage)
