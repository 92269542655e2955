"""Identity of content: row keys, and a hash of a set of rows that no order or sharding can change.

`row_key` is 16 bytes of sha256 over a canonical encoding of a row's columns. A dataset's content hash is the pair
(count, sum of sha256(row) mod 2**256): partial sums add up, so shards hash on their own and any grouping gives the same
value. It is a sum and not an XOR, because equal rows would cancel each other in pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import polars as pl

_MODULUS = 1 << 256
SLICE_ROWS = 512


class ContentHash(NamedTuple):
    """A multiset hash; `str()` of it is what manifests store."""

    rows: int
    total: int

    def __add__(self, other: object) -> ContentHash:
        if not isinstance(other, ContentHash):
            return NotImplemented
        return ContentHash(self.rows + other.rows, (self.total + other.total) % _MODULUS)

    def __sub__(self, other: ContentHash) -> ContentHash:
        return ContentHash(self.rows - other.rows, (self.total - other.total) % _MODULUS)

    def __str__(self) -> str:
        return f"mset256:{self.rows}:{self.total:064x}"

    @classmethod
    def parse(cls, text: str) -> ContentHash:
        _, count, total = text.split(":")
        return cls(int(count), int(total, 16))


EMPTY = ContentHash(0, 0)


def hash_rows(rows: Iterable[bytes]) -> ContentHash:
    """Hash encoded rows (any bytes, one per row)."""
    count = total = 0
    sha256 = hashlib.sha256
    for row in rows:
        count += 1
        total += int.from_bytes(sha256(row).digest(), "big")
    return ContentHash(count, total % _MODULUS)


_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def _encode(values: pl.Series) -> list[bytes]:
    dtype = values.dtype
    if dtype in _TEXTS:
        tag, spelt = b"s", values.cast(pl.String).cast(pl.Binary).to_list()
    elif dtype == pl.Boolean or dtype.is_integer():  # spelt as in JSON
        tag, spelt = b"j", values.cast(pl.String).cast(pl.Binary).to_list()
    elif dtype == pl.Float64:  # JSON spells a finite one as Python does; nested and other values go one by one
        return [b"n;" if value is None else b"j%d:%b" % (len(text), text)
                if (text := repr(value).encode())[-1:] not in b"fn" else _encode_value(value)
                for value in values.to_list()]
    elif isinstance(dtype, pl.List):  # of evidence, most rows have none
        filled = (values.list.len() > 0).fill_null(False)
        encoded = np.where(values.is_null().to_numpy(), b"n;", b"j2:[]").astype(object)
        encoded[filled.to_numpy()] = [_encode_value(value) for value in values.filter(filled).to_list()]
        return list(encoded)
    else:
        return [_encode_value(value) for value in values.to_list()]
    return [b"n;" if value is None else b"%b%d:%b" % (tag, len(value), value) for value in spelt]


def _encode_value(value: Any) -> bytes:
    if value is None:
        return b"n;"
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    tag, data = (b"s", value.encode()) if isinstance(value, str) else (b"j", _json(value).encode())
    return b"%b%d:%b" % (tag, len(data), data)


def _rows(frame: pl.DataFrame, columns: Sequence[str]) -> Iterator[bytes]:
    """Encoded rows, a slice at a time: no second copy of a shard's text, and what is hashed is still in the cache."""
    names = sorted(columns)
    heads = [name.encode() + b"=" for name in names]
    for start in range(0, frame.height, SLICE_ROWS):
        piece = frame.slice(start, SLICE_ROWS)
        if not names:
            yield from [b""] * piece.height
        elif len(names) == 1:
            yield from map(heads[0].__add__, _encode(piece[names[0]]))
        else:
            pieces = [each for head, name in zip(heads, names, strict=True)
                      for each in (repeat(head), _encode(piece[name]))]
            yield from map(b"".join, zip(*pieces, strict=False))  # the heads never end


def encode_columns(frame: pl.DataFrame, columns: Sequence[str]) -> list[bytes]:
    """One canonical byte string per row over the named columns (in name order, each with its name and length)."""
    return list(_rows(frame, columns))


def row_keys(frame: pl.DataFrame, columns: Sequence[str], parents: Sequence[bytes] | None = None) -> list[bytes]:
    """16-byte keys of rows over `columns`; `parents` (the parent's row_key per row) makes equal children of different
    parents differ."""
    sha256 = hashlib.sha256
    if parents is None:
        return [sha256(row).digest()[:16] for row in _rows(frame, columns)]
    return [sha256(parent + row).digest()[:16] for parent, row in zip(parents, _rows(frame, columns), strict=True)]


def hash_frame(frame: pl.DataFrame, key: str = "row_key", columns: Sequence[str] = ()) -> ContentHash:
    """Hash rows by their key column and, for measurements, further columns. Row ids never enter."""
    keys = frame[key].to_list()
    if not columns:
        return hash_rows(keys)
    return hash_rows(k + row for k, row in zip(keys, _rows(frame, columns), strict=True))
