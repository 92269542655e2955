"""Model checkpoints: committed like dataset versions, files by content first, then the record that shows them."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse import faults, layout
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.objectstore import Store
from warehouse.records import CheckpointRecord, now

if TYPE_CHECKING:
    from warehouse.store import Warehouse


def commit(warehouse: Warehouse, name: str, folder: Path, record: dict[str, Any]) -> CheckpointRecord:
    """Commit the files of a folder as a checkpoint.

    `record` holds the fields of `CheckpointRecord` beyond name, version, files and bytes. A checkpoint with the same
    fingerprint and files is returned as it is. Raises WarehouseError when the folder is empty.
    """
    layout.check_name(name)
    store = warehouse.store
    files, size = {}, 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        store.copy_if_absent(layout.checkpoint_file(digest), path)
        faults.point("checkpoint.copied")
        files[path.relative_to(folder).as_posix()], size = digest, size + path.stat().st_size
    if not files:
        raise WarehouseError(f"checkpoint {name}: the trainer left no files in its folder")
    with store.lease(layout.GC_LOCK, shared=True):
        for path_name, digest in files.items():  # those that were there already may be gone by now
            if not store.copy_if_absent(layout.checkpoint_file(digest), folder / path_name):
                store.touch(layout.checkpoint_file(digest))
        return _create(warehouse, name, {**record, "files": files, "bytes": size})


def _create(warehouse: Warehouse, name: str, fields: dict[str, Any]) -> CheckpointRecord:
    while True:
        known = records(warehouse.store, name)
        for found in reversed(known):
            same = (found.fingerprint, found.files) == (fields["fingerprint"], fields["files"])
            if same and warehouse.has_checkpoint(found.ref):
                return found
        version = known[-1].version + 1 if known else 1
        made = CheckpointRecord(name=name, version=version, commit_id=uuid.uuid4().hex, created_at=now(), **fields)
        key = layout.checkpoint(name, version)
        warehouse.feed.announce(key)
        faults.point("checkpoint.announced")
        if warehouse.store.put_if_absent(key, made.to_json()):
            faults.point("checkpoint.made")
            return made


def records(store: Store, name: str | None) -> list[CheckpointRecord]:
    """Checkpoint records, of one name or all, by name and version, deleted ones among them."""
    keys = sorted(key for key in store.keys(f"checkpoints/{name}" if name else "checkpoints") if layout.version_of(key))
    found = [CheckpointRecord.model_validate_json(store.get(key)) for key in keys]
    return [record for record in found if name is None or record.name == name]


def find(warehouse: Warehouse, ref: str) -> CheckpointRecord:
    """See `Warehouse.checkpoint`."""
    try:
        name, version = layout.split_ref(ref)
    except ValueError as error:
        raise NotInWarehouse(str(error)) from None
    known = [found for found in records(warehouse.store, name) if warehouse.has_checkpoint(found.ref)]
    if version is None and known:
        return next((found for found in reversed(known) if not found.partial), known[-1])
    for found in known:
        if str(found.version) == version:
            return found
    names = [found.ref for found in records(warehouse.store, None) if warehouse.has_checkpoint(found.ref)]
    raise NotInWarehouse(f"no checkpoint {ref!r} in {warehouse.root}: it has {', '.join(names) or 'none'}")
