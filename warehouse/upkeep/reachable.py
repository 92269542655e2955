"""What is needed: from the records that say so, never from the catalog.

Needed are the parts of every version that lives (it has no tombstone), of everything that led to it, and of what led to
the data of every checkpoint that lives: text is stored once, so `why` and `trace` read the inputs of a version for as
long as the version stands, even where an input was deleted. Needed too is what unfinished work has made, until it is
older than `retention`, whatever a running run may come back to, and the partials of a live version's merge, on which
its next version builds. Records of work (`work/<key>/…`) name parts without
owning them; one whose parts may go has to go first, or a later run would trust a marker with nothing behind it.

`Survey` reads records once and finds new ones by listing; `mark` computes what is needed from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from warehouse import layout
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.objectstore import LocalStore
from warehouse.records import CheckpointRecord, Manifest, Part, ShardRecord, WorkPlan

if TYPE_CHECKING:
    from warehouse.objectstore import Store

ALIVE_SECONDS = 300.0
"""A run whose last heartbeat is younger than this may be running; runs beat every ten seconds."""

_WORK = re.compile(r"work/(?P<work>[^/]+)/(?:(?P<plan>plan)|shards/(?P<name>.+))\.json")


class Ages:
    """Seconds since keys were written, against the newest write of the store itself.

    A host whose clock runs ahead would take everything for old. So a file is written now, and ages are the distances to
    it. A key that is newer still has a negative age, which is younger than any grace.
    """

    def __init__(self, store: Store, *, probe: bool):
        self.store, self._zero = store, 0.0
        if probe:
            key = layout.gc_list("clock")
            store.replace(key, b"{}")
            self._zero = store.age(key)

    def of(self, key: str) -> float | None:
        """The age of a key, None when it does not exist."""
        try:
            return self.store.age(key) - self._zero
        except NotInWarehouse:
            return None

    def reached(self, key: str, seconds: float) -> bool:
        """Whether a key exists and is at least that old."""
        age = self.of(key)
        return age is not None and age >= seconds


@dataclass(frozen=True, slots=True)
class WorkRecord:
    """A plan or a finished shard: `names` are the keys it speaks of, `base` the version a plan extends, `shards` the
    names that a plan gives to the shards it shares with others; of a merge, the shards it was made of."""

    key: str
    work: str
    name: str
    names: tuple[str, ...] = ()
    plan: bool = False
    base: str | None = None
    checkpoint: str | None = None
    run_id: str = ""
    shards: frozenset[str] = frozenset()


@dataclass
class Survey:
    """All records of a warehouse, each read once. Raises WarehouseError for one that cannot be read: what is needed is
    unknown then."""

    store: Store
    manifests: dict[str, Manifest] = field(default_factory=dict)
    refs: dict[str, Manifest] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRecord] = field(default_factory=dict)
    work: dict[str, WorkRecord] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    journals: list[str] = field(default_factory=list)
    locks: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        """Read what is new; forget work records and tombstones that are gone."""
        self.tombstones = set()
        for key in self._versions("datasets"):
            if key not in self.manifests:
                found: Manifest = self._read(Manifest, key)
                self._named(key, found.dataset, found.version)
                self.manifests[key] = self.refs[found.ref] = found
        for key in self._versions("checkpoints"):
            if key not in self.checkpoints:
                record: CheckpointRecord = self._read(CheckpointRecord, key)
                self._named(key, record.name, record.version)
                self.checkpoints[key] = record
        self._refresh_work()

    def _named(self, key: str, name: str, version: int) -> None:
        if layout.version_of(key) != (name, version):
            raise WarehouseError(f"{key} of {self.store.root} says that it is {name}@{version}, so what is needed is "
                                 "unknown; nothing was deleted. Restore it from a copy of the warehouse")

    def _versions(self, prefix: str) -> Iterator[str]:
        for key in self.store.keys(prefix):
            if layout.version_of(key):
                yield key
            elif key.endswith(".tomb.json"):
                self.tombstones.add(key)

    def _refresh_work(self) -> None:
        seen: set[str] = set()
        self.journals, self.locks = [], set()
        for key in self.store.keys("work"):
            found = _WORK.fullmatch(key)
            if found is None:
                if key.endswith(".journal"):
                    self.journals.append(key)
                elif key.endswith("/lock"):
                    self.locks.add(key.split("/")[1])
                continue
            seen.add(key)
            if key not in self.work:
                try:
                    self.work[key] = self._read_work(key, found)
                except NotInWarehouse:  # forgotten by its run since the listing
                    seen.discard(key)
        self.work = {key: record for key, record in self.work.items() if key in seen}

    def _read_work(self, key: str, found: re.Match[str]) -> WorkRecord:
        if found["plan"]:
            plan = self._read(WorkPlan, key)
            own = [part.path for part in (plan.standing, plan.occurrences, plan.superseded) if part is not None]
            shared = {str(shard[name]) for shard in plan.shards for name in ("marker", "digest", "previous")
                      if shard.get(name)}
            return WorkRecord(key, found["work"], "plan", tuple(own), plan=True, base=plan.base,
                              shards=frozenset(shared))
        shard = self._read(ShardRecord, key)
        return WorkRecord(key, found["work"], found["name"], tuple(part.path for part in shard.tables.values()),
                          checkpoint=shard.facts.get("checkpoint"), run_id=shard.run_id,
                          shards=frozenset(map(str, shard.facts.get("digests", ()))))

    def _read(self, model: Any, key: str) -> Any:
        try:
            return read_record(self.store, model, key)
        except ValueError as error:
            raise WarehouseError(f"{key} of {self.store.root} cannot be read, so what it needs is unknown; nothing "
                                 f"was deleted. `factory fsck` says more ({error})") from error

    def parts_of(self, ref: str | None) -> list[str]:
        """The part keys of a version; none when there is no such version."""
        found = self.refs.get(ref or "")
        return [part.path for part in parts_in(found)] if found is not None else []

    def checkpoint_files(self, ref: str | None) -> list[str]:
        """The file keys of a checkpoint; none when there is no such checkpoint."""
        return [layout.checkpoint_file(digest) for found in self.checkpoints.values() if found.ref == ref
                for digest in found.files.values()]


def read_record(store: Store, model: type[BaseModel], key: str) -> Any:
    """A stored record. Raises NotInWarehouse, or ValueError with one line when it is not one."""
    try:
        return model.model_validate_json(store.get(key))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(item) for item in first["loc"]) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from None


def parts_in(manifest: Manifest) -> Iterator[Part]:
    """Every part of every table."""
    for parts in manifest.tables.values():
        yield from parts


@dataclass
class Needs:
    """Keys that are needed, each with the first reason found; `work` are the records that stay; `kept` the versions
    whose rows stay readable; `running_since` is the age of the oldest run that may be running."""

    keys: dict[str, str] = field(default_factory=dict)
    work: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    running_since: float | None = None
    _followed: set[str] = field(default_factory=set)

    def add(self, keys: Iterable[str], reason: str) -> None:
        for key in keys:
            self.keys.setdefault(key, reason)

    def follow(self, refs: dict[str, Manifest], wanted: Iterable[str], reason: str) -> None:
        """Need these versions and everything that led to them."""
        waiting = [ref for ref in wanted if ref not in self._followed]
        self._followed.update(waiting)
        while waiting:
            ref = waiting.pop()
            manifest = refs.get(ref)
            if manifest is None:
                raise WarehouseError(f"the manifest of {ref}, which led to something that is needed, is missing, so "
                                     "what it needs is unknown; nothing was deleted. Restore it from a copy of the "
                                     "warehouse")
            self.kept.add(ref)
            self.add((part.path for part in parts_in(manifest)), reason)
            fresh = [item.ref for item in manifest.inputs if item.ref not in self._followed]
            self._followed.update(fresh)
            waiting += fresh

    def reasons(self) -> dict[str, int]:
        """How many keys stay for which reason."""
        return dict(Counter(self.keys.values()))


def mark(survey: Survey, ages: Ages, *, retention: float, buried: float = 0.0) -> Needs:
    """What is needed now.

    Args:
        retention: seconds for which unfinished work stays.
        buried: seconds that a tombstone must have stood to count.
    """
    runs = running(survey.store, ages)
    needs = Needs(running_since=max(runs.values(), default=None))
    lasting = max(buried, needs.running_since or 0.0)  # a run may read what was deleted after it began

    def lives(key: str) -> bool:
        tomb = layout.tombstone(key)
        return tomb not in survey.tombstones or not ages.reached(tomb, lasting)

    for key, manifest in survey.manifests.items():
        if lives(key):
            needs.kept.add(manifest.ref)
            needs.add((part.path for part in parts_in(manifest)), "of a live version")
    needs.follow(survey.refs, sorted(needs.kept), "of what led to a live version")
    buried_checkpoints = {record.ref for key, record in survey.checkpoints.items() if not lives(key)}
    for key, record in survey.checkpoints.items():
        if lives(key):
            needs.add((layout.checkpoint_file(digest) for digest in record.files.values()), "of a live checkpoint")
            trained = [ref for ref in record.trained_on if ref in survey.refs]
            needs.follow(survey.refs, trained, "of what trained a live checkpoint")
    _Work(survey, ages, needs, set(runs), retention, buried_checkpoints).mark()
    return needs


def running(store: Store, ages: Ages) -> dict[str, float]:
    """The age of every run that may be running."""
    files: dict[str, set[str]] = {}
    for key in store.keys("runs"):
        _, run_id, *rest = key.split("/")
        files.setdefault(run_id, set()).update(rest)
    found = {}
    for run_id, names in files.items():
        if "end.json" in names:
            continue
        beats = [ages.of(layout.run(run_id, name)) for name in ("run", "heartbeat")]
        known = [age for age in beats if age is not None]
        if known and min(known) < ALIVE_SECONDS:
            found[run_id] = max(known)
    return found


@dataclass
class _Work:
    """Which records of work stay, and with them what they name."""

    survey: Survey
    ages: Ages
    needs: Needs
    runs: set[str]
    retention: float
    buried: set[str]

    def mark(self) -> None:
        manifests = self.survey.manifests.values()
        self.committed = {part.path for found in manifests for part in parts_in(found)}
        self.live = {part.path for found in manifests if found.ref in self.needs.kept for part in parts_in(found)}
        self.finished = {found.work_key for found in manifests}
        standing = {found.work_key for found in manifests if found.ref in self.needs.kept}
        folders: dict[str, list[WorkRecord]] = {}
        for record in self.survey.work.values():
            folders.setdefault(record.work, []).append(record)
        plans = {work: next((record for record in records if record.plan), None) for work, records in folders.items()}
        held = {work for work in folders if work in self.survey.locks and self._held(work)}
        shared = frozenset[str]().union(*(plan.shards for work, plan in plans.items() if plan and work in held))
        for work, records in folders.items():
            if work in standing:
                self._keep(records, "of a live version's work", base=False)
            elif work in held:
                self._keep(records, "of work in progress")
            elif plans[work] is not None:
                if self._unfinished(work, records):
                    self._keep(records, "of unfinished work")
                self._keep([record for record in records if self._of_a_run(record)], "of a running run")
            else:
                indexed = [record for record in records if record.shards and self._of_a_live_version(record)]
                named = frozenset[str]().union(*(record.shards for record in indexed))
                self._keep([*indexed, *(record for record in records if record.name in named)],
                           "of what the next version builds on")
                self._keep([record for record in records if _part_of(record.name) in shared], "of work in progress")
                self._keep([record for record in records if self._open(record)], "of unfinished work")

    def _keep(self, records: list[WorkRecord], reason: str, *, base: bool = True) -> None:
        for record in records:
            self.needs.work.add(record.key)
            self.needs.add(record.names, reason)
            if record.checkpoint not in self.buried:  # work that made a deleted checkpoint keeps no file of it
                self.needs.add(self.survey.checkpoint_files(record.checkpoint), reason)
            if base and record.base in self.survey.refs:
                self.needs.follow(self.survey.refs, [str(record.base)], reason)

    def _held(self, work: str) -> bool:
        """Whether somebody works on an increment at this moment; leases tell only on a local disk."""
        if not isinstance(self.survey.store, LocalStore):
            return bool(self.runs)
        with self.survey.store.lease(layout.work_lock(work), wait=False, shared=True) as free:
            return not free

    def _unfinished(self, work: str, records: list[WorkRecord]) -> bool:
        return work not in self.finished and (bool(self.runs) or self._young(records))

    def _young(self, records: list[WorkRecord]) -> bool:
        return any(not self.ages.reached(record.key, self.retention) for record in records)

    def _of_a_run(self, record: WorkRecord) -> bool:
        began = self.needs.running_since
        return record.run_id in self.runs or (began is not None and not self.ages.reached(record.key, began))

    def _of_a_live_version(self, record: WorkRecord) -> bool:
        """Whether a merge's tables are those of a version that stays: its partials are the index of its rows, which the
        next version asks in place of reading them again."""
        return bool(record.names) and self.live.issuperset(record.names)

    def _open(self, record: WorkRecord) -> bool:
        """A shard that several steps may share: settled when versions name all that it names."""
        if self._of_a_run(record):
            return True
        settled = bool(record.names) and self.committed.issuperset(record.names)
        return not settled and (bool(self.runs) or self._young([record]))


def _part_of(name: str) -> str:
    """The input part that a record is about: verdicts that stand are called `said-<part>-<what the tables say>`."""
    return name.removeprefix("said-").rpartition("-")[0] if name.startswith("said-") else name
