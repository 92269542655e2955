"""The first pass: every JSON record, and what it refers to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from warehouse import layout
from warehouse.errors import NotInWarehouse
from warehouse.records import (
    CheckpointRecord,
    Manifest,
    Part,
    Record,
    RunEnd,
    RunRecord,
    ShardRecord,
    Tombstone,
    WorkPlan,
)
from warehouse.upkeep.reachable import parts_in, read_record

if TYPE_CHECKING:
    from warehouse.objectstore import Store
    from warehouse.upkeep.fsck import Findings

COPY = "Restore it from a copy of the warehouse"
AGAIN = f"{COPY}, or remove the file, delete every version that holds it and run the recipe again"


@dataclass
class Inventory:
    """The records that could be read. `manifests` and `checkpoints` are by key; `kept` are the refs of versions that
    live or led to one that does, whose parts must be there; `work` maps the key of a plan or shard to its parts."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    refs: dict[str, Manifest] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRecord] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    work: dict[str, list[Part]] = field(default_factory=dict)
    namespaces: set[int] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def closure(self, ref: str) -> set[str]:
        """The versions that led to one, without it."""
        seen: set[str] = set()
        waiting = [ref]
        while waiting:
            found = self.refs.get(waiting.pop())
            fresh = [item.ref for item in found.inputs if item.ref not in seen] if found is not None else []
            seen.update(fresh)
            waiting += fresh
        return seen & self.refs.keys()


def check_records(store: Store, findings: Findings, *, repair: bool) -> Inventory:
    """Read every record; say what is wrong with it."""
    return _Records(store, findings, repair).run()


class _Records:
    def __init__(self, store: Store, findings: Findings, repair: bool):
        self.store, self.findings, self.repair = store, findings, repair
        self.found = Inventory()

    def run(self) -> Inventory:
        found = self.found
        self._versions("datasets", Manifest, found.manifests)
        self._versions("checkpoints", CheckpointRecord, found.checkpoints)
        found.refs = {manifest.ref: manifest for manifest in found.manifests.values()}
        for key, manifest in found.manifests.items():
            self._manifest(key, manifest)
        self._tombstones()
        self._checkpoints()
        found.kept = {manifest.ref for key, manifest in found.manifests.items()
                      if layout.tombstone(key) not in found.tombstones}
        for record_key, record in found.checkpoints.items():
            if layout.tombstone(record_key) not in found.tombstones:
                found.kept.update(ref for ref in record.trained_on if ref in found.refs)
        found.kept.update(*(found.closure(ref) for ref in sorted(found.kept)))
        self._ids()
        self._tags()
        self._runs()
        self._work()
        self._feed()
        self._catalog()
        return found

    def _read(self, model: type[Record], key: str, next_act: str = COPY) -> Any:
        """A record, None when it is damaged."""
        self.findings.checked["records"] += 1
        try:
            return read_record(self.store, model, key)
        except (ValueError, NotInWarehouse) as error:
            self.findings.hurt("record", model.__name__, key, expected="a record that can be read", found=error,
                               next_act=next_act)
            return None

    def _versions(self, prefix: str, model: type[Manifest] | type[CheckpointRecord], into: dict[str, Any]) -> None:
        for key in sorted(self.store.keys(prefix)):
            named = layout.version_of(key)
            if key.endswith(".tomb.json"):
                self.found.tombstones.add(key)
            if named is None:
                continue
            record = self._read(model, key)
            if record is None:
                self.found.unread.add(f"{named[0]}@{named[1]}")
                continue
            says = (record.dataset if isinstance(record, Manifest) else record.name, record.version)
            if says != named:
                self.findings.hurt("record", f"{named[0]}@{named[1]}", key, expected=f"{named[0]}@{named[1]}",
                                   found=f"{says[0]}@{says[1]}", next_act=COPY)
                self.found.unread.add(f"{named[0]}@{named[1]}")
                continue
            into[key] = record

    def _manifest(self, key: str, manifest: Manifest) -> None:
        self.findings.checked["versions"] += 1
        counts = manifest.counts
        self._equal("counts", manifest.ref, key, counts.owed, counts.kept + counts.rejected + counts.failed,
                    "slots owed as kept + rejected + failed")
        self._equal("counts", manifest.ref, key, manifest.bytes, sum(part.bytes for part in parts_in(manifest)),
                    "bytes as the sum of its parts")
        rows = {"rows": "rows", "selection": "selection", "scores": "scores", "report": "report"}.get(manifest.kind)
        if rows is not None:
            held = [sum(part.rows for part in manifest.tables.get(name, [])) for name in (rows, "superseded")]
            self._equal("counts", manifest.ref, key, manifest.row_count, held[0] - held[1], "row_count as in its parts")
        for part in parts_in(manifest):
            self._equal("record", manifest.ref, key, layout.part(part.sha256), part.path, "a part named by its sha256")
        for item in manifest.inputs:
            pinned = self.found.refs.get(item.ref)
            if pinned is None:
                damaged = item.ref in self.found.unread
                self.findings.hurt("input", manifest.ref, layout.manifest(item.dataset, item.version),
                                   expected=f"the manifest of its input {item.ref}",
                                   found="one that cannot be used" if damaged else "none", next_act=COPY)
                continue
            self._equal("input", manifest.ref, layout.manifest(item.dataset, item.version), item.parts_digest,
                        pinned.parts_digest, f"the parts of {item.ref} as when it was read")
            self._equal("input", manifest.ref, layout.manifest(item.dataset, item.version), item.content_hash,
                        pinned.content_hash, f"the content of {item.ref} as when it was read")

    def _equal(self, kind: str, what: str, where: str, expected: object, found: object, which: str) -> None:
        if expected != found:
            self.findings.hurt(kind, what, where, expected=f"{which}: {expected}", found=found, next_act=COPY)

    def _tombstones(self) -> None:
        for key in sorted(self.found.tombstones):
            record = key.removesuffix(".tomb.json") + ".json"
            tomb = self._read(Tombstone, key, "Delete the file, or delete the version again")
            if tomb is not None:
                self._equal("tombstone", key, key, record, tomb.key, "the record beside it")
            if not self.store.exists(record):
                self.findings.hurt("tombstone", key, key, expected=f"the record {record}", found="none", next_act=COPY)

    def _checkpoints(self) -> None:
        for record in self.found.checkpoints.values():
            self.findings.checked["checkpoints"] += 1
            for ref in record.trained_on:
                if ref not in self.found.refs:
                    self.findings.note("checkpoint", f"{record.ref} was trained on {ref}, which is not here")

    def _ids(self) -> None:
        for name in self.store.names("ids"):
            if self._json(f"ids/{name}") is not None and name[:8].isdigit():
                self.found.namespaces.add(int(name[:8]))

    def _json(self, key: str, next_act: str = COPY) -> dict[str, Any] | None:
        """A JSON object, None when it is damaged."""
        self.findings.checked["records"] += 1
        try:
            held = json.loads(self.store.get(key))
        except (ValueError, RecursionError, NotInWarehouse) as error:
            held = error
        if isinstance(held, dict):
            return held
        self.findings.hurt("record", key, key, expected="a JSON object", found=held, next_act=next_act)
        return None

    def _tags(self) -> None:
        for key in sorted(self.store.keys("refs")):
            name, tag = key.removeprefix("refs/").removesuffix(".json").rsplit("/", 1)
            self.findings.checked["tags"] += 1
            held = self._json(key, "Set the tag again")
            if held is None:
                continue
            version = held.get("version")
            target = layout.manifest(name, version) if isinstance(version, int) else ""
            if f"{name}@{version}" not in {*self.found.refs, *self.found.unread}:
                self.findings.hurt("tag", f"{name}@{tag}", key, expected="a version of the dataset", found=held,
                                   next_act="Set the tag again")
            elif layout.tombstone(target) in self.found.tombstones:
                self.findings.note("tag", f"{name}@{tag} names version {version}, which was deleted", "set it again")

    def _runs(self) -> None:
        models: dict[str, type[Record]] = {"run.json": RunRecord, "end.json": RunEnd}
        for key in sorted(self.store.keys("runs")):
            model = models.get(key.rsplit("/", 1)[1])
            if model is not None:
                self._read(model, key)

    # -- work --------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Plans and shards: a marker whose part is gone would be trusted by the next run."""
        again = "Delete the file; its shard is done again"
        for key in sorted(self.store.keys("work")):
            if key.endswith("/plan.json"):
                plan = self._read(WorkPlan, key, "Delete the whole folder; the step is planned again")
                parts = [] if plan is None else [plan.standing, plan.occurrences, plan.superseded]
            elif "/shards/" in key and key.endswith(".json"):
                shard = self._read(ShardRecord, key, again)
                parts = [] if shard is None else list(shard.tables.values())
            else:
                continue
            self.found.work[key] = [part for part in parts if part is not None]
        stale = [key for key, parts in self.found.work.items() if self._gone(parts) and self.store.exists(key)]
        for key in stale:
            if self.repair:
                self._drop(key)
                continue
            gone = self._gone(self.found.work[key])
            self.findings.hurt("marker", key, key, expected=f"part {gone[0].path} of {gone[0].bytes} bytes",
                               found=self.store.size(gone[0].path) or "none",
                               next_act=f"{again} (or run fsck with repair)")

    def _gone(self, parts: Iterable[Part]) -> list[Part]:
        return [part for part in parts if self.store.size(part.path) != part.bytes]

    def _drop(self, key: str) -> None:
        """Shards first: they mean nothing under another plan."""
        folder = key.removesuffix("plan.json")
        for shard in [name for name in self.found.work if key.endswith("/plan.json") and name.startswith(folder)]:
            self.store.delete(shard)
        self.store.delete(key)
        self.findings.repaired.append(f"{key}: its part is gone; what it marked is done again")

    # -- derived -----------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Whatever was committed was announced before, or the catalog would never hear of it."""
        from warehouse.feed import Feed

        entries: dict[int, str] = {}
        for name in self.store.names("feed"):
            entry = self._json(f"feed/{name}")
            entries[int(name[:8])] = str(entry.get("key")) if entry is not None else ""
        by_number = {manifest.sequence: key for key, manifest in self.found.manifests.items()}
        for at in range(1, max(entries, default=0)):
            if at not in entries and not self.store.exists(layout.feed(at)):
                self._gap(at, by_number.get(at, ""), entries)
        for key, manifest in self.found.manifests.items():
            if manifest.sequence in entries:
                self._equal("feed", manifest.ref, layout.feed(manifest.sequence), key,
                            entries.get(manifest.sequence, "none"), "the announcement of")
        announced = set(entries.values())
        self.findings.checked["announcements"] += len(entries)
        for key in sorted({*self.found.manifests, *self.found.checkpoints, *self.found.tombstones} - announced):
            if self.repair:
                Feed(self.store).announce(key)
                self.findings.repaired.append(f"{key}: announced")
            else:
                self.findings.note("feed", f"{key} was never announced", "run fsck with repair to announce it")

    def _gap(self, at: int, key: str, entries: dict[int, str]) -> None:
        """Readers stop at a number that is missing: put it there again."""
        if self.repair:
            self.store.put_if_absent(layout.feed(at), json.dumps({"key": key, "by": "fsck"}).encode())
            entries[at] = key
            self.findings.repaired.append(f"{layout.feed(at)}: was missing")
        else:
            self.findings.hurt("feed", f"announcement {at}", layout.feed(at), found="none",
                               next_act="run fsck with repair", expected="announcements without a gap")

    def _catalog(self) -> None:
        """Derived: whatever is wrong with it, it is made again from the rest."""
        state = f"{layout.CATALOG}/state.json"
        if not self.store.exists(state):
            return
        wrong = self._unreadable(state)
        if wrong is None:
            return
        if self.repair:
            self.store.delete(state)
            self.findings.repaired.append(f"{state}: deleted, it is made again ({wrong})")
        else:
            self.findings.hurt("catalog", "the catalog", state, expected="files that can be read", found=wrong,
                               next_act=f"Delete the folder {layout.CATALOG}; it is made again by the next question")

    def _unreadable(self, state: str) -> str | None:
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            segments = json.loads(self.store.get(state)).get("segments", {})
            named = [str(segment["file"]) for listed in segments.values() for segment in listed]
        except (ValueError, NotInWarehouse, AttributeError, TypeError, KeyError) as error:
            return f"{state}: {error}"
        for key in named:
            try:
                pq.read_metadata(io.BytesIO(self.store.get(key)))
            except (pa.ArrowException, OSError) as error:
                return f"{key}: {error}"
            except NotInWarehouse:  # replaced since it was named; one that is missing is made again
                continue
        return None
