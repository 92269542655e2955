"""The warehouse: opening one, committing to it, finding versions in it.

Committing is one act: create `datasets/<name>/v<N>.json`, which must not exist. Whoever finds the name taken reads it
and tries N + 1; a version with the same fingerprint, content and inputs is returned as it is instead of being repeated.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from warehouse import layout
from warehouse.dataset import Dataset
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.ids import namespace_of, namespace_owner
from warehouse.objectstore import LocalStore, open_store
from warehouse.records import FORMAT, CheckpointRecord, Manifest, RunEnd, RunRecord, now

if TYPE_CHECKING:
    import duckdb

DEFAULT_ROOT = "warehouse-data"


class Warehouse:
    """A warehouse at `root` (a local folder).

    Args:
        root: folder; `./warehouse-data` by default.
        create: make it when it does not exist; otherwise NotInWarehouse is raised.
    """

    def __init__(self, root: str | Path = DEFAULT_ROOT, *, create: bool = False):
        self.store: LocalStore = open_store(root)
        self._manifests: dict[str, Manifest] = {}
        if not self.store.exists(layout.ROOT_RECORD):
            if not create:
                raise NotInWarehouse(f"{root} is not a warehouse (it has no {layout.ROOT_RECORD}): run a recipe with "
                                     f"`--warehouse {root}` to make one, or name another folder")
            self._found(root)
        found = json.loads(self.store.get(layout.ROOT_RECORD))
        if found.get("format") != FORMAT:
            raise WarehouseError(f"{root} has format {found.get('format')}, this version reads {FORMAT}: "
                                 "use the version of dataset-factory that wrote it")

    def _found(self, root: str | Path) -> None:
        record = {"format": FORMAT, "warehouse_id": uuid.uuid4().hex, "row_key": "sha256/16", "content_hash": "mset256"}
        try:
            self.store.put_if_absent(layout.ROOT_RECORD, json.dumps(record).encode())
        except OSError as error:
            raise WarehouseError(f"{root} cannot become a warehouse: {error.strerror or error}. Name a folder that can "
                                 "be written") from None
        self.store.clear_scratch()

    @property
    def root(self) -> Path:
        return self.store.root

    # -- finding -----------------------------------------------------------------------------------------------------

    def manifests(self) -> list[Manifest]:
        """Every committed dataset version, by name and version. Manifests never change, so each is read once."""
        for key in self.store.keys("datasets"):
            if key not in self._manifests and layout.version_of(key):
                self._manifests[key] = self._read_manifest(key)
        return [self._manifests[key] for key in sorted(self._manifests)]

    def _read_manifest(self, key: str) -> Manifest:
        try:
            return Manifest.model_validate_json(self.store.get(key))
        except ValidationError as error:
            raise WarehouseError(f"{self.root / key} is not a manifest of this format ({error.error_count()} faults): "
                                 "restore it from a copy of the warehouse") from error

    def versions(self, name: str) -> list[int]:
        """The version numbers of a dataset, ascending."""
        keys = self.store.names(f"datasets/{name}")
        return sorted(int(key[1:9]) for key in keys if layout.version_of(f"datasets/{name}/{key}"))

    def manifest(self, ref: str) -> Manifest:
        """The manifest of `name@3`, `name@tag`, or of the latest whole version of `name`."""
        try:
            name, version = layout.split_ref(ref)
        except ValueError as error:
            raise NotInWarehouse(str(error)) from None
        if version is None:
            return self._latest(name)
        if not (version.isascii() and version.isdigit()):
            version = self.tag(name, version)
        key = layout.manifest(name, int(version))
        if key not in self._manifests:
            if not self.store.exists(key):
                raise self._unknown(ref, name)
            self._manifests[key] = self._read_manifest(key)
        return self._manifests[key]

    def _latest(self, name: str) -> Manifest:
        versions = self.versions(name)
        if not versions:
            raise self._unknown(name, name)
        manifests = [self.manifest(f"{name}@{number}") for number in reversed(versions)]
        return next((found for found in manifests if not found.partial), manifests[0])

    def _unknown(self, ref: str, name: str) -> NotInWarehouse:
        import difflib

        names = sorted({found.dataset for found in self.manifests()})
        if name in names:
            return NotInWarehouse(f"{ref} does not exist: {name} has versions {self.versions(name)}")
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`factory ls` lists the datasets."
        return NotInWarehouse(f"no dataset {name!r} in {self.root}: {hint}")

    def dataset(self, ref: str) -> Dataset:
        """A dataset version to read."""
        return Dataset(self.store, self.manifest(ref), self.dataset)

    def find(self, fingerprint: str) -> list[Manifest]:
        """Versions made by a step with this fingerprint, newest last."""
        return sorted((found for found in self.manifests() if found.fingerprint == fingerprint),
                      key=lambda found: (found.created_at, found.version))

    def family(self, family: str) -> list[Manifest]:
        """Versions of a family (a fingerprint without its extensible parts), newest last."""
        return sorted((found for found in self.manifests() if found.family == family),
                      key=lambda found: (found.created_at, found.version))

    def owner_of(self, row_id: int) -> dict[str, str] | None:
        """Who minted a row id: {dataset, step, op, work_key}."""
        return namespace_owner(self.store, namespace_of(row_id))

    # -- committing --------------------------------------------------------------------------------------------------

    def commit(self, draft: Manifest) -> Manifest:
        """Commit a dataset version; `draft.version` and `commit_id` are set here.

        Raises WarehouseError when a part that the manifest names is missing or the counts do not balance.
        """
        layout.check_name(draft.dataset)
        if not draft.counts.balanced:
            raise WarehouseError(f"{draft.dataset}: {draft.counts.owed} slots went in, but kept + rejected + failed "
                                 f"is {draft.counts.kept + draft.counts.rejected + draft.counts.failed}: not committed")
        for parts in draft.tables.values():
            for part in parts:
                if self.store.size(part.path) != part.bytes:
                    raise WarehouseError(f"{draft.dataset}: part {part.path} is missing or truncated: not committed")
        pins = [(item.role, item.parts_digest) for item in draft.inputs]
        commit_id = uuid.uuid4().hex
        while True:
            versions = self.versions(draft.dataset)
            for number in reversed(versions):
                known = self.manifest(f"{draft.dataset}@{number}")
                if (known.fingerprint, known.parts_digest, [(i.role, i.parts_digest) for i in known.inputs]) == (
                        draft.fingerprint, draft.parts_digest, pins) and known.counts == draft.counts:
                    return known
            version = (versions[-1] if versions else 0) + 1
            manifest = draft.model_copy(update={
                "version": version, "commit_id": commit_id, "created_at": now(),
                "parent_version": versions[-1] if versions else None})
            key = layout.manifest(draft.dataset, version)
            if self.store.put_if_absent(key, manifest.to_json()):
                self._manifests[key] = manifest
                return manifest

    def tag(self, name: str, tag: str) -> str:
        """The version number (as text) that a tag names."""
        key = layout.ref(name, tag)
        if not self.store.exists(key):
            if not self.versions(name):
                raise self._unknown(name, name)
            raise NotInWarehouse(f"{name}@{tag} does not exist: no such tag; versions are {self.versions(name)}")
        return str(json.loads(self.store.get(key))["version"])

    def set_tag(self, ref: str, tag: str) -> None:
        """Let `name@tag` name a version from now on."""
        if not tag or tag.isdigit():
            raise WarehouseError(f"{tag!r} cannot be a tag: numbers name versions")
        layout.check_name(tag)
        found = self.manifest(ref)
        self.store.replace(layout.ref(found.dataset, tag), json.dumps({"version": found.version}).encode())

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def commit_checkpoint(self, name: str, folder: Path, record: dict[str, Any]) -> CheckpointRecord:
        """Commit a model checkpoint: its files by content, then its record, which makes it visible.

        `record` holds the fields of `CheckpointRecord` beyond name, version, files and bytes. A checkpoint with the
        same fingerprint and files is returned as it is.
        """
        layout.check_name(name)
        files, size = {}, 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.store.copy_if_absent(layout.checkpoint_file(digest), path)
            files[path.relative_to(folder).as_posix()], size = digest, size + path.stat().st_size
        if not files:
            raise WarehouseError(f"checkpoint {name}: the trainer left no files in its folder")
        while True:
            known = self.checkpoints(name)
            for found in reversed(known):
                if found.fingerprint == record["fingerprint"] and found.files == files:
                    return found
            version = known[-1].version + 1 if known else 1
            made = CheckpointRecord(name=name, version=version, commit_id=uuid.uuid4().hex, files=files, bytes=size,
                                    created_at=now(), **record)
            if self.store.put_if_absent(layout.checkpoint(name, version), made.to_json()):
                return made

    def checkpoints(self, name: str | None = None) -> list[CheckpointRecord]:
        """Checkpoint records, of one name or all, by name and version."""
        prefix = f"checkpoints/{name}" if name else "checkpoints"
        keys = sorted(key for key in self.store.keys(prefix) if layout.version_of(key))
        records = [CheckpointRecord.model_validate_json(self.store.get(key)) for key in keys]
        return [found for found in records if name is None or found.name == name]

    def checkpoint(self, ref: str) -> CheckpointRecord:
        """The record of `name@2`, or the latest of `name` that is whole (of rehearsals alone: the latest)."""
        try:
            name, version = layout.split_ref(ref)
        except ValueError as error:
            raise NotInWarehouse(str(error)) from None
        known = self.checkpoints(name)
        if version is None and known:
            return next((found for found in reversed(known) if not found.partial), known[-1])
        for found in known:
            if str(found.version) == version:
                return found
        raise NotInWarehouse(f"no checkpoint {ref!r} in {self.root}: it has "
                             f"{', '.join(f.ref for f in self.checkpoints()) or 'none'}")

    def checkpoint_folder(self, record: CheckpointRecord, destination: Path) -> Path:
        """Lay a checkpoint's files out in `destination` (hard links where possible)."""
        import os
        import shutil

        for name, digest in record.files.items():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                source = self.store.path(layout.checkpoint_file(digest))
                try:
                    os.link(source, target)
                except FileExistsError:  # another run has just put it there
                    continue
                except OSError:
                    shutil.copyfile(source, target)
        return destination

    # -- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, record: RunRecord) -> None:
        self.store.put_if_absent(layout.run(record.run_id), record.to_json())

    def heartbeat(self, run_id: str) -> None:
        """Say that a run is alive."""
        self.store.replace(layout.run(run_id, "heartbeat"), json.dumps({"at": now()}).encode())

    def end_run(self, end: RunEnd) -> None:
        self.store.put_if_absent(layout.run(end.run_id, "end"), end.to_json())

    def runs(self) -> Iterator[tuple[RunRecord, RunEnd | None, str | None]]:
        """(start, end or None, last heartbeat or None) of every run, oldest first."""
        for run_id in self.store.names("runs"):
            if not self.store.exists(layout.run(run_id)):
                continue
            start = RunRecord.model_validate_json(self.store.get(layout.run(run_id)))
            end_key, beat_key = layout.run(run_id, "end"), layout.run(run_id, "heartbeat")
            end = RunEnd.model_validate_json(self.store.get(end_key)) if self.store.exists(end_key) else None
            beat = json.loads(self.store.get(beat_key))["at"] if self.store.exists(beat_key) else None
            yield start, end, beat

    # -- asking ------------------------------------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        from warehouse.catalog import connect

        return connect(self)

    def sql(self, query: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """Answer one read-only SQL statement over the views (see `warehouse.catalog`), as a polars frame."""
        from warehouse.catalog import run_query

        return run_query(self, query, parameters)
