"""Segments: the immutable files of a catalog table, merged by size so that their number grows with the logarithm of the
table and never with its history.

A new batch becomes a segment. Eight segments of one size class become one of the next, of a million rows at most (fewer
where they are wide); from half of that on a segment stays as it is. Rows lie sorted by the table's key, and ids rise
with time, so these segments hardly overlap and a look-up by id reads one row group of one or two of them.
"""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import layout
from warehouse.objectstore import Store
from warehouse.parts import ROW_GROUP_ROWS, encoding, file_schema
from warehouse.records import Record

FAN, SMALLEST, FULL = 8, 1 << 10, 1 << 20
_WIDE = {"verdicts": 1 << 17}  # rows of some 400 bytes, of which a sort and a file make copies
BRIEF = 1 << 18
"""The most rows that opening a warehouse merges into one segment; larger merges wait for the end of a run or a gc."""


class Segment(Record):
    """One file of a catalog table: a key of the warehouse, or an absolute path where the warehouse cannot be
    written."""

    file: str
    rows: int
    bytes: int = 0

    @property
    def size_class(self) -> int:
        """0 below 1,024 rows, one more for each factor of eight."""
        return _size_class(self.rows)


def _size_class(rows: int) -> int:
    return 0 if rows < SMALLEST else 1 + int(math.log(rows / SMALLEST, FAN) + 1e-9)


def full_rows(table: str) -> int:
    """The most rows that are put into one segment: a million, less where rows are wide. From half of them on a segment
    is full and stays as it is."""
    return _WIDE.get(table, FULL)


def _sorted(frame: pl.DataFrame, key: str | None) -> pl.DataFrame:
    """The frame by its key; not copied where it is so already."""
    return frame if key is None or frame[key].is_sorted() else frame.sort(key)


def _together(segments: list[Segment], most: int) -> list[Segment]:
    """The first segments that have at most so many rows together, two at least."""
    total, count = 0, 0
    for segment in segments:
        total += segment.rows
        count += total <= most
    return segments[:max(count, 2)]


class Shelf:
    """Where segments are written: the warehouse's own catalog folder, or a folder of this process."""

    def __init__(self, store: Store, private: Path | None = None):
        self.store, self.private = store, private

    def write(self, table: str, frame: pl.DataFrame) -> Segment:
        """Write a frame as a new segment."""
        name = f"{table}/{uuid.uuid4().hex[:16]}.parquet"
        scratch = (self.private or self.store.scratch()) / f"{uuid.uuid4().hex}.parquet"
        arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        numbers = [field.name for field in arrow.schema if pa.types.is_integer(field.type)]
        pq.write_table(arrow, scratch, row_group_size=ROW_GROUP_ROWS, **encoding(arrow, numbers))
        if self.private is not None:
            final = self.private / name
            final.parent.mkdir(parents=True, exist_ok=True)
            scratch.rename(final)
            return Segment(file=str(final), rows=frame.height, bytes=final.stat().st_size)
        key, size = f"{layout.CATALOG}/{name}", scratch.stat().st_size
        self.store.adopt(scratch, key)
        return Segment(file=key, rows=frame.height, bytes=size)

    def read(self, segment: Segment) -> pl.DataFrame:
        """A segment's rows."""
        url, options = self._place(segment)
        return pl.read_parquet(url, glob=False, storage_options=options)

    def sound(self, segments: Sequence[Segment]) -> bool:
        """Whether all these files are there and end in a footer that can be read."""
        try:
            for segment in segments:
                file_schema(*self._place(segment))
        except (OSError, pl.exceptions.PolarsError):
            return False
        return True

    def _place(self, segment: Segment) -> tuple[str, dict[str, str] | None]:
        """Where polars finds a segment, and with which settings."""
        if segment.file.startswith("/"):
            return segment.file, None
        return self.store.url(segment.file), self.store.storage_options

    def add(self, table: str, segments: Sequence[Segment], frame: pl.DataFrame, key: str | None,
            most: int = BRIEF) -> list[Segment]:
        """The table's segments with a batch more; merges that would hold over `most` rows are left for later."""
        if frame.height == 0:
            return list(segments)
        found = [*segments, self.write(table, _sorted(frame, key))]
        return self.merge(table, found, key, most)

    def merge(self, table: str, segments: list[Segment], key: str | None, most: int) -> list[Segment]:
        """Merge classes that have grown full, smallest first."""
        classes: dict[int, list[Segment]] = defaultdict(list)
        full = full_rows(table)
        for segment in segments:
            classes[segment.size_class].append(segment)
        for size_class in sorted(classes):
            alike = classes[size_class]
            if len(alike) < FAN or size_class >= _size_class(full):
                continue
            alike = _together(alike, full)
            if sum(segment.rows for segment in alike) > most:
                continue
            frame = pl.concat([self.read(segment) for segment in alike], how="diagonal_relaxed")
            merged = self.write(table, _sorted(frame, key))
            kept = [segment for segment in segments if segment not in alike]
            return self.merge(table, [*kept, merged], key, most)
        return segments
