"""The shingles of texts: distinct word n-grams as 64-bit hashes, compiled.

Definition (Broder 1997, "On the resemblance and containment of documents", section 2: the w-shingling S(D, w) as a
set). With t1 … tm the hashes of a text's words (`factory.text.words`), its shingles for n words are

    S_i = mix(t_i * P^(n-1) + t_(i+1) * P^(n-2) + … + t_(i+n-1) + n * LENGTH)     i = 1 … m - n + 1,  mod 2^64

A text of m < n words, m > 0, has one shingle: the same sum over its m words with m in the place of n. A text without a
word has one too, made of its characters without the white space around (as they are, not lower-cased), so that texts of
signs only are compared and two empty texts are the same. 0, the mark of a free slot, is replaced by 1. Two different
n-grams are one shingle with probability 2^-64.

The set hash is 128 bits, (sum of S, sum of mix(S xor SALT)) over the distinct shingles mod 2^64: no order enters it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.text.buffers import TextBuffers
from factory.text.jit import inlined, kernel
from factory.text.tables import SPACE, load_tables
from factory.text.words import BASIS, STEP, decode, mix, scan_hashes

PRIME, LENGTH = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)
SALT, SIGNS = np.uint64(0xE7037ED1A0B428DB), np.uint64(0x8EBC6AF09C88C6E3)
_ONE = np.uint64(1)


class Shingles(NamedTuple):
    """Row i has the distinct shingles `flat[offsets[i]:offsets[i + 1]]`, at least one, by first occurrence.
    `set_hash` has two uint64 for each row."""

    flat: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    set_hash: npt.NDArray[np.uint64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Distinct shingles of each row."""
        return np.diff(self.offsets)


@inlined
def _hash_signs(data: Any, at: int, stop: int, classes: Any) -> Any:
    """The shingle of a text without words."""
    value, kept, after = BASIS, BASIS, at  # `kept`: up to the last character that is not white space
    begun = False
    while at < stop:
        if data[at] < 0x80:
            point, after = np.int64(data[at]), at + 1
        else:
            point, after = decode(data, at, stop)
        blank = (classes[point] & SPACE) != 0
        if begun or not blank:
            begun = True
            value = (value ^ np.uint64(point)) * STEP
            if not blank:
                kept = value
        at = after
    return mix(kept + SIGNS)


@inlined
def _roll(flat: Any, base: int, words: int, ngram: int) -> int:
    """Turn the `words` word hashes at flat[base:] into n-gram hashes, in place; their number."""
    size = min(ngram, words)
    power = _ONE
    for _ in range(size):
        power *= PRIME
    total = np.uint64(0)
    for at in range(base, base + size - 1):
        total = total * PRIME + flat[at]
    length, gone = np.uint64(size) * LENGTH, np.uint64(0)
    for at in range(base, base + words - size + 1):
        total = total * PRIME + flat[at + size - 1] - gone * power
        gone = flat[at]
        value = mix(total + length)
        flat[at] = value if value != 0 else _ONE
    return words - size + 1


@inlined
def _distinct(flat: Any, base: int, count: int, goal: int, table: Any, mask: Any) -> tuple[int, Any, Any]:
    """Move the distinct values of flat[base:base + count] to flat[goal:], goal <= base; (how many, the set hash).
    `table` is free in its first mask + 1 slots, more than `count`."""
    first, second = np.uint64(0), np.uint64(0)
    found = 0
    for at in range(base, base + count):
        value = flat[at]
        slot = value & mask
        while table[slot] != 0 and table[slot] != value:
            slot = (slot + _ONE) & mask
        if table[slot] == 0:
            table[slot] = value
            flat[goal + found] = value
            found += 1
            first += value
            second += mix(value ^ SALT)
    return found, first, second


@kernel
def shingle_kernel(data: Any, offsets: Any, folded: Any, classes: Any, ngram: int, flat: Any, ends: Any,
                   set_hash: Any) -> None:
    """Fill `flat` (room for bytes // 2 + 1 of every row, and one), `ends` (rows + 1) and `set_hash` (rows x 2)."""
    table = np.zeros(1024, np.uint64)
    goal = 0
    ends[0] = 0
    for row in range(len(offsets) - 1):
        count = scan_hashes(data, offsets[row], offsets[row + 1], folded, flat, goal)
        if count == 0:
            flat[goal] = max(_hash_signs(data, offsets[row], offsets[row + 1], classes), _ONE)
            count = 1
        else:
            count = _roll(flat, goal, count, ngram)
        size = 16
        while size < 2 * count:
            size *= 2
        if size > len(table):
            table = np.zeros(size, np.uint64)
        else:
            table[:size] = 0
        found, set_hash[row, 0], set_hash[row, 1] = _distinct(flat, goal, count, goal, table, np.uint64(size - 1))
        goal += found
        ends[row + 1] = goal


def shingle_texts(texts: TextBuffers, ngram: int = 5) -> Shingles:
    """The shingles of every text. Work space: 8 bytes a word, and 32 bytes a word of the longest text.

    Raises:
        ValueError: `ngram` is below 1.
    """
    if ngram < 1:
        raise ValueError(f"ngram is {ngram}, at least one word makes a shingle")
    rows, tables = texts.rows, load_tables()
    # A word takes two bytes at least, with the separator or as a spaceless character; pages never written cost nothing.
    flat = np.empty(texts.bytes // 2 + rows + 2, np.uint64)
    ends, set_hash = np.empty(rows + 1, np.int64), np.empty((rows, 2), np.uint64)
    shingle_kernel(texts.data, texts.offsets, tables.folded, tables.classes, ngram, flat, ends, set_hash)
    return Shingles(flat[:ends[-1]], ends, set_hash)
