"""From announcements to rows of the catalog.

An entry of the feed names a key. Its record is read once; an entry whose record does not exist stays pending and is
looked at again, since its writer may still be at it. What was committed before there was a feed is found by listing, in
the first reading only.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from warehouse import layout
from warehouse.catalog import records
from warehouse.errors import NotInWarehouse
from warehouse.feed import Entry
from warehouse.records import CheckpointRecord, Manifest, RunEnd, RunRecord, Tombstone

if TYPE_CHECKING:
    from warehouse.catalog.catalog import Catalog


def read_feed(catalog: Catalog) -> None:
    """Take in the feed after the state's position, and what was pending."""
    last = catalog.state.position
    entries = [Entry(position, key, undone) for position, key, undone in catalog.state.pending]
    entries += list(catalog.warehouse.feed.since(last))
    if entries:
        pending = _take_in(catalog, entries)
        catalog.change(position=max(last, entries[-1].position), pending=pending)
    _read_namespaces(catalog)


def read_everything(catalog: Catalog) -> None:
    """The first reading: all of the feed, after what was committed without it."""
    announced = list(catalog.warehouse.feed.since(0))
    seen = {entry.key for entry in announced}
    store = catalog.store
    others = [key for prefix in ("datasets", "checkpoints", "runs") for key in store.keys(prefix)
              if key not in seen and not key.startswith("checkpoints/files/") and _sort_of(key)]
    dated = {key: json.loads(store.get(key)) for key in others}
    others.sort(key=lambda key: (dated[key].get("created_at") or dated[key].get("started_at") or "~", key))
    pending = _take_in(catalog, [*(Entry(0, key) for key in others), *announced])
    catalog.change(position=announced[-1].position if announced else 0, pending=pending)


def read_moving(catalog: Catalog) -> None:
    """Take in what changes in place: tags, and the heartbeats of runs that have not ended."""
    store = catalog.store
    tags = []
    for key in sorted(store.keys("refs")):
        name, _, tag = key.removeprefix("refs/").removesuffix(".json").rpartition("/")
        with contextlib.suppress(NotInWarehouse, ValueError, KeyError, TypeError):  # gone since, or no tag (see fsck)
            tags.append((f"{name}@{json.loads(store.get(key))['version']}", name, tag))
    catalog.replace("tags", tags)
    beats, still = [], []
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    starts = catalog.rows_where("runs_started", "run_id", catalog.state.open_runs)
    started = dict(starts.select("run_id", "started_at").iter_rows())
    for run_id in catalog.state.open_runs:
        key = layout.run(run_id, "heartbeat")
        beat = json.loads(store.get(key))["at"] if store.exists(key) else None
        beats.append((run_id, beat))
        if (beat or started.get(run_id, "")) > long_ago:
            still.append(run_id)
    catalog.replace("heartbeats", beats)
    if still != catalog.state.open_runs:
        catalog.change(open_runs=still)


def _read_namespaces(catalog: Catalog) -> None:
    number, rows = catalog.state.namespaces, []
    while catalog.store.exists(layout.namespace(number + 1)):
        number += 1
        owner = json.loads(catalog.store.get(layout.namespace(number)))
        rows.append((number, owner["dataset"], owner["step"], owner["op"]))
    if rows:
        catalog.add({"namespaces": rows})
        catalog.change(namespaces=number)


def _take_in(catalog: Catalog, entries: list[Entry]) -> list[tuple[int, str, bool]]:
    """Read announced records; returns the entries that have not come true: no record, or a tombstone not taken away."""
    known, numbers = _known(catalog, entries), _Numbers(catalog)
    newest = {entry.key: entry.position for entry in entries}
    pending = []
    try:
        for entry in entries:
            sort, there = _sort_of(entry.key), entry.key not in known and catalog.store.exists(entry.key)
            if sort == "tombstone":
                _note_deletion(catalog, entry, there)
            elif there and sort is not None:
                catalog.add(_rows(catalog, entry, sort, numbers))
                known.add(entry.key)
            waits = entry.key not in known and there == entry.undone and newest[entry.key] == entry.position
            if sort is not None and waits:
                pending.append((entry.position, entry.key, entry.undone))
    finally:  # whatever stops this, numbers that were given are not given again
        catalog.change(next_part=numbers.next)
    return pending


def _known(catalog: Catalog, entries: list[Entry]) -> set[str]:
    """The keys among these whose record was read before."""
    found: set[str] = set()
    for table, column, key_of in (
            ("datasets", "ref", lambda ref: layout.manifest(*_split(ref))),
            ("checkpoints", "ref", lambda ref: layout.checkpoint(*_split(ref))),
            ("runs_started", "run_id", layout.run), ("runs_ended", "run_id", lambda run_id: layout.run(run_id, "end"))):
        prefix = {"datasets": "datasets/", "checkpoints": "checkpoints/"}.get(table, "runs/")
        names = [_name_of(entry.key) for entry in entries if entry.key.startswith(prefix)]
        if names:
            found |= {key_of(name) for name in catalog.rows_where(table, column, names)[column]}
    return found


def _rows(catalog: Catalog, entry: Entry, sort: str, numbers: _Numbers) -> records.Rows:
    if sort == "manifest":
        manifest = catalog.warehouse.read_manifest(entry.key, keep=False)
        numbers.prepare(manifest)
        return records.dataset_rows(manifest, numbers, catalog.warehouse.any_manifest)
    data = catalog.store.get(entry.key)
    if sort == "checkpoint":
        return records.checkpoint_rows(CheckpointRecord.model_validate_json(data), entry.position)
    if sort == "run":
        start = RunRecord.model_validate_json(data)
        catalog.change(open_runs=[*catalog.state.open_runs, start.run_id])
        return records.start_rows(start)
    end = RunEnd.model_validate_json(data)
    catalog.change(open_runs=[run_id for run_id in catalog.state.open_runs if run_id != end.run_id])
    return records.end_rows(end)


def _note_deletion(catalog: Catalog, entry: Entry, there: bool) -> None:
    kind, ref = entry.key.partition("/")[0].removesuffix("s"), _name_of(entry.key)
    rows = [row for row in catalog.frame("deleted").iter_rows() if row[:2] != (kind, ref)]
    if there:
        with contextlib.suppress(NotInWarehouse):  # restored since we looked: announced, so told of by the next reading
            tomb = Tombstone.model_validate_json(catalog.store.get(entry.key))
            rows.append((kind, ref, tomb.deleted_at, tomb.reason))
    catalog.replace("deleted", rows)


def _sort_of(key: str) -> str | None:
    """What kind of record a key is."""
    if key.endswith(".tomb.json"):
        return "tombstone"
    if layout.version_of(key):
        return "manifest" if key.startswith("datasets/") else "checkpoint"
    if key.startswith("runs/"):
        return {"run.json": "run", "end.json": "end"}.get(key.rpartition("/")[2])
    return None


def _name_of(key: str) -> str:
    """`name@3` of a manifest, a checkpoint record or their tombstones; the run id of a run's record."""
    found = layout.version_of(key.replace(".tomb.json", ".json"))
    return f"{found[0]}@{found[1]}" if found else key.removeprefix("runs/").partition("/")[0]


def _split(ref: str) -> tuple[str, int]:
    name, _, version = ref.rpartition("@")
    return name, int(version)


class _Numbers:
    """Numbers parts by table and sha256: a known part keeps its number, a new one gets the next."""

    def __init__(self, catalog: Catalog):
        self.catalog, self.next = catalog, catalog.state.next_part
        columns = list(records.SCHEMAS["dataset_parts"])
        table, sha, number = (columns.index(name) for name in ("table_name", "sha256", "part_id"))
        self.known: dict[str, int] = {f"{row[table]}/{row[sha]}": row[number] for row in catalog.news["dataset_parts"]}

    def prepare(self, manifest: Manifest) -> None:
        """Look up the parts of a manifest at once."""
        wanted = pl.Series([part.sha256 for parts in manifest.tables.values() for part in parts], dtype=pl.String())
        found = self.catalog.written("dataset_parts").filter(pl.col("sha256").is_in(wanted.implode()))
        self.known |= {f"{table}/{sha}": number for table, sha, number in
                       found.select("table_name", "sha256", "part_id").iter_rows()}

    def __call__(self, part: str) -> int:
        if part not in self.known:
            self.known[part], self.next = self.next, self.next + 1
        return self.known[part]
