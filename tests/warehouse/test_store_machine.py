"""Everything that can be done to a store, in any order, against a model that is a dictionary.

Two handles of one warehouse take turns, either may be opened anew at any time, and a month may pass before a
collection. The warehouse always tells what the model tells: versions, the latest, tags, deletions, the rows of each,
which can be brought back, and which parts a collection has left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from warehouse import NotInWarehouse, Warehouse, WarehouseError, layout
from warehouse.content import hash_frame, row_keys
from warehouse.dataset import pack_schema
from warehouse.parts import write_part
from warehouse.records import Counts, InputRef, Manifest, Part
from warehouse.upkeep.fsck import check
from warehouse.upkeep.gc import collect
from warehouse.upkeep.versions import diff, remove

NAMES = st.sampled_from(["a", "a/b", "c"])
IDS = st.frozensets(st.integers(1, 6), min_size=1, max_size=4)
TAGS = st.sampled_from(["prod", "dev"])
MONTH = 30 * 86400.0
DAY = 86400.0


@dataclass
class Version:
    """What the model knows of a version."""

    ref: str
    rows: frozenset[int]
    parts: dict[str, Part]
    made_from: Version | None = None
    deleted: bool = False
    fingerprint: str = ""

    @property
    def closure(self) -> list[Version]:
        return [self, *(self.made_from.closure if self.made_from else [])]


@dataclass
class Model:
    """A store, simply."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)

    def live(self, name: str) -> list[Version]:
        return [version for version in self.versions.get(name, []) if not version.deleted]

    def all(self) -> list[Version]:
        return [version for versions in self.versions.values() for version in versions]

    def latest(self) -> dict[str, str]:
        return {name: self.live(name)[-1].ref for name in self.versions if self.live(name)}

    def needed(self) -> set[str]:
        """The parts that must never go."""
        return {part.path for version in self.all() if not version.deleted for each in version.closure
                for part in each.parts.values()}


def _number(ref: str) -> int:
    return int(ref.rpartition("@")[2])


def _frame(ids: frozenset[int]) -> pl.DataFrame:
    frame = pl.DataFrame({"row_id": sorted(ids)}, schema={"row_id": pl.Int64})
    frame = frame.with_columns(text=pl.format("row {}", "row_id"))
    return frame.with_columns(row_key=pl.Series(row_keys(frame, ["text"]), dtype=pl.Binary))


class StoreMachine(RuleBasedStateMachine):
    """The store beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.model = Model()

    @initialize()
    def make(self) -> None:
        self.handles = [Warehouse(self.folder / "w", create=True), Warehouse(self.folder / "w")]

    def teardown(self) -> None:
        try:
            if hasattr(self, "handles"):
                report = check(Warehouse(self.folder / "w"))
                assert report.clean, [str(damage) for damage in report.damage]
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- committing --------------------------------------------------------------------------------------------------

    def _commit(self, turn: int, name: str, frame: pl.DataFrame, kind: str, made_from: Version | None) -> None:
        handle = self.handles[turn]
        ids = frozenset(frame["row_id"].to_list())
        keyed = frame if kind == "rows" else _frame(ids).with_columns(weight=pl.lit(1, dtype=pl.Int32))
        fingerprint = f"{kind} {sorted(ids)} of {made_from.ref if made_from else ''}"
        inputs = []
        if made_from is not None:
            source = handle.any_manifest(made_from.ref)
            inputs = [InputRef(dataset=source.dataset, version=source.version, role="from",
                               content_hash=source.content_hash, parts_digest=source.parts_digest, fingerprint="")]
        part = write_part(handle.store, frame)
        made = handle.commit(Manifest(
            dataset=name, version=0, commit_id="", kind=kind, op="test.op", op_version=1, recipe="test", step=name,
            run_id="", fingerprint=fingerprint, family=name, identity={}, work_key=fingerprint,
            content_hash=str(hash_frame(keyed, columns=["weight"] if kind == "selection" else [])),
            row_count=frame.height, bytes=part.bytes, columns={}, schemas={kind: pack_schema(frame)},
            tables={kind: [part]}, inputs=inputs, counts=Counts(owed=frame.height, kept=frame.height)))
        known = [version for version in self.model.live(name) if version.fingerprint == fingerprint]
        if known:
            assert made.ref == known[-1].ref
            return
        versions = self.model.versions.setdefault(name, [])
        versions.append(Version(f"{name}@{len(versions) + 1}", ids, {part.path: part}, made_from,
                                fingerprint=fingerprint))
        assert made.ref == versions[-1].ref

    @rule(turn=st.integers(0, 1), name=NAMES, ids=IDS)
    def commit_rows(self, turn: int, name: str, ids: frozenset[int]) -> None:
        self._commit(turn, name, _frame(ids), "rows", None)

    @precondition(lambda self: any(not version.deleted for version in self.model.all()))
    @rule(turn=st.integers(0, 1), name=NAMES, data=st.data())
    def commit_selection(self, turn: int, name: str, data: st.DataObject) -> None:
        self._choose(turn, name, data, [version for version in self.model.all() if not version.deleted])

    @precondition(lambda self: any(version.deleted for version in self.model.all()))
    @rule(turn=st.integers(0, 1), name=NAMES, data=st.data())
    def commit_selection_of_what_was_deleted(self, turn: int, name: str, data: st.DataObject) -> None:
        """As a run does that began before the deletion; refused when a collection was faster."""
        self._choose(turn, name, data, [version for version in self.model.all() if version.deleted])

    def _choose(self, turn: int, name: str, data: st.DataObject, sources: list[Version]) -> None:
        source = data.draw(st.sampled_from(sources))
        ids = data.draw(st.sets(st.sampled_from(sorted(source.rows)), min_size=1))
        frame = pl.DataFrame({"row_id": sorted(ids)}).with_columns(weight=pl.lit(1, dtype=pl.Int32))
        if self._whole(source):
            self._commit(turn, name, frame, "selection", source)
            return
        with pytest.raises(WarehouseError):
            self._commit(turn, name, frame, "selection", source)

    def _whole(self, version: Version) -> bool:
        return all((self.folder / "w" / part).exists() for each in version.closure for part in each.parts)

    # -- tags and deletions ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.all())
    @rule(turn=st.integers(0, 1), tag=TAGS, data=st.data())
    def tag(self, turn: int, tag: str, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.model.all()))
        if version.deleted:
            with pytest.raises(NotInWarehouse):
                self.handles[turn].set_tag(version.ref, tag)
            return
        assert self.handles[turn].set_tag(version.ref, tag).ref == version.ref
        self.model.tags[version.ref.split("@")[0], tag] = version.ref

    @rule(turn=st.integers(0, 1), name=NAMES, tag=TAGS)
    def untag(self, turn: int, name: str, tag: str) -> None:
        if self.model.tags.pop((name, tag), None) is None:
            with pytest.raises(NotInWarehouse):
                self.handles[turn].remove_tag(f"{name}@{tag}")
            return
        self.handles[turn].remove_tag(f"{name}@{tag}")

    @precondition(lambda self: self.model.all())
    @rule(turn=st.integers(0, 1), data=st.data())
    def delete(self, turn: int, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.model.all()))
        if version.deleted or version.ref in self.model.tags.values():
            with pytest.raises(WarehouseError):
                remove(self.handles[turn], [version.ref])
            return
        assert remove(self.handles[turn], [version.ref], "for the test") == [version.ref]
        version.deleted = True

    @precondition(lambda self: any(version.deleted for version in self.model.all()))
    @rule(turn=st.integers(0, 1), data=st.data())
    def restore(self, turn: int, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from([found for found in self.model.all() if found.deleted]))
        if not self._whole(version):
            with pytest.raises(WarehouseError):
                self.handles[turn].restore(version.ref)
            return
        assert self.handles[turn].restore(version.ref).ref == version.ref
        version.deleted = False

    # -- time and trouble --------------------------------------------------------------------------------------------

    @rule(turn=st.integers(0, 1))
    def a_month_passes_and_somebody_collects(self, turn: int) -> None:
        for _ in range(2):
            self._age()
            collect(self.handles[turn], grace=DAY)
        left = {f"parts/{path.parent.name}/{path.name}" for path in (self.folder / "w/parts").glob("*/*.parquet")}
        assert left == self.model.needed()

    @rule(turn=st.integers(0, 1))
    def somebody_collects(self, turn: int) -> None:
        """What is needed stays."""
        collect(self.handles[turn], grace=DAY)
        assert all((self.folder / "w" / part).exists() for part in self.model.needed())

    def _age(self) -> None:
        then = time.time() - MONTH
        for path in (self.folder / "w").rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    os.utime(path, (then, then))

    @rule(turn=st.integers(0, 1))
    def open_anew(self, turn: int) -> None:
        self.handles[turn] = Warehouse(self.folder / "w")

    @rule(what=st.sampled_from(["state.json", "views.sql", ""]))
    def lose_the_catalog(self, what: str) -> None:
        path = self.folder / "w" / layout.CATALOG / what
        if what:
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
            self.handles = [Warehouse(self.folder / "w") for _ in self.handles]

    @precondition(lambda self: sum(not version.deleted for version in self.model.all()) > 1)
    @rule(turn=st.integers(0, 1), data=st.data())
    def compare(self, turn: int, data: st.DataObject) -> None:
        live = [version for version in self.model.all() if not version.deleted]
        old, new = data.draw(st.sampled_from(live)), data.draw(st.sampled_from(live))
        found = diff(self.handles[turn], old.ref, new.ref)
        assert set(found.rows.filter(pl.col("change") == "added")["row_id"]) == new.rows - old.rows
        assert set(found.rows.filter(pl.col("change") == "removed")["row_id"]) == old.rows - new.rows
        assert found.same_rows == len(old.rows & new.rows)

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def the_records_tell_what_the_model_tells(self) -> None:
        for handle in getattr(self, "handles", []):
            latest = self.model.latest()
            assert handle.latest_versions() == latest
            for name in self.model.versions:
                tags = {tag: _number(ref) for (tagged, tag), ref in self.model.tags.items() if tagged == name}
                assert handle.versions(name) == [_number(found.ref) for found in self.model.live(name)]
                assert handle.tags(name) == tags
                if name not in latest:
                    with pytest.raises(NotInWarehouse):
                        handle.manifest(name)

    @precondition(lambda self: self.model.all())
    @rule(turn=st.integers(0, 1))
    def ask(self, turn: int) -> None:
        handle, every = self.handles[turn], self.model.all()
        told = handle.sql("SELECT ref, latest, deleted, tags, row_count FROM datasets")
        latest = set(self.model.latest().values())
        tags: dict[str, list[str]] = {}
        for (_, tag), ref in sorted(self.model.tags.items()):
            tags.setdefault(ref, []).append(tag)
        assert {ref: tuple(rest) for ref, *rest in told.iter_rows()} == {
            found.ref: (found.ref in latest, found.deleted, tags.get(found.ref, []), len(found.rows))
            for found in every}
        live = [found for found in every if not found.deleted]
        if live:
            query = " UNION ALL ".join(f"SELECT '{ref}' AS ref, row_id FROM members('{ref}')"
                                       for ref in (found.ref for found in live))
            members = handle.sql(query).group_by("ref").agg("row_id")
            assert {ref: set(ids) for ref, ids in members.iter_rows()} == {found.ref: found.rows for found in live}
        for found in live[-3:]:
            rows = handle.dataset(found.ref).scan().collect()
            assert {row_id: text for row_id, text in rows.select("row_id", "text").iter_rows()} == {
                row_id: f"row {row_id}" for row_id in found.rows}
            name = found.ref.split("@")[0]
            newest = self.model.live(name)[-1]
            assert set(handle.sql(f'SELECT row_id FROM "{name}"')["row_id"]) == newest.rows
            assert set(handle.sql(f'SELECT row_id FROM "{found.ref}"')["row_id"]) == found.rows

    @rule()
    def check_it(self) -> None:
        report = check(self.handles[0])
        assert report.clean, [str(damage) for damage in report.damage]


QUICK = settings(max_examples=12, stateful_step_count=14, deadline=None, derandomize=True,
                 suppress_health_check=list(HealthCheck))


def test_the_store_is_what_the_model_is() -> None:
    run_state_machine_as_test(StoreMachine, settings=QUICK)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
def test_the_store_is_what_the_model_is_at_length() -> None:
    longer = settings(QUICK, max_examples=300, stateful_step_count=40, derandomize=False)
    run_state_machine_as_test(StoreMachine, settings=longer)
