"""The compacted tables: the narrow tables of all versions, each part once, as segments sorted by id.

Ten thousand small files would cost ten thousand opens. Parts are taken in the order in which they were committed and
at most `segments.full_rows` at a time, so memory is bounded by the batch, however large the warehouse.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.catalog import records
from warehouse.catalog.segments import full_rows
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.parts import read_file
from warehouse.tables import COMPACTED, STANDARD_SCORES

if TYPE_CHECKING:
    from warehouse.catalog.catalog import Catalog


def compact(catalog: Catalog, most: int) -> None:
    """Take in the parts that came since the last time, then merge what has become many small segments.

    A part that cannot be read is tried again the next time: it is damaged and may be restored, or gc took it and the
    same rows may be committed again.
    """
    parts = catalog.frame("dataset_parts")
    again = unreadable(catalog)["part_id"]
    taken = sorted(set(catalog.state.unread) - set(again))
    new = parts.filter((pl.col("part_id") >= catalog.state.compacted) | pl.col("part_id").is_in(again.implode()))
    if new.height == 0:
        return
    new = new.filter(pl.col("rows") > 0).unique("part_id", keep="first", maintain_order=True).sort("part_id")
    segments, unread = dict(catalog.state.segments), taken
    for table, (stored, key, schema) in COMPACTED.items():
        found = segments.get(table, [])
        for batch in _batches(new.filter(pl.col("table_name") == stored), full_rows(table)):
            frame, left = _read(catalog, batch, table, schema)
            unread += left
            found = catalog.shelf.add(table, found, frame, key, most)
        segments[table] = found
    catalog.change(segments=segments, compacted=catalog.state.next_part, unread=unread)


def unreadable(catalog: Catalog) -> pl.DataFrame:
    """(part_id, ref, path, bytes) of parts of versions that were not deleted which could not be read: their rows are
    missing from the compacted tables."""
    columns = ("part_id", "ref", "path", "bytes")
    if not catalog.state.unread:
        return records.frame("dataset_parts", []).select(columns)
    parts = catalog.rows_where("dataset_parts", "part_id", catalog.state.unread)
    return catalog.live(parts).unique("part_id").select(columns)


def mended(catalog: Catalog) -> bool:
    """Whether a part that could not be read may be readable now."""
    found = unreadable(catalog).select("path", "bytes")
    return any(catalog.store.size(path) == size for path, size in found.iter_rows())


def _batches(parts: pl.DataFrame, most: int) -> list[pl.DataFrame]:
    """Consecutive parts of at most so many rows together (or one larger part)."""
    total = 0
    numbers, number = [], 0
    for rows in parts["rows"]:
        if total and total + rows > most:
            total, number = 0, number + 1
        total += rows
        numbers.append(number)
    return parts.with_columns(batch=pl.Series(numbers, dtype=pl.Int64())).partition_by("batch", maintain_order=True)


def _read(catalog: Catalog, parts: pl.DataFrame, table: str,
          schema: dict[str, pl.DataType]) -> tuple[pl.DataFrame, list[int]]:
    """The rows of these parts with their `part_id`, and the parts that cannot be read."""
    frames, unread = [pl.DataFrame(schema={**schema, "part_id": pl.Int64()})], []
    for path, part_id in parts.select("path", "part_id").iter_rows():
        try:
            frame = _standard(catalog, path, table, schema)
        except (OSError, pl.exceptions.PolarsError) as error:
            if not _damaged(catalog, path):
                raise WarehouseError(f"{catalog.store.url(path)} cannot be read now ({error}): try again") from error
            unread.append(part_id)
            continue
        frames.append(frame.with_columns(part_id=pl.lit(part_id, dtype=pl.Int64())))
    return pl.concat(frames), unread


def _damaged(catalog: Catalog, path: str) -> bool:
    """Whether a part is gone or no Parquet, and not only out of reach for the moment."""
    try:
        pq.ParquetFile(io.BytesIO(catalog.store.get(path))).read()
    except (NotInWarehouse, pa.ArrowInvalid):
        return True
    except OSError as error:  # Arrow calls a damaged page an OSError without a number
        return error.errno is None
    return False


def _standard(catalog: Catalog, path: str, table: str, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """A part with exactly the table's columns."""
    if table == "row_ids":
        return read_file(catalog.store, path, ["row_id"])
    frame = read_file(catalog.store, path)
    if table == "verdicts":
        own = [name for name in frame.columns if name not in STANDARD_SCORES]
        readable = [pl.col(name).bin.encode("hex") if frame.schema[name] == pl.Binary() else pl.col(name)
                    for name in own]
        details = pl.struct(readable).struct.json_encode() if own else pl.lit(None, dtype=pl.String())
        frame = frame.with_columns(details=details)
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
