"""The warehouse: opening one, committing to it, finding versions in it.

Committing is one act: create `datasets/<name>/v<N>.json`, which must not exist. It is announced first, so that readers
find it without listing. Whoever finds the name taken tries N + 1; a version with the same fingerprint, content and
inputs is returned as it is instead of being repeated.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from warehouse import checkpoints, faults, layout
from warehouse.catalog.catalog import Catalog
from warehouse.dataset import Dataset
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.feed import Feed
from warehouse.ids import namespace_of, namespace_owner
from warehouse.objectstore import Store, open_store, selftest
from warehouse.records import FORMAT, CheckpointRecord, Manifest, RunEnd, RunRecord, Tombstone, now

if TYPE_CHECKING:
    from warehouse.catalog.asking import Connection

DEFAULT_ROOT = "warehouse-data"


class Warehouse:
    """A warehouse at `root` (a local folder).

    Args:
        root: folder; `./warehouse-data` by default.
        create: make it when it does not exist; otherwise NotInWarehouse is raised.
    """

    def __init__(self, root: str | Path = DEFAULT_ROOT, *, create: bool = False):
        self.store: Store = open_store(root)
        self.feed = Feed(self.store)
        self.catalog = Catalog(self)
        self.open_connection: Connection | None = None
        self._manifests: dict[str, Manifest] = {}
        if not self.store.exists(layout.ROOT_RECORD):
            if not create:
                raise NotInWarehouse(f"{root} is not a warehouse (it has no {layout.ROOT_RECORD}): run a recipe with "
                                     f"`--warehouse {root}` to make one, or name another folder")
            self._found(root)
        try:
            form = json.loads(self.store.get(layout.ROOT_RECORD))["format"]
        except (ValueError, KeyError, TypeError):
            raise WarehouseError(f"{self.store.url(layout.ROOT_RECORD)} is damaged: restore it from a copy of the "
                                 "warehouse") from None
        if form != FORMAT:
            raise WarehouseError(f"{root} has format {form}, this version reads {FORMAT}: use the version of "
                                 "dataset-factory that wrote it")

    def _found(self, root: str | Path) -> None:
        record = {"format": FORMAT, "warehouse_id": uuid.uuid4().hex, "row_key": "sha256/16", "content_hash": "mset256"}
        try:
            selftest(self.store)
            self.store.put_if_absent(layout.ROOT_RECORD, json.dumps(record).encode())
        except OSError as error:
            raise WarehouseError(f"{root} cannot become a warehouse: {error.strerror or error}. Name a folder that can "
                                 "be written") from None
        self.store.clear_scratch()

    @property
    def root(self) -> Path | str:
        return self.store.root

    # -- finding -----------------------------------------------------------------------------------------------------

    def manifests(self) -> list[Manifest]:
        """Every version that was not deleted, by name and version. Manifests never change, so each is read once."""
        datasets = self._live().sort("dataset", "version")
        return [self._known(layout.manifest(name, number)) for name, number in
                datasets.select("dataset", "version").iter_rows()]

    def _live(self) -> pl.DataFrame:
        """The catalog's rows of versions that were not deleted."""
        self.catalog.refresh()
        return self.catalog.live(self.catalog.frame("datasets"))

    def read_manifest(self, key: str, *, keep: bool = True) -> Manifest:
        """The manifest at a key; WarehouseError when it is not one."""
        try:
            found = Manifest.model_validate_json(self.store.get(key))
        except ValidationError as error:
            raise WarehouseError(f"{self.store.url(key)} is not a manifest of this format ({error.error_count()} "
                                 "faults): restore it from a copy of the warehouse") from error
        if keep:
            self._manifests[key] = found
        return found

    def _known(self, key: str) -> Manifest:
        return self._manifests.get(key) or self.read_manifest(key)

    def any_manifest(self, ref: str) -> Manifest:
        """The manifest of `name@3`, deleted or not: rows of a deleted version stay while others are made from them."""
        name, version = self._numbered(ref)
        return self._known(self._existing(name, version, ref))

    def _existing(self, name: str, version: int, asked: str) -> str:
        """The key of a version's manifest. Raises NotInWarehouse about what was asked for."""
        key = layout.manifest(name, version)
        if key not in self._manifests and not self.store.exists(key):
            raise self._unknown(asked, name)
        return key

    def _numbered(self, ref: str) -> tuple[str, int]:
        name, _, version = ref.rpartition("@")
        if not name or not (version.isascii() and version.isdigit()):
            raise NotInWarehouse(f"{ref}: name the version by its number, as name@3")
        return name, int(version)

    def versions(self, name: str) -> list[int]:
        """The version numbers of a dataset that were not deleted, ascending."""
        return self._live().filter(pl.col("dataset") == name)["version"].sort().to_list()

    def latest_versions(self) -> dict[str, str]:
        """Each dataset's name with its latest version (`name@3`): the newest whole one, of rehearsals alone the
        newest."""
        order = self._live().sort(pl.col("partial").not_(), "version").unique("dataset", keep="last")
        return dict(order.sort("dataset").select("dataset", "ref").iter_rows())

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
        key = self._existing(name, int(version), ref)
        if self.store.exists(layout.tombstone(key)):
            raise NotInWarehouse(f"{name}@{int(version)} was deleted: `factory restore {name}@{int(version)}` brings "
                                 f"it back while gc has not taken its parts; versions are {self.versions(name)}")
        return self._known(key)

    def _latest(self, name: str) -> Manifest:
        latest = self.latest_versions().get(name)
        if latest is None:
            raise self._unknown(name, name)
        return self.any_manifest(latest)

    def _unknown(self, ref: str, name: str) -> NotInWarehouse:
        import difflib

        names = sorted(set(self._live()["dataset"]))
        if name in names:
            return NotInWarehouse(f"{ref} does not exist: {name} has versions {self.versions(name)}")
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`factory ls` lists the datasets."
        return NotInWarehouse(f"no dataset {name!r} in {self.root}: {hint}")

    def dataset(self, ref: str) -> Dataset:
        """A dataset version to read."""
        return Dataset(self.store, self.manifest(ref), self.any_dataset)

    def any_dataset(self, ref: str) -> Dataset:
        """`name@3` to read, deleted or not."""
        return Dataset(self.store, self.any_manifest(ref), self.any_dataset)

    def find(self, fingerprint: str) -> list[Manifest]:
        """Versions made by a step with this fingerprint, newest last."""
        return self._where("step_fingerprint", fingerprint)

    def family(self, family: str) -> list[Manifest]:
        """Versions of a family (a fingerprint without its extensible parts), newest last."""
        return self._where("family", family)

    def _where(self, column: str, value: str) -> list[Manifest]:
        found = self._live().filter(pl.col(column) == value).sort("sequence", "version", maintain_order=True)
        try:
            return [self._known(layout.manifest(name, number)) for name, number in
                    found.select("dataset", "version").iter_rows()]
        except NotInWarehouse:  # somebody took a manifest away by hand: files are the truth
            self.catalog.forget()
            return self._where(column, value)

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
        with self.store.lease(layout.GC_LOCK, shared=True):  # gc deletes nothing between our look and the commit
            self._check_parts(draft)
            self._check_led(draft)
            faults.point("commit.checked")
            version = self._next_version(draft.dataset)
            known = self._equal(draft)  # after the number: whoever commits the same now takes that number from us
            while known is None:
                made = self._create(draft, version)
                if made is not None:
                    return made
                known = self._equal(draft)
                version += 1
            return known

    def _check_parts(self, draft: Manifest, what: str = "") -> None:
        for parts in draft.tables.values():
            for part in parts:
                if self.store.size(part.path) != part.bytes:
                    raise WarehouseError(f"{what or f'{draft.dataset} was not committed'}: its part {part.path} is "
                                         "missing or cut. Run the recipe again")
                self.store.touch(part.path)

    def _check_led(self, draft: Manifest) -> None:
        """Parts of deleted versions that led to this one: gc may have taken them. Of live ones it takes none."""
        refs, seen = [item.ref for item in draft.inputs], set[str]()
        while refs:
            ref = refs.pop()
            found = self.any_manifest(ref)
            if ref in seen or not self.store.exists(layout.tombstone(layout.manifest(found.dataset, found.version))):
                continue
            seen.add(ref)
            self._check_parts(found, f"{draft.dataset}: it was made from {ref}, which was deleted")
            refs += [item.ref for item in found.inputs]

    def _next_version(self, name: str) -> int:
        """One more than the highest number in use, deleted versions among them: numbers never come back."""
        self.catalog.refresh()
        datasets = self.catalog.frame("datasets")
        top = datasets.filter(pl.col("dataset") == name)["version"].max()
        if top is None:
            self._check_spelling(name, datasets["dataset"])
        version = (int(top) if isinstance(top, int) else 0) + 1
        while self.store.exists(layout.manifest(name, version)):
            version += 1
        return version

    def _check_spelling(self, name: str, names: pl.Series) -> None:
        """SQL and some disks do not tell `Math` from `math`."""
        alike = names.filter(names.str.to_lowercase() == name.lower())
        if alike.len():
            raise WarehouseError(f"{name}: there is a dataset {alike[0]}, which differs in upper and lower case only: "
                                 "use that name, or another")

    def _equal(self, draft: Manifest) -> Manifest | None:
        """A live version of the same name that the draft would only repeat."""
        pins = [(item.role, item.parts_digest) for item in draft.inputs]
        for known in reversed(self.find(draft.fingerprint)):
            same = (known.dataset, known.parts_digest, [(item.role, item.parts_digest) for item in known.inputs],
                    known.counts, known.facts.get("checkpoint")) == (
                        draft.dataset, draft.parts_digest, pins, draft.counts, draft.facts.get("checkpoint"))
            if same:
                return known
        return None

    def _create(self, draft: Manifest, version: int) -> Manifest | None:
        """Announce and create one version; None when somebody else has that number."""
        key = layout.manifest(draft.dataset, version)
        sequence = self.feed.announce(key)
        faults.point("commit.announced")
        manifest = draft.model_copy(update={
            "version": version, "commit_id": uuid.uuid4().hex, "sequence": sequence, "created_at": now(),
            "parent_version": version - 1 if version > 1 else None})
        if not self.store.put_if_absent(key, manifest.to_json()):
            return None
        faults.point("commit.made")
        self._manifests[key] = manifest
        return manifest

    # -- deleting ----------------------------------------------------------------------------------------------------

    def delete(self, ref: str, reason: str = "") -> Manifest:
        """Delete a version: it is listed and chosen no more, its number is not used again. Its parts stay for what was
        made from it, and until `gc` for `restore`. Raises NotInWarehouse."""
        found = self.manifest(ref)
        self.check_untagged(found)
        self._bury(layout.manifest(found.dataset, found.version), reason)
        return found

    def check_untagged(self, found: Manifest) -> None:
        """Raises WarehouseError when a tag names the version."""
        named = [tag for tag, version in self.tags(found.dataset).items() if version == found.version]
        if named:
            raise WarehouseError(f"{found.ref} is tagged {', '.join(named)}: take the tag away first (factory untag "
                                 f"{found.dataset}@{named[0]}), or give it to another version")

    def restore(self, ref: str) -> Manifest:
        """Undo `delete`. Raises NotInWarehouse; WarehouseError when gc has taken parts of it."""
        found = self.any_manifest(ref)
        key = layout.tombstone(layout.manifest(found.dataset, found.version))
        if not self.store.exists(key):
            raise WarehouseError(f"{found.ref} was not deleted: there is nothing to restore")
        with self.store.lease(layout.GC_LOCK):  # alone: a deletion of the same version waits
            self._check_parts(found, f"{found.ref} cannot come back")
            self._check_led(found)
            self._dig_up(key)
        return found

    def _dig_up(self, key: str) -> None:
        self.feed.announce(key, undone=True)
        faults.point("restore.announced")
        self.store.delete(key)
        faults.point("restore.made")

    def delete_checkpoint(self, ref: str, reason: str = "") -> CheckpointRecord:
        """Delete a checkpoint: its record stays, gc takes its files. Raises NotInWarehouse."""
        found = self.checkpoint(ref)
        self._bury(layout.checkpoint(found.name, found.version), reason)
        return found

    def restore_checkpoint(self, ref: str) -> CheckpointRecord:
        """Undo `delete_checkpoint`. Raises NotInWarehouse; WarehouseError when gc has taken files of it."""
        found = self.any_checkpoint(ref)
        if self.has_checkpoint(found.ref):
            raise WarehouseError(f"{found.ref} was not deleted: there is nothing to restore")
        with self.store.lease(layout.GC_LOCK):
            for digest in found.files.values():
                if not self.store.exists(layout.checkpoint_file(digest)):
                    raise WarehouseError(f"{found.ref}: gc has taken its files: train it again")
                self.store.touch(layout.checkpoint_file(digest))
            self._dig_up(layout.tombstone(layout.checkpoint(found.name, found.version)))
        return found

    def _bury(self, record_key: str, reason: str) -> None:
        key = layout.tombstone(record_key)
        with self.store.lease(layout.GC_LOCK):
            self.feed.announce(key)
            faults.point("delete.announced")
            tomb = Tombstone(key=record_key, deleted_at=now(), reason=reason)
            self.store.put_if_absent(key, tomb.to_json())
            faults.point("delete.made")

    def tag(self, name: str, tag: str) -> str:
        """The version number (as text) that a tag names."""
        key = layout.ref(name, tag)
        if not self.store.exists(key):
            if not self.versions(name):
                raise self._unknown(name, name)
            raise NotInWarehouse(f"{name}@{tag} does not exist: no such tag; versions are {self.versions(name)}")
        try:
            return str(int(json.loads(self.store.get(key))["version"]))
        except (ValueError, KeyError, TypeError):
            raise WarehouseError(f"{self.store.url(key)} is damaged: set the tag again (factory tag {name}@N "
                                 f"{tag})") from None

    def tags(self, name: str) -> dict[str, int]:
        """The tags of a dataset and the version each names."""
        found = {}
        for key in (key for key in self.store.names(f"refs/{name}") if key.endswith(".json")):
            with contextlib.suppress(NotInWarehouse):  # taken away since the listing
                found[key.removesuffix(".json")] = int(json.loads(self.store.get(f"refs/{name}/{key}"))["version"])
        return found

    def set_tag(self, ref: str, tag: str) -> Manifest:
        """Let `name@tag` name a version from now on. Raises NotInWarehouse; WarehouseError for a tag that cannot be."""
        if not tag or tag.isdigit() or "/" in tag:
            raise WarehouseError(f"{tag!r} cannot be a tag: use letters, '_', '.', '-' and digits, but not digits "
                                 "alone (numbers name versions)")
        try:
            layout.check_name(tag)
        except ValueError:
            raise WarehouseError(f"{tag!r} cannot be a tag: use letters, digits, '_', '.' and '-'") from None
        found = self.manifest(ref)
        self.store.replace(layout.ref(found.dataset, tag), json.dumps({"version": found.version}).encode())
        return found

    def remove_tag(self, ref: str) -> None:
        """Let `name@tag` name nothing. Raises NotInWarehouse."""
        name, tag = layout.split_ref(ref)
        if tag is None or tag.isdigit():
            raise WarehouseError(f"{ref} names no tag: write name@tag")
        self.tag(name, tag)
        self.store.delete(layout.ref(name, tag))

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def commit_checkpoint(self, name: str, folder: Path, record: dict[str, Any]) -> CheckpointRecord:
        """Commit a model checkpoint (see `warehouse.checkpoints.commit`)."""
        return checkpoints.commit(self, name, folder, record)

    def checkpoints(self, name: str | None = None) -> list[CheckpointRecord]:
        """Checkpoint records, of one name or all, by name and version, deleted ones among them: what they wrote
        stays."""
        return checkpoints.records(self.store, name)

    def checkpoint(self, ref: str) -> CheckpointRecord:
        """The record of `name@2`, or the latest of `name` that is whole (of rehearsals alone: the latest). Deleted ones
        are not found. Raises NotInWarehouse."""
        return checkpoints.find(self, ref)

    def any_checkpoint(self, ref: str) -> CheckpointRecord:
        """The record of `name@2`, deleted or not. Raises NotInWarehouse."""
        key = layout.checkpoint(*self._numbered(ref))
        if not self.store.exists(key):
            raise NotInWarehouse(f"no checkpoint {ref!r} in {self.root}")
        return CheckpointRecord.model_validate_json(self.store.get(key))

    def has_checkpoint(self, ref: str) -> bool:
        """Whether `name@2` exists and was not deleted."""
        key = layout.checkpoint(*self._numbered(ref))
        return self.store.exists(key) and not self.store.exists(layout.tombstone(key))

    def checkpoint_folder(self, record: CheckpointRecord, destination: Path) -> Path:
        """Lay a checkpoint's files out in `destination` (hard links where possible)."""
        for name, digest in record.files.items():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch(layout.checkpoint_file(digest), target)
        return destination

    # -- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, record: RunRecord) -> None:
        """Note the start of a run."""
        self.feed.announce(layout.run(record.run_id))
        self.store.put_if_absent(layout.run(record.run_id), record.to_json())

    def heartbeat(self, run_id: str) -> None:
        """Say that a run is alive."""
        self.store.replace(layout.run(run_id, "heartbeat"), json.dumps({"at": now()}).encode())

    def end_run(self, end: RunEnd) -> None:
        """Note the end of a run."""
        self.feed.announce(layout.run(end.run_id, "end"))
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

    def unreadable(self) -> list[str]:
        """Versions of which a part cannot be read, as far as SQL has met them: answers are without its rows."""
        from warehouse.catalog.compact import unreadable

        return sorted(set(unreadable(self.catalog)["ref"]))

    def sql(self, query: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """Answer one read-only SQL statement over the views (docs/lineage.md), as a polars frame.

        Raises:
            BadQuery: DuckDB does not understand it, or it would do more than read. NotInWarehouse: an unknown version.
        """
        from warehouse.catalog.asking import ask

        return ask(self, query, parameters)
