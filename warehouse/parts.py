"""Parquet parts: written once, named by the sha256 of their bytes.

Row groups are cut by bytes (32 MB), not by rows: 20 000 rows of 10 KB would otherwise be one group of 200 MB and a
point look-up would read it whole. Id columns come first and are delta-encoded; text is `large_string`, because offsets
of plain strings overflow at 2 GB. Options are pinned, so equal tables give equal bytes under one pyarrow version.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import faults, layout
from warehouse.errors import DamagedPart, WarehouseError
from warehouse.objectstore import Store
from warehouse.records import Part

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 65_536
WRITE_BEHIND_BYTES = 8 << 20
_ID_TYPES = (pa.int64(), pa.uint64())


def _row_group_rows(table: pa.Table) -> int:
    if table.num_rows == 0:
        return ROW_GROUP_ROWS
    return int(max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * table.num_rows // max(table.nbytes, 1))))


class _Sink:
    """An open scratch file as Parquet is written to it: hashed as it goes by, so that nothing is read back, and sent to
    the disk behind the encoder, so that the last fsync has little left to wait for."""

    closed = False

    def __init__(self, file: BinaryIO):
        self._file, self._sha256, self.bytes = file, hashlib.sha256(), 0
        self._behind: ThreadPoolExecutor | None = None
        self._syncing: Future[None] | None = None
        self._asked = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._sha256.update(data)
        self.bytes += len(data)
        if self.bytes - self._asked > WRITE_BEHIND_BYTES and (self._syncing is None or self._syncing.done()):
            self._sync_behind()
        return len(data)

    def _sync_behind(self) -> None:
        if self._syncing is not None:
            self._syncing.result()  # the kernel tells of a failed write once: the last fsync would know nothing of it
        self._behind = self._behind or ThreadPoolExecutor(1)
        self._asked = self.bytes
        self._file.flush()
        self._syncing = self._behind.submit(os.fsync, self._file.fileno())

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Parquet flushes after each row group; what counts is `finish`."""

    def close(self) -> None:
        """The file's owner closes it."""

    def finish(self) -> str:
        """Have everything on the disk; sha256 of the bytes."""
        if self._syncing is not None:
            self._syncing.result()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._sha256.hexdigest()

    def stop(self) -> None:
        """Wait for a sync that is under way: the file must stay open until then."""
        if self._behind is not None:
            self._behind.shutdown()


def write_part(store: Store, frame: pl.DataFrame, *, of: str | None = None) -> Part:
    """Write a frame as a part. An empty frame is a valid part (its schema is information).

    If the frame has `row_id` (or `child_row_id`), the part's id bounds are taken from it. Raises WarehouseError when
    the disk takes no more; nothing is left behind then.
    """
    scratch = store.scratch() / f"{uuid.uuid4().hex}.parquet"
    try:
        sha256, size = _write_scratch(scratch, frame)
        faults.point("part.written")
        key = layout.part(sha256)
        store.adopt(scratch, key)
        faults.point("part.adopted")
    finally:
        scratch.unlink(missing_ok=True)
    low, high = _bounds(frame)
    return Part(path=key, sha256=sha256, rows=frame.height, bytes=size, min_row_id=low, max_row_id=high, of=of)


def _write_scratch(path: Path, frame: pl.DataFrame) -> tuple[str, int]:
    """sha256 and size of the Parquet file that is at `path` now, and safe on the disk."""
    try:
        with open(path, "wb") as file:
            sink = _Sink(file)
            try:
                _write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), sink)
                return sink.finish(), sink.bytes
            finally:
                sink.stop()
    except OSError as error:
        raise WarehouseError(f"a part of {frame.height} rows cannot be written to {path.parent}: "
                             f"{error.strerror or error}. Make room or let it be written to, and run again: what was "
                             "finished is kept") from error


def _write_table(table: pa.Table, sink: _Sink) -> None:
    ids = [field.name for field in table.schema if field.type in _ID_TYPES]
    pq.write_table(table, sink, row_group_size=_row_group_rows(table), **encoding(table, ids))


def encoding(table: pa.Table, delta: Sequence[str]) -> dict[str, Any]:
    """How Parquet is written here: zstd, the columns of `delta` as differences, the others through dictionaries, but
    for bytes: nearly all are keys and hashes, of which no two are the same."""
    plain = {*delta, *(field.name for field in table.schema if pa.types.is_large_binary(field.type))}
    return {"compression": "zstd", "compression_level": 3, "store_schema": True,
            "use_dictionary": [name for name in table.column_names if name not in plain],
            "column_encoding": dict.fromkeys(delta, "DELTA_BINARY_PACKED")}


def _bounds(frame: pl.DataFrame) -> tuple[int | None, int | None]:
    name = next((c for c in ("row_id", "child_row_id") if c in frame.columns), None)
    if name is None or frame.height == 0:
        return None, None
    return int(frame[name].min()), int(frame[name].max())  # type: ignore[arg-type]


def read_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a part, whole or some columns. Raises DamagedPart naming the file; WarehouseError when a remote store does
    not answer."""
    if columns is not None and not columns:
        return pl.DataFrame({"_": pl.Series([None] * part.rows)}).drop("_")
    try:
        return read_file(store, part.path, columns)
    except (pl.exceptions.ComputeError, OSError) as error:
        raise _damage(store, part, error) from error


def read_file(store: Store, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A Parquet file of a warehouse, whole or some columns. Raises what polars raises."""
    return pl.read_parquet(store.url(key), columns=list(columns) if columns is not None else None, glob=False,
                           storage_options=store.storage_options)


def read_rows_with(store: Store, part: Part, key: str, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    """The rows of a part whose `key` is one of the ids (distinct), with those of the columns that it has. Raises as
    `read_part`."""
    schema = part_schema(store, part)
    present = [name for name in columns if name in schema]
    try:
        if store.storage_options is None:
            return _take_rows(store.url(part.path), key, ids, present, schema)
        scan = pl.scan_parquet(store.url(part.path), glob=False, storage_options=store.storage_options)
        return scan.filter(pl.col(key).is_in(ids.implode())).select(present).collect()
    except (pl.exceptions.ComputeError, pa.ArrowException, OSError) as error:
        raise _damage(store, part, error) from error


def _take_rows(path: str, key: str, ids: pl.Series, columns: Sequence[str],
               schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Rows of a file by key, read by pyarrow: it decodes text in half the time of polars and in several threads at
    once, and what it takes out of a part does not keep the rest in memory, as a view of polars would."""
    empty = pl.DataFrame(schema={name: schema[name] for name in columns})
    with pq.ParquetFile(path, pre_buffer=False) as file:
        frames = []
        for group in range(file.num_row_groups):
            keys = pl.Series(file.read_row_group(group, columns=[key], use_threads=False)[key])
            places = keys.is_in(ids.implode()).arg_true()
            if places.len():
                rows = file.read_row_group(group, columns=list(columns), use_threads=False)
                frame = pl.from_arrow(rows if places.len() == rows.num_rows else rows.take(places.to_arrow()))
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame.select(pl.col(name).cast(schema[name]) for name in columns))
    return pl.concat([empty, *frames]) if frames else empty


def file_schema(url: str, options: dict[str, str] | None) -> dict[str, pl.DataType]:
    """Columns and dtypes of a Parquet file, from its footer. Raises what polars raises."""
    if options is None:
        return dict(pl.read_parquet_schema(url))
    return dict(pl.scan_parquet(url, glob=False, storage_options=options).collect_schema())


def part_schema(store: Store, part: Part) -> dict[str, pl.DataType]:
    """Columns and dtypes of a part, from its footer. Raises as `read_part`."""
    try:
        return file_schema(store.url(part.path), store.storage_options)
    except (pl.exceptions.ComputeError, OSError) as error:
        raise _damage(store, part, error) from error


def _damage(store: Store, part: Part, error: Exception) -> WarehouseError:
    """Why a part could not be read: it is gone, it is not what was written, or a remote store failed us."""
    size = store.size(part.path)
    if size is None:
        return DamagedPart(f"part {part.path} is missing from {store.root}: restore it from a copy of the warehouse, "
                           "or run the recipe again with a new seed")
    reason = str(error).split("\n", 1)[0]
    if size == part.bytes and store.storage_options is not None and "object-store error" in str(error):
        return WarehouseError(f"{store.url(part.path)} cannot be read now ({reason}): see that {store.root} can be "
                              "reached, then try again")
    return DamagedPart(f"part {part.path} cannot be read ({reason}): restore it from a copy")


def scan_parts(store: Store, parts: Sequence[Part], schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Scan parts lazily with one schema: columns that a part lacks are null, columns beyond the schema are left out."""
    urls = [store.url(part.path) for part in parts if part.rows]
    if not urls:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(urls, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False,
                           storage_options=store.storage_options)
