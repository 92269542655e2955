"""The shingles of candidates on disk: texts are read and shingled once, in stored order, and taken by row afterwards.

A file of 8 bytes for each shingle of each candidate. Rows outside every candidate pair are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.dedup.near.rows import I64, Rows
from factory.dedup.near.shingle import shingle_texts
from factory.engine.errors import DataError
from factory.engine.gathered import Gathered
from factory.text.buffers import text_buffers

_ROWS = 1024


class Shelf:
    """Shingles of the rows that `wanted` marks."""

    def __init__(self, gathered: Gathered, rows: Rows, wanted: npt.NDArray[np.bool_], column: str, ngram: int,
                 budget: int) -> None:
        """`budget`: shingles to make at once.

        Raises:
            DataError: a text is not the one that was measured.
        """
        self._path: Path = gathered.scratch / "shingles.u64"
        self._sizes, self._starts = rows.sizes, np.full(rows.total, -1, np.int64)
        numbers = np.flatnonzero(wanted)
        numbers = numbers[np.argsort(rows.ids[numbers], kind="stable")]
        sizes = rows.sizes[numbers].astype(np.int64)
        self._starts[numbers] = np.cumsum(sizes) - sizes
        with self._path.open("wb") as stream:
            for some in _pieces(numbers, sizes, budget):
                frame = gathered.rows(pl.Series("row_id", rows.ids[some], pl.Int64)).sort("row_id")
                shingles = shingle_texts(text_buffers(frame[column]), ngram)
                if frame.height != len(some) or (shingles.counts != rows.sizes[some]).any():
                    raise DataError(f"rows of column {column!r} are not those that were measured: run "
                                    "`factory warehouse check`")
                shingles.flat.tofile(stream)

    def fetch(self, numbers: I64) -> tuple[npt.NDArray[np.uint64], I64]:
        """(shingles of these rows one after another, where those of each begin and the end)."""
        offsets = np.concatenate([[0], np.cumsum(self._sizes[numbers].astype(np.int64))])
        flat = np.empty(offsets[-1], np.uint64)
        with self._path.open("rb", buffering=0) as stream:
            for at, number in enumerate(numbers.tolist()):
                stream.seek(8 * int(self._starts[number]))
                stream.readinto(flat[offsets[at]:offsets[at + 1]].data)
        return flat, offsets


def _pieces(numbers: I64, sizes: I64, budget: int) -> Iterator[I64]:
    """Rows in pieces of at most `budget` shingles, or one row."""
    ends = np.cumsum(sizes)
    at = 0
    while at < len(numbers):
        stop = int(np.searchsorted(ends, ends[at] - sizes[at] + budget, "right"))
        stop = min(max(stop, at + 1), at + _ROWS)
        yield numbers[at:stop]
        at = stop
