"""A column of text as two flat arrays, the form in which kernels read it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc


class TextBuffers(NamedTuple):
    """Row i is the UTF-8 text `data[offsets[i]:offsets[i + 1]]`. Both are C-contiguous and read-only, always, since
    numba compiles a kernel anew for a writable array; `offsets[0]` need not be 0."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many texts there are."""
        return len(self.offsets) - 1

    @property
    def bytes(self) -> int:
        """Bytes of all texts together."""
        return int(self.offsets[-1] - self.offsets[0])


def text_buffers(column: pl.Series | pa.Array | pa.ChunkedArray) -> TextBuffers:
    """A text column's buffers; a null reads as an empty text (ask the column itself which rows are null).

    Arrow's large_string is not copied; a polars column is, once, from its string views.

    Raises:
        TypeError: the column does not hold text.
    """
    if isinstance(column, pl.Series):
        column = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # no chunk at all, or, in older versions, chunks that stay apart
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_null(column.type) or not len(column):
        return _freeze(np.zeros(0, np.uint8), np.zeros(len(column) + 1, np.int64))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            or pa.types.is_string_view(column.type)):
        raise TypeError(f"column has type {column.type}, a text column is needed")
    column = column.cast(pa.large_string())
    if column.null_count:  # a null's slot may hold bytes
        column = pc.fill_null(column, "")
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset:column.offset + len(column) + 1]
    return _freeze(np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), ends)


def _freeze(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> TextBuffers:
    data.flags.writeable = offsets.flags.writeable = False
    return TextBuffers(data, offsets)
