"""Eight processes commit to one warehouse while others read it: versions are contiguous, every reader sees whole
versions only and never an error, equal content is one version, and a collection in the middle takes nothing in use."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from store_world import assert_sound, child, draft, ended, plain_duckdb, selection

from warehouse import Warehouse, WarehouseError, layout, lineage
from warehouse.ids import claim_namespace
from warehouse.records import Manifest
from warehouse.upkeep.gc import collect

WRITERS, ROUNDS = 8, 3
BASE = range(1 << 40, (1 << 40) + 10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A warehouse with one version."""
    made = Warehouse(tmp_path / "w", create=True)
    assert claim_namespace(made.store, {"dataset": "base", "step": "base", "op": "test.op", "work_key": ""}) == 1
    made.commit(draft(made, "base", BASE))
    made.sql("SELECT 1")
    return made.root


def _write(root: Path, me: int, rounds: int) -> None:
    """Commit to a name of one's own and to one that all share, choose from what is there, and move a tag."""
    for at in range(rounds):
        opened = Warehouse(root)
        first = 1000 * (1 + me * rounds + at)
        opened.commit(draft(opened, f"own/{me}", range(first, first + 5)))
        made = opened.commit(draft(opened, "shared", range(first + 10, first + 14)))
        opened.commit(selection(opened, "chosen", made, [first + 10, first + 11]))
        opened.set_tag(made.ref, "newest")
        if me == 0:  # a tag that comes and goes
            opened.set_tag("own/0@1", "passing")
            opened.remove_tag("own/0@passing")


def _again(root: Path, me: int, rounds: int) -> None:
    """Commit what everybody commits."""
    for at in range(rounds):
        opened = Warehouse(root)
        opened.commit(draft(opened, "same", range(at, at + 5)))


def _ask(root: Path, stop: Path, out: Path) -> None:
    """Ask in SQL and trace, as long as others write."""
    seen: dict[str, int] = {}
    opened, asked = Warehouse(root), 0
    while not stop.exists() or not asked:
        if asked % 3 == 0:
            opened = Warehouse(root)
        told = dict(opened.sql("SELECT ref, row_count FROM datasets").iter_rows())
        assert seen.items() <= told.items()
        refs = list(told)[-8:]
        counts = " UNION ALL ".join(f"SELECT '{ref}', count(*) FROM members('{ref}')" for ref in refs)
        assert dict(opened.sql(counts).iter_rows()) == {ref: told[ref] for ref in refs}
        for ref in refs:
            assert opened.dataset(ref).scan().collect().height == told[ref]
        newest = opened.sql("SELECT count(*) FILTER (latest) AS newest FROM datasets GROUP BY dataset")["newest"]
        assert set(newest) == {1}
        assert [hop.dataset for hop in lineage.trace_up(opened, BASE[3])] == ["base@1"]
        assert lineage.why(opened, BASE[4])
        seen, asked = told, asked + 1
    out.write_text(json.dumps({"asked": asked}))


def _ask_plainly(root: Path, stop: Path, out: Path) -> None:
    """The same by plain DuckDB over `catalog/views.sql`."""
    asked = 0
    while not stop.exists() or not asked:
        told = plain_duckdb(root)
        assert told["base@1"] == (False, len(BASE))
        asked += 1
    out.write_text(json.dumps({"asked": asked}))


def _collect(root: Path, stop: Path, out: Path) -> None:
    """Collect again and again, as if a day were over at once."""
    deleted = 0
    while not stop.exists():
        report = collect(Warehouse(root), grace=0)
        deleted += sum(tally.count for tally in report.deleted.values())
        time.sleep(0.02)
    out.write_text(json.dumps({"deleted": deleted}))


def _insist(root: Path, me: int, rounds: int) -> None:
    """Commit versions of parts that a collection is about to take, read and delete them, but for the last. Without any
    grace a part may go between being written and being committed: that is told, and it is written anew."""
    for at in range(rounds):
        opened, first = Warehouse(root), 100 * ((me + at) % 9)
        for _ in range(200):
            try:
                made = opened.commit(draft(opened, f"own/{me}", range(first, first + 60)))
                break
            except WarehouseError:
                continue
        else:
            raise AssertionError("a part was taken two hundred times")
        assert opened.dataset(made.ref).scan().collect().height == 60
        if at + 1 < rounds:
            opened.delete(made.ref, "to make room")


def _all_end(processes: list[Any], stop: Path, others: list[Any]) -> None:
    codes = [ended(process) for process in processes]
    stop.touch()
    assert codes == [0] * len(codes)
    assert [ended(other) for other in others] == [0] * len(others)


def _versions(root: Path) -> dict[str, list[Manifest]]:
    """Every version on disk, by name, ascending."""
    found: dict[str, list[Manifest]] = {}
    for path in sorted((root / "datasets").rglob("v????????.json")):
        made = Manifest.model_validate_json(path.read_bytes())
        assert layout.manifest(made.dataset, made.version) == path.relative_to(root).as_posix()
        found.setdefault(made.dataset, []).append(made)
    return found


def _assert_in_order(root: Path) -> None:
    for name, versions in _versions(root).items():
        assert [made.version for made in versions] == list(range(1, len(versions) + 1)), name
        numbers = [made.sequence for made in versions]
        assert numbers == sorted(set(numbers)), name


def test_eight_writers_and_readers_of_every_kind(root: Path, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    readers = [child(_ask, root, stop, tmp_path / "asked"), child(_ask_plainly, root, stop, tmp_path / "plainly")]
    _all_end([child(_write, root, me, ROUNDS) for me in range(WRITERS)], stop, readers)
    found = _versions(root)
    assert {name: len(versions) for name, versions in found.items()} == {
        "base": 1, "shared": WRITERS * ROUNDS, "chosen": WRITERS * ROUNDS,
        **{f"own/{me}": ROUNDS for me in range(WRITERS)}}
    _assert_in_order(root)
    assert_sound(root)
    assert Warehouse(root).manifest("shared@newest").dataset == "shared"
    assert len({(made.dataset, made.content_hash) for versions in found.values() for made in versions}) == sum(
        len(versions) for versions in found.values())


@pytest.mark.parametrize("rounds", [4, pytest.param(25, marks=pytest.mark.exhaustive)])
def test_equal_content_is_one_version_whoever_commits_it(root: Path, tmp_path: Path, rounds: int) -> None:
    _all_end([child(_again, root, me, rounds) for me in range(WRITERS)], tmp_path / "stop", [])
    versions = _versions(root)["same"]
    assert sorted(made.fingerprint for made in versions) == sorted(f"rows {list(range(at, at + 5))}"
                                                                   for at in range(rounds))
    _assert_in_order(root)
    assert_sound(root)


@pytest.mark.parametrize("rounds", [10, pytest.param(60, marks=pytest.mark.exhaustive)])
def test_collecting_while_others_commit(root: Path, tmp_path: Path, rounds: int) -> None:
    stop = tmp_path / "stop"
    others = [child(_collect, root, stop, tmp_path / "collected"), child(_ask_some, root, stop)]
    _all_end([child(_insist, root, me, rounds) for me in range(WRITERS)], stop, others)
    _assert_in_order(root)
    assert_sound(root)
    assert json.loads((tmp_path / "collected").read_text())["deleted"] > 0


def _ask_some(root: Path, stop: Path) -> None:
    """Read what nobody deletes, while parts and segments come and go."""
    while not stop.exists():
        opened = Warehouse(root)
        assert opened.sql("SELECT count(*) FROM members('base@1')").item() == len(BASE)
        assert opened.sql('SELECT count(*) FROM base').item() == len(BASE)
        assert opened.sql("SELECT count(*) FROM datasets WHERE dataset = 'base' AND latest").item() == 1
