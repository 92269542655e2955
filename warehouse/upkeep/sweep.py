"""What gc deletes, and how: the candidates of one moment, and the sweep of a list of earlier ones.

A sweep goes by batches. Each holds the lease `gc/lock` alone, reads what was committed meanwhile, asks again what is
needed, deletes the markers that speak of what is about to go, and then that.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from warehouse import faults, layout
from warehouse.objectstore import LocalStore
from warehouse.records import Record
from warehouse.upkeep.reachable import Ages, Needs, Survey, WorkRecord, mark
from warehouse.upkeep.settled import settled_journals

if TYPE_CHECKING:
    from warehouse.objectstore import Store

LOCK = "gc/lock"
BATCH = 1000
FRESH_SECONDS = 60.0
"""A part touched so shortly before it was moved aside was touched after our look at its age."""
PARTS, FILES, JOURNALS, SCRATCH, MARKERS = "parts", "checkpoint files", "journals", "scratch", "work records"

_PART = re.compile(r"parts/[0-9a-f]{2}/[0-9a-f]{64}\.parquet")
_FILE = re.compile(r"checkpoints/files/[0-9a-f]{2}/[0-9a-f]{64}")


class Tally(Record):
    """How many, and how large."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(count=self.count + other.count, bytes=self.bytes + other.bytes)


@dataclass
class Sweeper:
    """Finds what nothing needs, and deletes what a list names. `deleted` counts by kind, `kept` by reason."""

    store: Store
    survey: Survey
    grace: float
    retention: float
    dry_run: bool
    deleted: dict[str, Tally] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def ages(self) -> Ages:
        return Ages(self.store, probe=not self.dry_run)

    def unneeded(self) -> dict[str, list[str]]:
        """What nothing needs now, by kind."""
        ages = self.ages()
        needs = mark(self.survey, ages, retention=self.retention)
        for reason, count in needs.reasons().items():
            self.kept[reason] = count
        journals, kept = settled_journals(self.survey, needs, ages, self.retention)
        self.kept.update(kept)
        return {PARTS: self._free(needs, ages, "parts", _PART),
                FILES: self._free(needs, ages, "checkpoints/files", _FILE),
                JOURNALS: sorted(journals), SCRATCH: self._scratch(needs, ages)}

    def _free(self, needs: Needs, ages: Ages, prefix: str, grammar: re.Pattern[str]) -> list[str]:
        """Keys below a folder that are not needed; what was written while a run is on its way may be that run's."""
        free = sorted(key for key in self.store.keys(prefix) if grammar.fullmatch(key) and key not in needs.keys)
        began = needs.running_since
        old = [key for key in free if began is None or ages.reached(key, began)]
        if len(old) < len(free):
            self.kept["written while a run is on its way"] = len(free) - len(old)
        return old

    def _scratch(self, needs: Needs, ages: Ages) -> list[str]:
        """Folders of processes that are gone, and checkpoints laid out for runs that have ended."""
        if not isinstance(self.store, LocalStore):
            return []
        found = []
        for name in self.store.names(layout.TMP):
            key = f"{layout.TMP}/{name}"
            if name == "checkpoints":
                if needs.running_since is None:
                    found += [f"{key}/{commit}" for commit in self.store.names(key)]
            elif _abandoned(name) or ages.reached(key, self.retention):
                found.append(key)
        return found

    def sweep(self, keys: dict[str, list[str]]) -> None:
        """Delete what a list names, as far as nothing needs it still and nobody has touched it."""
        named = [(kind, key) for kind, grammar in ((PARTS, _PART), (FILES, _FILE)) for key in keys.get(kind, [])
                 if grammar.fullmatch(key)]
        for start in range(0, len(named), BATCH):
            if self.dry_run:
                self._sweep_batch(named[start:start + BATCH])
                continue
            with self.store.lease(LOCK):
                self._sweep_batch(named[start:start + BATCH])
            faults.point("gc.deleted")
        self._sweep_rest(keys)

    def _sweep_batch(self, batch: list[tuple[str, str]]) -> None:
        self.survey.refresh()
        ages = self.ages()
        needs = mark(self.survey, ages, retention=self.retention, buried=self.grace)
        faults.point("gc.marked")
        least = max(self.grace, needs.running_since or 0.0)
        free = [(kind, key) for kind, key in batch if key not in needs.keys and ages.reached(key, least)]
        self._unmark({key for _, key in free}, needs)
        faults.point("gc.unmarked")
        for kind, key in free:
            size = self.store.size(key) or 0
            if self.dry_run or self._remove(key):
                self._count(kind, size)

    def _unmark(self, free: set[str], needs: Needs) -> None:
        """Delete the records of work that speak of what is about to go: shards first, then plans, each with all its
        shards, because shards mean nothing under another plan."""
        doomed = {record.key for record in self.survey.work.values()
                  if record.key not in needs.work and not free.isdisjoint(self._speaks_of(record))}
        plans = {key for key in doomed if self.survey.work[key].plan}
        without = {self.survey.work[key].work for key in plans}
        doomed |= {record.key for record in self.survey.work.values() if record.work in without}
        for key in sorted(doomed, key=lambda key: (key in plans, key)):
            if key not in self._told:  # in a dry run it is there for the next batch too
                self._told.add(key)
                self._count(MARKERS, self.store.size(key) or 0)
            if not self.dry_run:
                self.store.delete(key)

    def _speaks_of(self, record: WorkRecord) -> list[str]:
        return [*record.names, *self.survey.parts_of(record.base), *self.survey.checkpoint_files(record.checkpoint)]

    def _remove(self, key: str) -> bool:
        """Delete a key. On a local disk it is moved aside first, so that a part which somebody touched between our look
        and our hand can be put back."""
        if not isinstance(self.store, LocalStore):
            self.store.delete(key)
            return True
        path, aside = self.store.path(key), self.store.scratch() / uuid.uuid4().hex
        try:
            before = path.stat().st_mtime_ns
            os.rename(path, aside)
        except FileNotFoundError:
            return False
        age = time.time() - aside.stat().st_mtime  # a clock that jumped only ever spares the part
        touched = aside.stat().st_mtime_ns != before or 0 <= age < min(self.grace, FRESH_SECONDS)
        if touched and not path.exists():
            os.link(aside, path)
        aside.unlink()
        return not touched

    def _sweep_rest(self, keys: dict[str, list[str]]) -> None:
        """Journals and scratch, which no commit names."""
        listed = {kind: set(keys.get(kind, [])) for kind in (JOURNALS, SCRATCH)}
        if not any(listed.values()):
            return
        ages = self.ages()
        needs = mark(self.survey, ages, retention=self.retention, buried=self.grace)
        journals = settled_journals(self.survey, needs, ages, self.retention)[0] if listed[JOURNALS] else []
        for key in sorted(listed[JOURNALS].intersection(journals)):
            if ages.reached(key, self.grace):
                self._count(JOURNALS, self.store.size(key) or 0)
                if not self.dry_run:
                    self.store.delete(key)
        for key in sorted(listed[SCRATCH].intersection(self._scratch(needs, ages))):
            if ages.reached(key, self.grace):
                self._count(SCRATCH, folder_bytes(self.store, key))
                if not self.dry_run:
                    self._remove_folder(key)

    def _remove_folder(self, key: str) -> None:
        """Move a scratch folder aside whole, so that nobody finds half of it, then delete it."""
        assert isinstance(self.store, LocalStore)
        aside = self.store.scratch() / uuid.uuid4().hex
        os.rename(self.store.path(key), aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _count(self, kind: str, size: int) -> None:
        self.deleted[kind] = self.deleted.get(kind, Tally()) + Tally(count=1, bytes=size)


def tally(store: Store, keys: list[str]) -> Tally:
    """How many keys, and how large what lies there is."""
    scratch = f"{layout.TMP}/"
    sizes = (folder_bytes(store, key) if key.startswith(scratch) else store.size(key) or 0 for key in keys)
    return Tally(count=len(keys), bytes=sum(sizes))


def folder_bytes(store: Store, key: str) -> int:
    """Bytes of all files below a folder."""
    return sum(store.size(name) or 0 for name in store.keys(key))


def _abandoned(name: str) -> bool:
    """Whether a scratch folder is that of a process of this host that is gone."""
    host, _, rest = name.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
