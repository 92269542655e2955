"""128-bit hashes of texts, whole or normalised, compiled.

Two lanes h, each from a start of its own, take the words w of 8 bytes of the text (the last filled with zeros):

    h = rotate((h xor w) * STEP, 29); at the end mix(h xor length in bytes)

Normalising comes before: `whitespace` makes one space of each run of white space and drops it at both ends (Python's
`" ".join(text.split())`); `casefold` then folds each character as `str.casefold` does, which looks at no neighbours.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.dedup.near.measures import _binary
from factory.text.buffers import TextBuffers, text_buffers
from factory.text.codes import decode, mix
from factory.text.jit import inlined, kernel
from factory.text.tables import CODE_POINTS, SPACE, load_tables

U64 = npt.NDArray[np.uint64]
_STEP1, _STEP2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_START1, _START2 = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)
_29, _35 = np.uint64(29), np.uint64(35)
_NULL = np.array([0x452821E638D01377, 0xBE5466CF34E90C6C], np.uint64)
_MANY = np.uint32(1 << 31)


class Folds(NamedTuple):
    """`single`: the folded code point, or MANY and an index into `many` (x 3, 0 after the last). Read-only."""

    single: npt.NDArray[np.uint32]
    many: npt.NDArray[np.uint32]


@cache
def load_folds(how: str) -> Folds:
    """The table of `str.casefold`, or one that changes nothing."""
    single, many = np.arange(CODE_POINTS, dtype=np.uint32), [(0, 0, 0)]
    if how == "casefold":
        for code in range(CODE_POINTS):
            folded = chr(code).casefold()
            if len(folded) == 1:
                single[code] = ord(folded)
            else:
                single[code] = _MANY | np.uint32(len(many))
                many.append((*map(ord, folded), 0)[:3])  # type: ignore[arg-type]
    found = Folds(single, np.array(many, np.uint32))
    for table in found:
        table.flags.writeable = False
    return found


@inlined
def _take(one: Any, two: Any, word: Any) -> tuple[Any, Any]:
    one, two = (one ^ word) * _STEP1, (two ^ word) * _STEP2
    return (one << _29) | (one >> _35), (two << _29) | (two >> _35)


@inlined
def _hash(data: Any, at: int, stop: int) -> tuple[Any, Any]:
    one, two, size = _START1, _START2, np.uint64(stop - at)
    while at < stop:
        word = np.uint64(0)
        for i in range(min(8, stop - at)):
            word |= np.uint64(data[at + i]) << np.uint64(8 * i)
        one, two = _take(one, two, word)
        at += 8
    return mix(one ^ size), mix(two ^ size)


@inlined
def _put(out: Any, goal: int, code: int) -> int:
    """Write a code point in a form that no two share: one byte, or four."""
    if code < 0x80:
        out[goal] = code
        return goal + 1
    out[goal], out[goal + 1] = 0x80 | (code & 0x7F), (code >> 7) & 0x7F
    out[goal + 2] = (code >> 14) & 0x7F
    return goal + 3


@inlined
def _normalise(data: Any, at: int, stop: int, classes: Any, single: Any, many: Any, out: Any) -> int:
    goal, owed = 0, False
    while at < stop:
        if data[at] < 0x80:
            code, at = np.int64(data[at]), at + 1
        else:
            code, at = decode(data, at, stop)
        if classes[code] & SPACE:
            owed = goal > 0
            continue
        if owed:
            out[goal] = 32
            goal, owed = goal + 1, False
        folded = np.int64(single[code])
        if folded < 0x80000000:
            goal = _put(out, goal, folded)
        else:
            for i in range(3):
                if many[folded & 0x7FFFFFFF, i] != 0:
                    goal = _put(out, goal, np.int64(many[folded & 0x7FFFFFFF, i]))
    return goal


@kernel
def hash_kernel(data: Any, offsets: Any, hashes: Any) -> None:
    """Fill `hashes` (rows x 2) from the texts as they are."""
    for row in range(len(offsets) - 1):
        hashes[row, 0], hashes[row, 1] = _hash(data, offsets[row], offsets[row + 1])


@kernel
def hash_normalised_kernel(data: Any, offsets: Any, classes: Any, single: Any, many: Any, hashes: Any) -> None:
    """Fill `hashes` (rows x 2) from the normalised texts."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    out = np.empty(5 * longest + 16, np.uint8)  # two bytes may become three code points of three bytes
    for row in range(len(offsets) - 1):
        size = _normalise(data, offsets[row], offsets[row + 1], classes, single, many, out)
        hashes[row, 0], hashes[row, 1] = _hash(out, 0, size)


def hash_texts(texts: TextBuffers, how: str) -> U64:
    """Hashes (rows x 2) of texts under a normalisation (`none`, `whitespace`, `casefold`)."""
    hashes = np.empty((texts.rows, 2), np.uint64)
    if how == "none":
        hash_kernel(texts.data, texts.offsets, hashes)
    else:
        hash_normalised_kernel(texts.data, texts.offsets, load_tables().classes, *load_folds(how), hashes)
    return hashes


def hash_columns(columns: list[pl.Series], how: str) -> pl.Series:
    """`hash`: 16 bytes for each row, over all its texts in order; a null is a value of its own."""
    total: U64 | None = None
    for column in columns:
        hashes = hash_texts(text_buffers(column), how)
        hashes[column.is_null().to_numpy()] = _NULL
        total = hashes if total is None else total * _STEP2 ^ hashes
    assert total is not None
    return _binary("hash", total)
