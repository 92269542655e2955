"""Garbage collection in two phases, so that nothing goes that somebody is about to use.

Phase 1 writes `gc/<time>.json`: what nothing needs now (see `reachable`). Phase 2, in a later call, when such
a list is older than the grace, asks again and deletes what was listed, is still not needed and was not touched
meanwhile. One call does both: it sweeps the lists that are due, then lists what is new. Manifests, checkpoint records,
tombstones, ids, the feed and runs are never deleted, so every version that ever was keeps its name, number and counts.

Against a commit at the same moment: a commit touches every part it names, looks whether it is there and creates its
manifest while it shares the lease `gc/lock`; a sweep holds that lease alone, a batch at a time, and asks again within.
Whoever writes a part that exists touches it, and a part that was touched while it was being removed is put back. On an
object store leases exclude nobody: there only the grace protects, which is why it is seven days.

What a marker of work names goes after the marker, so no later run trusts a marker with nothing behind it.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from warehouse import faults, layout
from warehouse.catalog.asking import open_catalog
from warehouse.errors import Conflict, NotInWarehouse
from warehouse.objectstore import LocalStore
from warehouse.records import Record
from warehouse.upkeep.reachable import Survey
from warehouse.upkeep.sweep import FILES, PARTS, Sweeper, Tally, tally

if TYPE_CHECKING:
    from warehouse.objectstore import Store
    from warehouse.store import Warehouse

HOUR, DAY = 3600.0, 86400.0
LOCAL_GRACE, CLOUD_GRACE, RETENTION = DAY, 7 * DAY, 14 * DAY
COLLECTING = "gc/collecting"

_LIST = re.compile(r"(?P<name>\d{8}T\d{9}Z-[0-9a-f]{8})\.json")


class GcReport(Record):
    """What one call found and did. Keys of `listed` and `deleted` are parts, checkpoint files, journals, scratch and
    work records; those of `kept` are reasons. With `dry_run`, `deleted` is what a call would delete now."""

    dry_run: bool
    listed: dict[str, Tally]
    deleted: dict[str, Tally]
    kept: dict[str, int]
    waiting: int
    next_act: str


class _List(Record):
    """A list of candidates as stored."""

    format: int = 1
    keys: dict[str, list[str]]


def collect(warehouse: Warehouse, *, grace: float | None = None, retention: float = RETENTION,
            dry_run: bool = False) -> GcReport:
    """Delete what was listed long enough ago and is still not needed, then list what nothing needs now.

    Args:
        warehouse: an open warehouse.
        grace: seconds between being listed and being deleted, and for which nobody may have touched it; a day on a
            local disk and seven days elsewhere by default.
        retention: seconds for which unfinished work, journals and abandoned scratch files stay; 14 days by default.
        dry_run: change nothing, only tell.

    Raises:
        WarehouseError: a record cannot be read or is missing, so what is needed is unknown; nothing is deleted then.
        Conflict: another collection is going on.
    """
    store = warehouse.store
    local = isinstance(store, LocalStore)
    grace = grace if grace is not None else LOCAL_GRACE if local else CLOUD_GRACE
    if dry_run:
        return _Collection(store, grace, retention, dry_run=True).run()
    with store.lease(COLLECTING, wait=False) as alone:
        if not alone:
            raise Conflict(f"another process is collecting in {store.root}: wait until it has ended")
        try:
            report = _Collection(store, grace, retention, dry_run=False).run()
            if report.deleted:  # views.sql names parts, and plain DuckDB reads it without us
                open_catalog(warehouse.catalog)
            return report
        finally:
            if isinstance(store, LocalStore):
                with contextlib.suppress(OSError):
                    os.rmdir(store.scratch())


@dataclass
class _Collection:
    store: Store
    grace: float
    retention: float
    dry_run: bool

    def run(self) -> GcReport:
        survey = Survey(self.store)
        survey.refresh()
        sweeper = Sweeper(self.store, survey, self.grace, self.retention, self.dry_run)
        due, waiting = self._lists(sweeper)
        for name in due:
            sweeper.sweep(self._read(name))
            if not self.dry_run:
                self.store.delete(f"gc/{name}")
        found = sweeper.unneeded()
        pending = {key for name in waiting for keys in self._read(name).values() for key in keys}
        fresh = {kind: [key for key in keys if key not in pending] for kind, keys in found.items()}
        if not self.dry_run:
            self._write(fresh, swept=not {PARTS, FILES}.isdisjoint(sweeper.deleted))
        listed = {kind: tally(self.store, keys) for kind, keys in found.items() if keys}
        return GcReport(dry_run=self.dry_run, listed=listed, deleted=sweeper.deleted, kept=sweeper.kept,
                        waiting=len(waiting) + any(fresh.values()), next_act=self._next_act(sweeper, bool(listed)))

    def _write(self, fresh: dict[str, list[str]], *, swept: bool) -> None:
        if any(fresh.values()):
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
            self.store.put_if_absent(layout.gc_list(f"{stamp}Z-{uuid.uuid4().hex[:8]}"), _List(keys=fresh).to_json())
            faults.point("gc.listed")
        if swept:
            self.store.delete(f"{layout.CATALOG}/state.json")  # the catalog is made again without what is gone

    def _next_act(self, sweeper: Sweeper, listed: bool) -> str:
        if not listed and not sweeper.deleted:
            return "nothing to do"
        if self.dry_run:
            return "run it again without --dry-run"
        when = f"in {self.grace / HOUR:g} hours" if self.grace else "at once or later"
        return (f"run it again {when}: what nobody needs then is deleted" if listed
                else "nothing to do")

    def _lists(self, sweeper: Sweeper) -> tuple[list[str], list[str]]:
        """(lists that are due, lists that have to wait), oldest first."""
        ages = sweeper.ages()
        names = [key for key in self.store.names("gc") if _LIST.fullmatch(key)]
        due = [name for name in names if ages.reached(f"gc/{name}", self.grace)]
        return due, [name for name in names if name not in due]

    def _read(self, name: str) -> dict[str, list[str]]:
        """What a list holds. One that cannot be read holds nothing: what it named is listed again."""
        try:
            return _List.model_validate_json(self.store.get(f"gc/{name}")).keys
        except (ValidationError, NotInWarehouse):
            return {}
