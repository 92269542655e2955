"""Identity of content: row keys, and a hash of a set of rows that no order or sharding can change.

`row_key` is 16 bytes of sha256 over a canonical encoding of a row's columns. A dataset's content hash is the pair
(count, sum of sha256(row) mod 2**256): partial sums add up, so shards hash on their own and any grouping gives the same
value. It is a sum and not an XOR, because equal rows would cancel each other in pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import polars as pl

_MODULUS = 1 << 256


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


def _encode(values: Sequence[Any]) -> list[bytes]:
    encoded = []
    for value in values:
        if value is None:
            encoded.append(b"n;")
        elif isinstance(value, str):
            data = value.encode()
            encoded.append(b"s%d:%b" % (len(data), data))
        elif isinstance(value, bytes):
            encoded.append(b"b%d:%b" % (len(value), value))
        else:
            data = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()
            encoded.append(b"j%d:%b" % (len(data), data))
    return encoded


def encode_columns(frame: pl.DataFrame, columns: Sequence[str]) -> list[bytes]:
    """One canonical byte string per row over the named columns (in name order, each with its name and length)."""
    names = sorted(columns)
    encoded = [_encode(frame[name].to_list()) for name in names]
    heads = [name.encode() + b"=" for name in names]
    return [b"".join(head + value for head, value in zip(heads, row, strict=True))
            for row in zip(*encoded, strict=True)] if names else [b""] * frame.height


def row_keys(frame: pl.DataFrame, columns: Sequence[str], parents: Sequence[bytes] | None = None) -> list[bytes]:
    """16-byte keys of rows over `columns`; `parents` (the parent's row_key per row) makes equal children of different
    parents differ."""
    encoded = encode_columns(frame, columns)
    if parents is not None:
        encoded = [parent + row for parent, row in zip(parents, encoded, strict=True)]
    return [hashlib.sha256(row).digest()[:16] for row in encoded]


def hash_frame(frame: pl.DataFrame, key: str = "row_key", columns: Sequence[str] = ()) -> ContentHash:
    """Hash rows by their key column and, for measurements, further columns. Row ids never enter."""
    keys = frame[key].to_list()
    if not columns:
        return hash_rows(keys)
    return hash_rows(k + row for k, row in zip(keys, encode_columns(frame, columns), strict=True))
