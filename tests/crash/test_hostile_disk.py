"""Disks that are full, read-only or damaged, and clocks that lie: the error names the cause, nothing that was committed
is lost or half-written, and the same command goes on once the cause is gone."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from store_world import (
    DAY,
    age_files,
    assert_sound,
    child,
    draft,
    ended,
    factory,
    plain_duckdb,
    records_on_disk,
    run_recipe,
    selection,
    state_of,
)

from warehouse import NotInWarehouse, Warehouse, WarehouseError, layout, lineage
from warehouse.errors import BadQuery, DamagedPart
from warehouse.ids import claim_namespace
from warehouse.parts import read_part, write_part
from warehouse.upkeep.fsck import check
from warehouse.upkeep.gc import collect

ROOT = os.geteuid() == 0
MOUNTS = pytest.mark.skipif(not ROOT, reason="mounting a small disk needs root; see test_mounts_in_a_namespace")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    at = tmp_path / "disk"
    at.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield at
    subprocess.run(["umount", "-l", str(at)], check=True)


@pytest.mark.skipif(ROOT, reason="root mounts without a namespace")
def test_mounts_in_a_namespace(tmp_path: Path) -> None:
    """Where we are not root: the tests that mount, in a namespace where we are."""
    inside = ["unshare", "-rm", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k",
              "full_disk or read_only_disk"]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("this kernel lets only root mount")
    done = subprocess.run([*inside, "--basetemp", str(tmp_path / "inside")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@contextlib.contextmanager
def _full(disk: Path, left: int) -> Iterator[None]:
    """The disk with only so many bytes left."""
    ballast = disk / "ballast"
    found = os.statvfs(disk)
    with open(ballast, "wb") as file:
        file.write(b"\0" * max(0, found.f_bavail * found.f_frsize - left))
    try:
        yield
    finally:
        ballast.unlink()


# -- no room ---------------------------------------------------------------------------------------------------------

@MOUNTS
def test_a_commit_on_a_full_disk(disk: Path) -> None:
    """Room for a little more each time, so that it ends in every part of a commit; at last it goes through."""
    root = disk / "w"
    first = Warehouse(root, create=True)
    first.commit(draft(first, "a", [1, 2]))
    first.sql("SELECT count(*) FROM datasets")
    refused = 0
    for left in range(0, 1 << 17, 4096):
        before = records_on_disk(root)
        opened = Warehouse(root)
        with _full(disk, left):
            reason = _refusal(opened)
            refused += bool(reason)
            assert "No space left" in reason or not reason
            assert not reason or records_on_disk(root) == before
            assert set(Warehouse(root).sql("SELECT row_id FROM members('a@1')")["row_id"]) == {1, 2}
            assert Warehouse(root).dataset("a@1").scan().collect().height == 2
        if not refused or left % 32768 == 0:
            assert_sound(root)
        if len(records_on_disk(root)) == 2:
            break
    assert refused
    assert Warehouse(root).versions("a") == [1, 2]
    assert_sound(root)
    plain_duckdb(root)


def _refusal(opened: Warehouse) -> str:
    """Why a commit was refused, if it was."""
    try:
        opened.commit(draft(opened, "a", [1, 2, 3]))
    except WarehouseError as error:
        return str(error)
    return ""


@MOUNTS
@pytest.mark.parametrize("left", [40_000, 90_000, 150_000])
def test_a_run_on_a_full_disk(disk: Path, tmp_path: Path, left: int) -> None:
    for name in ("undisturbed", "told"):
        (tmp_path / name).mkdir()
    assert ended(child(run_recipe, tmp_path / "undisturbed")) == 0
    shutil.copy(tmp_path / "undisturbed/small.yaml", disk)
    told = tmp_path / "told/out.txt"
    command = ("run", str(disk / "small.yaml"), "--warehouse", str(disk / "warehouse"), "--executor", "inline",
               "--quiet", "--vars", f"to={disk / 'published'}")
    with _full(disk, left):
        assert ended(child(_run, command, told)) == 1
    assert "No space left" in told.read_text()
    assert "Traceback" not in told.read_text()
    assert_sound(disk / "warehouse")
    left_behind = records_on_disk(disk / "warehouse")
    assert ended(child(_run, command, told)) == 0
    assert left_behind.items() <= records_on_disk(disk / "warehouse").items()
    assert state_of(disk / "warehouse") == state_of(tmp_path / "undisturbed/warehouse")
    assert_sound(disk / "warehouse")


def _run(command: tuple[str, ...], out: Path) -> None:
    """A `factory` command as a child's work."""
    factory(*command, out=out)


# -- no writing ------------------------------------------------------------------------------------------------------

@MOUNTS
@pytest.mark.parametrize("catalog", ["up to date", "behind", "gone"])
def test_a_read_only_disk(disk: Path, tmp_path: Path, catalog: str) -> None:
    """Every reading command works and leaves nothing anywhere; a run says why it cannot."""
    assert ended(child(run_recipe, disk)) == 0
    assert ended(child(run_recipe, disk, 3)) == 0
    root = disk / "warehouse"
    if catalog == "behind":
        opened = Warehouse(root)
        opened.commit(draft(opened, "late", [1, 2, 3]))
    row = str(Warehouse(root).dataset("small/samples").scan().collect()["row_id"][0])
    if catalog == "gone":
        shutil.rmtree(root / layout.CATALOG)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (tmp_path / "scratch").mkdir()
    told = tmp_path / "told.txt"
    reading = [["ls"], ["ls", "--all"], ["show", "small/chosen"], ["sql", "SELECT count(*) FROM datasets"],
               ["sql", 'SELECT * FROM "small/samples@1"'], ["trace", row], ["trace", row, "--down"], ["why", row],
               ["fsck"], ["diff", "small/samples@1", "small/samples@2"],
               ["plan", str(disk / "small.yaml"), "--vars", "n=3"]]
    for command in reading:
        argv = (*command, "--warehouse", str(root))
        assert ended(child(_in, tmp_path / "scratch", argv, told)) == 0, (command, told.read_text())
    assert list((tmp_path / "scratch").iterdir()) == []
    for command in (["run", str(disk / "small.yaml"), "--quiet", "--vars", "n=4"], ["tag", "small/samples@1", "x"],
                    ["rm", "small/samples@1"], ["gc"]):
        told.unlink(missing_ok=True)
        assert ended(child(_in, tmp_path / "scratch", (*command, "--warehouse", str(root)), told)) == 1, command
        assert "Read-only" in told.read_text(), (command, told.read_text())
        assert "Traceback" not in told.read_text()
    assert_sound(root)


def _in(scratch: Path, argv: tuple[str, ...], out: Path) -> None:
    """A command whose temporary files would be found."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    try:
        factory(*argv, out=out)
    finally:
        atexit._run_exitfuncs()  # as a command's own process does; one that was forked leaves that out


# -- damage ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions of content, one of which a selection was made from."""
    made = Warehouse(tmp_path / "w", create=True)
    assert claim_namespace(made.store, {"dataset": "good", "step": "good", "op": "test.op", "work_key": ""}) == 1
    good = made.commit(draft(made, "good", range(1 << 40, (1 << 40) + 500)))
    made.commit(draft(made, "bad", range(1000, 1500)))
    made.commit(selection(made, "few", good, [(1 << 40) + 7]))
    return made.root


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "gone"])
def test_one_damaged_part_hurts_nothing_else(root: Path, damage: str, asked_before: bool) -> None:
    if asked_before:
        Warehouse(root).sql("SELECT count(*) FROM datasets")
    part = Warehouse(root).manifest("bad").tables["rows"][0]
    path = root / part.path
    whole = path.read_bytes()
    at = len(whole) // 3
    torn = {"truncated": whole[:-100], "emptied": b"", "gone": None,
            "flipped": whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1:]}[damage]
    path.unlink()
    if torn is not None:
        path.write_bytes(torn)
    opened = Warehouse(root)
    assert opened.sql('SELECT count(*) FROM good').item() == 500
    assert opened.sql('SELECT text FROM few').item() == f"the text of row {(1 << 40) + 7}"
    assert [hop.dataset for hop in lineage.trace_up(opened, (1 << 40) + 7)] == ["good@1"]
    found = check(opened).damage
    assert [damage.where for damage in found] == [part.path]
    assert "bad@1" in found[0].what
    if damage != "flipped":  # a wrong byte of text may be readable: only the sha256 knows
        with pytest.raises(DamagedPart, match=part.sha256[:8]):
            read_part(opened.store, part)
        with pytest.raises((DamagedPart, BadQuery), match=part.sha256[:8]):
            opened.sql("SELECT count(text), max(length(text)) FROM bad")
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    assert Warehouse(root).sql('SELECT count(*) FROM bad').item() == 500
    assert_sound(root)


def test_a_manifest_that_nobody_announced(root: Path) -> None:
    """As from a tool that only copies files: found by fsck, and known after its repair."""
    opened = Warehouse(root)
    opened.sql("SELECT 1")
    made = draft(opened, "stray", [1, 2, 3]).model_copy(update={"version": 1, "commit_id": "x"})
    opened.store.put_if_absent(layout.manifest("stray", 1), made.to_json())
    assert Warehouse(root).versions("stray") == []
    assert any("stray" in note.what for note in check(opened).notes)
    assert check(opened, repair=True).clean
    assert Warehouse(root).versions("stray") == [1]
    again = Warehouse(root)
    assert again.commit(draft(again, "stray", [4])).version == 2
    assert_sound(root)


def test_an_announcement_whose_writer_died(root: Path) -> None:
    """Nothing waits for it, and its number is used by whoever comes next."""
    opened = Warehouse(root)
    for _ in range(3):
        opened.feed.announce(layout.manifest("good", 2))
    opened.feed.announce(layout.tombstone(layout.manifest("good", 1)))
    assert Warehouse(root).versions("good") == [1]
    assert not Warehouse(root).sql("SELECT deleted FROM datasets WHERE ref = 'good@1'").item()
    again = Warehouse(root)
    assert again.commit(draft(again, "good", [5])).ref == "good@2"
    assert opened.versions("good") == [1, 2]
    assert_sound(root)


def test_plain_duckdb_after_a_collection(root: Path) -> None:
    """What a collection took is no view's business any more, even if nobody asked through us since."""
    opened = Warehouse(root)
    opened.sql("SELECT count(*) FROM bad")
    opened.delete("bad@1")
    for _ in range(2):
        age_files(root, 30)
        collect(opened)
    assert not (root / opened.any_manifest("bad@1").tables["rows"][0].path).exists()
    assert plain_duckdb(root)["good@1"] == (False, 500)
    assert_sound(root)


# -- time ------------------------------------------------------------------------------------------------------------

CLOCK = """
import datetime, os, time
shift, real = float(os.environ["TEST_CLOCK_DAYS"]) * 86400, time.time
time.time = lambda: real() + shift
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)
datetime.datetime = Shifted
"""
WORK = """
import sys
sys.path.insert(0, {folder!r})
from store_world import draft
from warehouse import Warehouse
from warehouse.upkeep.gc import collect
opened = Warehouse({root!r})
{work}
"""


def _at(days: float, root: Path, work: str) -> str:
    """What a process prints whose clock is wrong by so many days."""
    shim = root.parent / "clock"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(CLOCK)
    script = WORK.format(folder=str(Path(__file__).parent), root=str(root), work=work)
    paths = os.pathsep.join([str(shim), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": paths, "TEST_CLOCK_DAYS": str(days)})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_clock_that_jumps_orders_nothing(root: Path) -> None:
    for number, days in ((2, 400), (3, -400), (4, 0)):
        _at(days, root, f'opened.commit(draft(opened, "good", [{number}]))')
    opened = Warehouse(root)
    made = [opened.manifest(f"good@{number}") for number in (1, 2, 3, 4)]
    times = [found.created_at for found in made]
    assert times != sorted(times)  # the clocks were really wrong
    assert opened.manifest("good").version == 4
    assert opened.sql("SELECT ref FROM datasets WHERE latest AND dataset = 'good'").item() == "good@4"
    assert opened.sql("SELECT ref FROM datasets WHERE dataset = 'good' ORDER BY sequence")["ref"].to_list() == [
        f"good@{number}" for number in (1, 2, 3, 4)]
    assert opened.sql("SELECT row_id FROM good").item() == 4
    assert_sound(root)


def test_a_clock_that_jumps_deletes_nothing_young(root: Path) -> None:
    opened = Warehouse(root)
    write_part(opened.store, pl.DataFrame({"row_id": [77]}))  # somebody is about to commit this
    opened.delete("bad@1")
    parts = {path: path.stat().st_size for path in root.glob("parts/*/*.parquet")}
    for days in (400, 400, -400, 400, 0):
        _at(days, root, "collect(opened)")
    for path in parts:  # a disk whose files come from the future
        os.utime(path, (path.stat().st_mtime + 400 * DAY,) * 2)
    for days in (0, 0, 400):
        _at(days, root, "collect(opened)")
    assert {path: path.stat().st_size for path in root.glob("parts/*/*.parquet")} == parts
    assert Warehouse(root).restore("bad@1").version == 1
    assert_sound(root)


# -- elsewhere, and small --------------------------------------------------------------------------------------------

def test_a_copied_warehouse_goes_on(tmp_path: Path) -> None:
    """A run in a copy extends what was made in the original, and asks for no answer twice."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    assert ended(child(run_recipe, here)) == 0
    shutil.copytree(here, there)
    shutil.rmtree(here)
    root = there / "warehouse"
    assert_sound(root)
    assert plain_duckdb(root).keys() == {made.ref for made in Warehouse(root).manifests()}
    assert ended(child(run_recipe, there, 3)) == 0
    usage = Warehouse(root).manifest("small/samples").usage
    assert (Warehouse(root).versions("small/samples"), usage.requested) == ([1, 2], 6)
    assert_sound(root)
    with pytest.raises(NotInWarehouse):
        Warehouse(here / "warehouse")


@pytest.mark.slow
def test_five_thousand_tiny_parts(tmp_path: Path) -> None:
    opened = Warehouse(tmp_path / "w", create=True)
    assert claim_namespace(opened.store, {"dataset": "many", "step": "many", "op": "test.op", "work_key": ""}) == 1
    ids = range(1 << 40, (1 << 40) + 5000)
    whole = draft(opened, "many", ids)
    frame = read_part(opened.store, whole.tables["rows"][0])
    parts = [write_part(opened.store, piece) for piece in frame.iter_slices(1)]
    made = opened.commit(whole.model_copy(update={"tables": {"rows": parts}, "bytes": sum(p.bytes for p in parts)}))
    again = Warehouse(opened.root)
    assert again.sql("SELECT count(*) FROM members('many@1')").item() == made.row_count == 5000
    assert [hop.row_id for hop in lineage.trace_up(again, ids[4321])] == [ids[4321]]
    assert again.dataset("many").scan().filter(pl.col("row_id") == ids[17]).collect().height == 1
    assert again.sql("SELECT count(text) FROM many").item() == 5000
    assert check(again, quick=True).clean
