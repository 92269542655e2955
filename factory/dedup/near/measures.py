"""What is kept of a row for the search, as arrays and as columns of a partial.

For each row: its band keys (8 bytes a band), the hash of its shingle set (16 bytes), the number of its shingles and a
sketch of its signature (32 bytes). Signatures and shingles themselves are not kept; those of candidates are made again
(`shelf`).
"""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from factory.dedup.near.bands import band_keys
from factory.dedup.near.sha1 import sha1_shingles
from factory.dedup.near.shingle import Shingles, shingle_texts
from factory.dedup.near.signatures import sign
from factory.dedup.near.sketches import PLACES, WORDS, sketch
from factory.text.buffers import TextBuffers

U64 = npt.NDArray[np.uint64]
Scheme = Literal["own", "datasketch"]
_BATCH = 8 << 20


class Measures(NamedTuple):
    """See the module: keys (rows x bands), set_hash (rows x 2), sizes, sketches (rows x 4)."""

    keys: U64
    set_hash: U64
    sizes: npt.NDArray[np.uint32]
    sketches: U64


def sign_texts(texts: TextBuffers, shingles: Shingles, num_perm: int, ngram: int,
               scheme: Scheme) -> npt.NDArray[np.uint32]:
    """The MinHash signatures (texts x num_perm), over our own shingles or those that datasketch would hash."""
    if scheme == "own":
        return sign(shingles.flat, shingles.offsets, num_perm)
    return sign(*sha1_shingles(texts, ngram), num_perm)


def measure_texts(texts: TextBuffers, scopes: U64, bands: int, rows: int, ngram: int, scheme: Scheme) -> Measures:
    """Measure texts, some 8 MB at a time: work space is some 40 MB, or 30 bytes a word of the longest text."""
    cuts = [0]
    while cuts[-1] < texts.rows:
        end = int(np.searchsorted(texts.offsets, texts.offsets[cuts[-1]] + _BATCH, "right")) - 1
        cuts.append(min(max(end, cuts[-1] + 1), texts.rows))
    parts = [Measures(np.zeros((0, bands), np.uint64), np.zeros((0, 2), np.uint64), np.zeros(0, np.uint32),
                      np.zeros((0, WORDS), np.uint64))]
    for begin, end in itertools.pairwise(cuts):
        piece = TextBuffers(texts.data, texts.offsets[begin:end + 1])
        shingles = shingle_texts(piece, ngram)
        signatures = sign_texts(piece, shingles, max(PLACES, bands * rows), ngram, scheme)
        keys = band_keys(signatures, bands, rows, scopes[begin:end])
        parts.append(Measures(keys, shingles.set_hash, shingles.counts.astype(np.uint32), sketch(signatures)))
    return Measures._make(np.concatenate(one) for one in zip(*parts, strict=True))


def to_columns(measures: Measures) -> list[pl.Series]:
    """Measures as the columns `set_hash`, `size`, `sketch`, `keys` of a partial."""
    return [_binary("set_hash", measures.set_hash), pl.Series("size", measures.sizes, pl.UInt32),
            _binary("sketch", measures.sketches), _binary("keys", measures.keys)]


def _binary(name: str, values: U64) -> pl.Series:
    count, width = len(values), 8 * values.shape[1]
    data = pa.py_buffer(np.ascontiguousarray(values, "<u8"))
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * width)
    column = pl.from_arrow(pa.Array.from_buffers(pa.large_binary(), count, [None, offsets, data]))
    assert isinstance(column, pl.Series)
    return column.alias(name).cast(pl.Binary)


def words_of(column: pl.Series, words: int, order: Literal["<", ">"] = "<") -> U64:
    """A binary column of values of one length as integers (rows x words).

    Raises:
        ValueError: a value has another length.
    """
    array: Any = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset:array.offset + len(array) + 1]
    if len(array) == 0:
        return np.zeros((0, words), np.uint64)
    if (np.diff(ends) != 8 * words).any():
        raise ValueError(f"column {column.name!r} has values that are not of {8 * words} bytes")
    flat = np.frombuffer(data, np.uint8)[ends[0]:ends[-1]]
    return flat.view(f"{order}u8").astype(np.uint64).reshape(-1, words)
