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

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import layout
from warehouse.errors import DamagedPart
from warehouse.objectstore import LocalStore
from warehouse.records import Part

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 65_536
_ID_TYPES = (pa.int64(), pa.uint64())


def _row_group_rows(table: pa.Table) -> int:
    if table.num_rows == 0:
        return ROW_GROUP_ROWS
    return int(max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * table.num_rows // max(table.nbytes, 1))))


def write_part(store: LocalStore, frame: pl.DataFrame, *, of: str | None = None) -> Part:
    """Write a frame as a part. An empty frame is a valid part (its schema is information).

    If the frame has `row_id` (or `child_row_id`), the part's id bounds are taken from it.
    """
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    ids = [field.name for field in table.schema if field.type in _ID_TYPES]
    scratch = store.scratch() / f"{uuid.uuid4().hex}.parquet"
    with open(scratch, "wb") as sink:
        pq.write_table(table, sink, compression="zstd", compression_level=3, row_group_size=_row_group_rows(table),
                       use_dictionary=[name for name in table.column_names if name not in ids],
                       column_encoding=dict.fromkeys(ids, "DELTA_BINARY_PACKED"), store_schema=True)
        sink.flush()
        os.fsync(sink.fileno())
    with open(scratch, "rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    size = scratch.stat().st_size
    key = layout.part(sha256)
    store.adopt(scratch, key)
    low, high = _bounds(frame)
    return Part(path=key, sha256=sha256, rows=frame.height, bytes=size, min_row_id=low, max_row_id=high, of=of)


def _bounds(frame: pl.DataFrame) -> tuple[int | None, int | None]:
    name = next((c for c in ("row_id", "child_row_id") if c in frame.columns), None)
    if name is None or frame.height == 0:
        return None, None
    return int(frame[name].min()), int(frame[name].max())  # type: ignore[arg-type]


def read_part(store: LocalStore, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a part, whole or some columns. Raises DamagedPart naming the file."""
    path = store.path(part.path)
    try:
        if columns is not None and not columns:
            return pl.DataFrame({"_": pl.Series([None] * part.rows)}).drop("_")
        return pl.read_parquet(path, columns=list(columns) if columns is not None else None, glob=False)
    except FileNotFoundError:
        raise DamagedPart(f"part {part.path} is missing from {store.root}: restore it from a copy of the warehouse, "
                          "or run the recipe again with a new seed") from None
    except (pl.exceptions.ComputeError, OSError) as error:
        raise DamagedPart(f"part {part.path} cannot be read ({error}): restore it from a copy") from error


def scan_parts(store: LocalStore, parts: Sequence[Part], schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Scan parts lazily with one schema: columns that a part lacks are null, columns beyond the schema are left out."""
    paths = [str(store.path(part.path)) for part in parts if part.rows]
    if not paths:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(paths, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)
