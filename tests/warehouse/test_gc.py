"""Nothing that anybody needs is ever deleted, and what nobody needs goes, in two phases."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bundles import chain, derived, draft, keyed, parts_of, scores, source
from gc_kit import age, both_phases

from warehouse import NotInWarehouse, Warehouse, WarehouseError, faults, layout
from warehouse.content import hash_rows
from warehouse.errors import Conflict
from warehouse.parts import write_part
from warehouse.records import RunEnd, RunRecord, ShardRecord, WorkPlan, now
from warehouse.upkeep import fsck, gc
from warehouse.upkeep.gc import DAY


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "w", create=True)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    faults.arm(None)


def lying(warehouse: Warehouse) -> set[str]:
    return set(warehouse.store.keys("parts"))


def orphan(warehouse: Warehouse, value: int = 1) -> str:
    return write_part(warehouse.store, pl.DataFrame({"row_id": [value], "text": [f"orphan {value}"]})).path


def beating(warehouse: Warehouse, run_id: str = "r1") -> None:
    """A run that may be at work."""
    warehouse.start_run(RunRecord(run_id=run_id, recipe="r", recipe_version=1, recipe_text="", argv=[], host="h",
                                  user="u", git_commit=None, seed=0, started_at=now(), executor="e"))
    warehouse.heartbeat(run_id)


def shard(warehouse: Warehouse, work: str, name: str | int, *paths: Any, **fields: Any) -> str:
    key = layout.work_shard(work, name)
    record = ShardRecord(shard=str(name), tables={f"t{at}": part for at, part in enumerate(paths)}, content_hash="",
                         **fields)
    warehouse.store.put_if_absent(key, record.to_json())
    return key


def test_nothing_goes_from_a_warehouse_in_which_all_is_needed(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    for _ in range(3):
        report = both_phases(warehouse)
        assert (report.deleted, report.listed, report.waiting) == ({}, {}, 0)
    assert lying(warehouse) == parts_of(*made.values())
    assert report.kept["of a live version"] == len(parts_of(*made.values()))
    assert fsck.check(warehouse).clean


def test_two_phases_and_a_grace_between_them(warehouse: Warehouse) -> None:
    chain(warehouse)
    gone = orphan(warehouse)
    age(warehouse)
    first = gc.collect(warehouse)
    assert (first.listed["parts"].count, first.deleted) == (1, {})
    assert first.next_act
    soon = gc.collect(warehouse)  # the list has to wait
    assert (soon.deleted, soon.waiting) == ({}, 1)
    assert gone in lying(warehouse)
    age(warehouse)
    size = warehouse.store.size(gone)
    last = gc.collect(warehouse)
    assert last.deleted["parts"].count == 1
    assert last.deleted["parts"].bytes == size
    assert gone not in lying(warehouse)
    assert gc.collect(warehouse).next_act == "nothing to do"
    assert fsck.check(warehouse).clean


def test_a_dry_run_changes_nothing(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    warehouse.delete(made["scores"].ref)
    gc.collect(warehouse)
    age(warehouse)

    def everything() -> dict[str, bytes]:
        return {path.as_posix(): path.read_bytes() for path in warehouse.root.rglob("*") if path.is_file()}

    before = everything()
    report = gc.collect(warehouse, dry_run=True)
    assert report.deleted["parts"].count == len(parts_of(made["scores"]))
    assert everything() == before
    assert gc.collect(warehouse).deleted == report.deleted


def test_what_was_touched_since_it_was_listed_stays(warehouse: Warehouse) -> None:
    path = orphan(warehouse)
    gc.collect(warehouse)
    age(warehouse)
    assert orphan(warehouse) == path  # written again: somebody is about to commit it
    assert gc.collect(warehouse).deleted == {}
    assert path in lying(warehouse)


def test_what_is_touched_while_it_is_removed_is_put_back(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    path = orphan(warehouse)
    gc.collect(warehouse)
    age(warehouse)
    rename = os.rename

    def slow(source: Any, target: Any) -> None:  # the moment between gc's look and its hand
        if Path(source) == warehouse.root / path:
            os.utime(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", slow)
    assert gc.collect(warehouse).deleted == {}
    assert path in lying(warehouse)


def test_a_deleted_version_keeps_what_others_need(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    for name in ("source", "derived", "scores"):
        warehouse.delete(made[name].ref)
    report = both_phases(warehouse)
    assert report.deleted["parts"].count == len(parts_of(made["scores"]))
    # the choice lives: its rows, their edges, refusals and where they come from stay readable
    assert lying(warehouse) == parts_of(made["source"], made["derived"], made["chosen"])
    assert fsck.check(warehouse).clean
    with pytest.raises(WarehouseError):
        warehouse.restore(made["scores"].ref)
    warehouse.restore(made["derived"].ref)
    assert warehouse.dataset("a/chosen").scan().collect().height == 6
    assert fsck.check(warehouse).clean


def test_when_all_is_deleted_all_goes_but_what_was_is_known(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    for found in made.values():
        warehouse.delete(found.ref)
    both_phases(warehouse)
    assert lying(warehouse) == set()
    assert len([key for key in warehouse.store.keys("datasets") if layout.version_of(key)]) == 4
    assert fsck.check(warehouse).clean
    again = chain(warehouse, rows=5)
    assert again["source"].version == 2  # numbers never come back
    assert fsck.check(warehouse).clean


def test_a_restored_version_is_whole_within_the_grace(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    warehouse.delete(made["scores"].ref)
    gc.collect(warehouse)
    warehouse.restore(made["scores"].ref)
    warehouse.delete(made["scores"].ref)  # again: its grace begins anew, though its parts were listed long ago
    age(warehouse, "gc", "parts")
    gc.collect(warehouse)
    assert parts_of(made["scores"]) <= lying(warehouse)
    warehouse.restore(made["scores"].ref)
    assert fsck.check(warehouse).clean


def test_checkpoints_keep_their_files_and_what_trained_them(warehouse: Warehouse, tmp_path: Path) -> None:
    made = chain(warehouse)
    for at, name in enumerate(("kept", "gone")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(name.encode())
        (tmp_path / name / "shared.json").write_text("{}")
        warehouse.commit_checkpoint(f"line/{name}", tmp_path / name, {
            "base": None, "dataset_ref": made["derived"].ref, "fingerprint": str(at), "metrics": {}, "run_id": "r"})
    for found in made.values():
        warehouse.delete(found.ref)
    warehouse.delete_checkpoint("line/gone@1")
    report = both_phases(warehouse)
    assert report.deleted["checkpoint files"].count == 1
    assert lying(warehouse) == parts_of(made["source"], made["derived"])
    assert len(list(warehouse.store.keys("checkpoints/files"))) == 2
    assert fsck.check(warehouse).clean
    assert warehouse.checkpoint_folder(warehouse.checkpoint("line/kept"), tmp_path / "laid")


def test_unfinished_work_stays_until_its_retention(warehouse: Warehouse) -> None:
    part = write_part(warehouse.store, pl.DataFrame({"row_id": [1]}))
    standing = write_part(warehouse.store, pl.DataFrame({"row_id": [2]}))
    plan = WorkPlan(key="k", shards=({"number": 0},), standing=standing)
    warehouse.store.put_if_absent(layout.work_plan("k"), plan.to_json())
    shard(warehouse, "k", 0, part)
    age(warehouse, seconds=3 * DAY)
    gc.collect(warehouse)
    age(warehouse, seconds=3 * DAY)
    assert gc.collect(warehouse).deleted == {}
    assert lying(warehouse) == {part.path, standing.path}
    report = both_phases(warehouse)
    assert {kind: tally.count for kind, tally in report.deleted.items()} == {"parts": 2, "work records": 2}
    assert not [key for key in warehouse.store.keys("work") if key.endswith(".json")]


def test_a_running_run_keeps_what_it_wrote_and_may_come_back_to(warehouse: Warehouse) -> None:
    old = orphan(warehouse, 1)
    resumed = write_part(warehouse.store, pl.DataFrame({"row_id": [5]}))
    shard(warehouse, "k", 0, resumed)
    warehouse.store.put_if_absent(layout.work_plan("k"), WorkPlan(key="k", shards=({"number": 0},)).to_json())
    read = source(warehouse, "s", ["a", "b"])
    age(warehouse)
    beating(warehouse)
    written = orphan(warehouse, 2)
    warehouse.delete(read.ref)  # while the run reads it
    gc.collect(warehouse, grace=0)
    gc.collect(warehouse, grace=0)
    assert lying(warehouse) == {resumed.path, written, *parts_of(read)}
    assert old not in lying(warehouse)
    warehouse.end_run(RunEnd(run_id="r1", status="failed", ended_at=now()))
    both_phases(warehouse)
    assert lying(warehouse) == set()


def test_an_increment_that_somebody_holds_is_kept(warehouse: Warehouse) -> None:
    """The same recipe again after its version was deleted: its old shards are being taken over."""
    made = source(warehouse, "s", ["a"], parts=1, work_key="k")
    warehouse.store.put_if_absent(layout.work_plan("k"), WorkPlan(key="k", shards=({"marker": "m"},)).to_json())
    mark = shard(warehouse, "k", 0, made.tables["rows"][0])
    shared = write_part(warehouse.store, pl.DataFrame({"row_id": [9]}))
    other = shard(warehouse, "op", "m", shared)
    warehouse.delete(made.ref)
    gc.collect(warehouse)
    age(warehouse)
    with warehouse.store.lease(layout.work_lock("k")):
        assert gc.collect(warehouse, grace=0).deleted == {}
    assert lying(warehouse) == {*parts_of(made), shared.path}
    both_phases(warehouse)
    assert lying(warehouse) == set()
    assert not warehouse.store.exists(mark)
    assert not warehouse.store.exists(other)


def test_shared_scores_that_a_live_version_took_stay_marked(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    mark = shard(warehouse, "op", "digest", made["scores"].tables["scores"][0])
    both_phases(warehouse)
    assert warehouse.store.exists(mark)
    warehouse.delete(made["scores"].ref)
    both_phases(warehouse)
    assert not warehouse.store.exists(mark)
    assert fsck.check(warehouse).clean


class Died(Exception):
    pass


@pytest.mark.parametrize("at", ["gc.listed", "gc.marked", "gc.unmarked", "gc.deleted"])
def test_markers_go_before_parts_wherever_it_dies(at: str, warehouse: Warehouse) -> None:
    made = chain(warehouse)
    plan = WorkPlan(key="k", base=made["scores"].ref, shards=({"number": 0},))
    warehouse.store.put_if_absent(layout.work_plan("k"), plan.to_json())
    shard(warehouse, "k", 0, made["scores"].tables["scores"][0])
    shard(warehouse, "k", 1, write_part(warehouse.store, pl.DataFrame({"row_id": [1]})))
    warehouse.delete(made["scores"].ref)
    age(warehouse)

    def die(name: str) -> None:
        if name == at:
            raise Died

    for _ in range(2):
        faults.arm(die)
        try:
            both_phases(warehouse)
        except Died:
            age(warehouse)
        report = fsck.check(warehouse)
        assert report.clean, report.damage  # no marker speaks of a part that is gone
        left = {key for key in warehouse.store.keys("work") if key.endswith(".json")}
        assert len(left) in (0, 3)  # a plan and its shards go together
    faults.arm(None)
    both_phases(warehouse)
    both_phases(warehouse)
    assert lying(warehouse) == parts_of(*(made[name] for name in ("source", "derived", "chosen")))
    assert fsck.check(warehouse).clean


def test_scratch_of_the_dead_goes_and_that_of_the_living_stays(warehouse: Warehouse) -> None:
    tmp = warehouse.root / "tmp"
    dead = mp.get_context("spawn").Process(target=print)
    dead.start()
    dead.join()
    host = socket.gethostname()
    names = {"gone": f"{host}-{dead.pid}-abc", "mine": f"{host}-{os.getppid()}-abc", "elsewhere": "other-host-1-abc",
             "laid": "checkpoints/0011"}
    for name in names.values():
        (tmp / name / "deep").mkdir(parents=True)
        (tmp / name / "deep/file").write_bytes(b"x" * 10)
    warehouse.store.clear_scratch()
    age(warehouse, "tmp", seconds=2 * DAY)
    beating(warehouse)
    report = gc.collect(warehouse)
    assert report.listed["scratch"].count == 1
    warehouse.end_run(RunEnd(run_id="r1", status="succeeded", ended_at=now()))
    gc.collect(warehouse)
    age(warehouse, "gc")
    report = gc.collect(warehouse)
    assert report.deleted["scratch"].count == 2
    assert report.deleted["scratch"].bytes == 20
    left = {path.relative_to(tmp).as_posix() for path in tmp.rglob("*") if path.name == "file"}
    assert left == {f"{names['mine']}/deep/file", f"{names['elsewhere']}/deep/file"}
    gc.collect(warehouse, retention=DAY, grace=0)
    gc.collect(warehouse, retention=DAY, grace=0)
    assert not [path for path in tmp.rglob("*") if path.name == "file"]


def test_a_clock_that_jumped_back_makes_nothing_old(warehouse: Warehouse) -> None:
    path = orphan(warehouse)
    gc.collect(warehouse)
    age(warehouse, seconds=-5 * DAY)  # all was written in what is now the future
    assert gc.collect(warehouse).deleted == {}
    assert path in lying(warehouse)


@pytest.mark.parametrize("key", ["datasets/a/chosen/v00000001.json", "work/k/shards/00000.json"])
def test_what_cannot_be_read_may_need_anything(key: str, warehouse: Warehouse) -> None:
    chain(warehouse)
    path = orphan(warehouse)
    gc.collect(warehouse)
    age(warehouse)
    (warehouse.root / key).parent.mkdir(parents=True, exist_ok=True)
    (warehouse.root / key).write_text("{")
    with pytest.raises(WarehouseError, match=key):
        gc.collect(warehouse)
    (warehouse.root / key).unlink()
    assert path in lying(warehouse)
    (warehouse.root / "datasets/a/source/v00000001.json").unlink()
    with pytest.raises(WarehouseError, match="a/source@1"):
        gc.collect(warehouse)
    assert path in lying(warehouse)


def test_lists_are_hints_and_no_orders(warehouse: Warehouse) -> None:
    """Whatever stands in a list, only what nothing needs goes, and only parts, files, journals and scratch."""
    made = chain(warehouse)
    keys = [*parts_of(*made.values()), "warehouse.json", "../outside", "datasets/a/chosen/v00000001.json", "/etc/none"]
    outside = warehouse.root.parent / "outside"
    outside.write_text("x")
    listed = {"format": 1, "keys": {kind: keys for kind in ("parts", "checkpoint files", "journals", "scratch", "?")}}
    (warehouse.root / "gc").mkdir(exist_ok=True)
    (warehouse.root / "gc/20200101T000000000Z-00000000.json").write_text(json.dumps(listed))
    (warehouse.root / "gc/20200101T000000000Z-00000001.json").write_text("no list")
    (warehouse.root / "gc/notes.txt").write_text("mine")
    age(warehouse)
    assert gc.collect(warehouse).deleted == {}
    assert fsck.check(warehouse).clean
    assert outside.exists()
    assert (warehouse.root / "gc/notes.txt").exists()


def test_one_collects_at_a_time(warehouse: Warehouse) -> None:
    with warehouse.store.lease(gc.COLLECTING), pytest.raises(Conflict):
        gc.collect(warehouse)
    assert gc.collect(warehouse).next_act == "nothing to do"


def test_the_catalog_is_made_again_without_what_is_gone(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    scores(warehouse, "more", made["derived"])
    assert warehouse.sql("SELECT count(*) n FROM verdicts").item() == 22
    warehouse.delete("more@1")
    both_phases(warehouse)
    assert Warehouse(warehouse.root).sql("SELECT count(*) n FROM verdicts").item() == 11
    assert fsck.check(warehouse).clean


def test_a_collected_warehouse_copies_and_grows(warehouse: Warehouse, tmp_path: Path) -> None:
    made = chain(warehouse)
    warehouse.delete(made["chosen"].ref)
    both_phases(warehouse)
    shutil.copytree(warehouse.root, tmp_path / "copy")
    other = Warehouse(tmp_path / "copy")
    derived(other, "b", other.manifest("a/derived"))
    assert fsck.check(other).clean
    with pytest.raises(NotInWarehouse):
        other.dataset("a/chosen")


def _adopt(root: str, me: int, commits: int, out: Any) -> None:
    """Write the very parts that are being collected, commit them, delete the version, and again; the last one stays."""
    warehouse = Warehouse(root)
    done = refused = 0
    while done < commits:
        shared = (done + refused) % 4
        rows = keyed([shared * 10 + at for at in range(3)], [f"shared {shared}"] * 3)
        try:
            made = draft(warehouse, f"d{me}", "rows", {"rows": [rows]}, hash_rows(rows["row_key"].to_list()),
                         fingerprint=f"{me} {done}")
            committed = warehouse.commit(made)
        except WarehouseError:  # collected between its writing and its commit: written again
            refused += 1
            continue
        done += 1
        if done < commits:
            warehouse.delete(committed.ref)
    out.put(refused)


@pytest.mark.parametrize("commits", [12, pytest.param(120, marks=pytest.mark.exhaustive)])
def test_commits_that_take_over_the_parts_that_are_collected(commits: int, warehouse: Warehouse) -> None:
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_adopt, args=(str(warehouse.root), me, commits, queue)) for me in range(4)]
    for worker in workers:
        worker.start()
    deleted = 0
    while any(worker.is_alive() for worker in workers):
        deleted += gc.collect(warehouse, grace=0).deleted.get("parts", gc.Tally()).count
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = fsck.check(Warehouse(warehouse.root))
    assert found.clean, found.damage[:3]
    assert found.checked["versions"] == 4 * commits
    print(f"{deleted} parts collected, {sum(queue.get() for _ in workers)} commits repeated")
    both_phases(warehouse)
    assert fsck.check(warehouse).clean
