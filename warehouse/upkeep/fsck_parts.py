"""The second pass: every part and every checkpoint file, one at a time."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from warehouse import layout
from warehouse.errors import NotInWarehouse
from warehouse.objectstore import LocalStore
from warehouse.records import Part
from warehouse.upkeep.fsck_records import AGAIN, COPY, Inventory

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from warehouse.objectstore import Store
    from warehouse.upkeep.fsck import Findings

REQUIRED = {"rows": ("row_id",), "selection": ("row_id",), "scores": ("row_id",), "rejections": ("row_id",),
            "failures": ("row_id",), "superseded": ("row_id",), "provenance": ("row_id",),
            "row_lineage": ("child_row_id", "parent_row_id")}
_SORTED = {"rows": "row_id", "row_lineage": "child_row_id"}


def check_parts(store: Store, inventory: Inventory, findings: Findings, *, quick: bool) -> set[str]:
    """Look at every part that must be there; returns the keys of those that can be read."""
    wanted: dict[str, tuple[list[str], str, Part]] = {}
    named: set[str] = set()
    for manifest in inventory.manifests.values():
        for table, parts in manifest.tables.items():
            named.update(part.path for part in parts)
            if manifest.ref in inventory.kept:
                for part in parts:
                    wanted.setdefault(part.path, ([], table, part))[0].append(manifest.ref)
    good = set()
    for done, (key, (refs, table, part)) in enumerate(wanted.items()):
        findings.step("parts", done, len(wanted))
        findings.checked["parts"] += 1
        findings.checked["bytes"] += part.bytes
        wrong = _wrong(store, table, part, quick=quick)
        if wrong is None:
            good.add(key)
        else:
            findings.hurt("part", f"{', '.join(refs)}, table {table}", key, expected=wrong[0], found=wrong[1],
                          next_act=AGAIN)
    named.update(part.path for parts in inventory.work.values() for part in parts)
    _files(store, inventory, findings, quick=quick)
    _orphans(store, inventory, named, findings)
    return good


def _wrong(store: Store, table: str, part: Part, *, quick: bool) -> tuple[str, str] | None:
    """What was expected of a part and what was found; None when it is as its manifest says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = store.size(part.path)
    if size != part.bytes:
        return f"{part.bytes} bytes", "no file" if size is None else f"{size} bytes"
    try:
        source = _open(store, part.path)
        if not quick:
            digest = _digest(source)
            if digest != part.sha256:
                return f"sha256 {part.sha256}", f"sha256 {digest}"
        file = pq.ParquetFile(source)
        if file.metadata.num_rows != part.rows:
            return f"{part.rows} rows", f"{file.metadata.num_rows} rows"
        missing = [name for name in REQUIRED.get(table, ()) if name not in file.schema_arrow.names]
        if missing:
            return f"the column {missing[0]}", f"only {', '.join(file.schema_arrow.names)}"
        return None if quick else _wrong_ids(file, table, part)
    except NotInWarehouse:
        return f"{part.bytes} bytes", "no file"
    except (pa.ArrowException, OSError, ValueError) as error:
        return "a Parquet file", f"{type(error).__name__}: {error}"


def _wrong_ids(file: pq.ParquetFile, table: str, part: Part) -> tuple[str, str] | None:
    """Ids that leave the bounds of their part, or are out of order: look-ups would pass them by."""
    import polars as pl

    names = [name for name in file.schema_arrow.names if name in ("row_id", "child_row_id", "root_row_id")]
    if part.rows == 0 or not names:
        return None
    frame = pl.DataFrame(file.read(columns=names))
    if part.min_row_id is None and table == "rows":
        return "bounds of its row ids in the manifest", "none"
    if part.min_row_id is not None:
        bounds = {(frame[name].min(), frame[name].max()) for name in names}
        if (part.min_row_id, part.max_row_id) not in bounds:
            low, high = min(bounds, key=str)
            return f"row ids from {part.min_row_id} to {part.max_row_id}", f"from {low} to {high}"
    key = _SORTED.get(table)
    if key is None:
        return None
    if frame[key].null_count():
        return f"a {key} in every row", f"{frame[key].null_count()} rows without"
    steps = frame[key].diff().drop_nulls()
    if table == "rows" and (steps <= 0).any():
        return "row ids that ascend, each once", f"{(steps <= 0).sum()} that do not"
    if (steps < 0).any():
        return f"rows sorted by {key}", f"{(steps < 0).sum()} out of order"
    return None


def _files(store: Store, inventory: Inventory, findings: Findings, *, quick: bool) -> None:
    """The files of checkpoints that live."""
    seen: set[str] = set()
    for key, record in inventory.checkpoints.items():
        if layout.tombstone(key) in inventory.tombstones:
            continue
        total = 0
        for name, digest in sorted(record.files.items()):
            at = layout.checkpoint_file(digest)
            size = store.size(at)
            total += size or 0
            if at in seen:
                continue
            seen.add(at)
            findings.checked["checkpoint files"] += 1
            found = "no file" if size is None else digest if quick else _digest(_open(store, at))
            if found != digest:
                findings.hurt("checkpoint", f"{record.ref}, file {name}", at, expected=f"sha256 {digest}", found=found,
                              next_act=f"{COPY}, or train it again")
        if total != record.bytes and all(store.exists(layout.checkpoint_file(each)) for each in record.files.values()):
            findings.hurt("checkpoint", record.ref, key, expected=f"files of {record.bytes} bytes", found=total,
                          next_act=f"{COPY}, or train it again")


def _orphans(store: Store, inventory: Inventory, named: set[str], findings: Findings) -> None:
    """Files that no record names: of runs that died, or of deleted versions."""
    files = {layout.checkpoint_file(digest) for record in inventory.checkpoints.values()
             for digest in record.files.values()}
    for prefix, known in (("parts", named), ("checkpoints/files", files)):
        orphans = [key for key in store.keys(prefix) if key not in known]
        if orphans:
            size = sum(store.size(key) or 0 for key in orphans)
            findings.note("orphans", f"{len(orphans)} files below {prefix} that no record names ({size} bytes)",
                          "gc takes them when they are old enough")
    scratch = store.names(layout.TMP)
    if scratch:
        findings.note("scratch", f"{len(scratch)} folders of unfinished work in {layout.TMP}",
                      "gc takes those of processes that are gone")


def _open(store: Store, key: str) -> Path | BinaryIO:
    """A file as pyarrow reads it: a path on a local disk, the bytes of one object elsewhere."""
    return store.path(key) if isinstance(store, LocalStore) else io.BytesIO(store.get(key))


def _digest(source: Path | BinaryIO) -> str:
    if isinstance(source, Path):
        with open(source, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256(source.read()).hexdigest()
    source.seek(0)
    return found
