"""Finding a word's row, or making one from its spelling."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel

from .grams import add_grams
from .letters import read_word


@kernel
def hash_words(data: Any, offsets: Any, page: Any, classes: Any, lower: Any, keys: Any) -> Any:
    """`keys[i]`: the hash of word i of a buffer of words that end in a newline each."""
    for i in range(len(offsets) - 1):
        keys[i] = read_word(data, offsets[i], offsets[i + 1] - 1, page, classes, lower)[1]


ROW_BITS, ROW_MASK = np.uint64(20), np.uint64((1 << 20) - 1)


@kernel
def fill_slots(keys: Any, slots: Any) -> Any:
    """Open addressing with linear probing in `slots` (a power of two long, zeros): the hash's upper 44 bits and, in the
    lower 20, the row plus one."""
    last = np.uint64(len(slots) - 1)
    for i in range(len(keys)):
        at = keys[i] & last
        while slots[at] != 0:
            at = (at + np.uint64(1)) & last
        slots[at] = (keys[i] & ~ROW_MASK) | np.uint64(i + 1)


@inlined
def find_row(value: Any, slots: Any) -> Any:
    """The row of a hash; -1 where the word is not known."""
    last = np.uint64(len(slots) - 1)
    at = value & last
    while slots[at] != 0 and (slots[at] ^ value) >> ROW_BITS != 0:
        at = (at + np.uint64(1)) & last
    return np.int64(slots[at] & ROW_MASK) - 1


SPELLED_BITS = 11
"""Rows of unknown words are remembered, in 2 to the power of so many places."""


@inlined
def spell_row(data: Any, at: Any, end: Any, page: Any, classes: Any, lower: Any, grams: Any, lanes: Any, total: Any,
              out: Any) -> None:
    """Write the row of an unknown word into `out` (int8[32]) from its trigrams; `lanes` lanes compete."""
    add_grams(data, at, end, page, classes, lower, grams, total)
    best = total[0]
    for lane in range(lanes):
        best = max(best, total[lane])
    for lane in range(32):
        # half nats, weight 0.55, twelve steps per nat: 3.3 steps
        out[lane] = max(((total[lane] - best) * 33) // 10, -127)


@inlined
def place_of(value: Any) -> Any:
    """Where the row of an unknown word of this hash is remembered."""
    return np.int64(value >> np.uint64(64 - SPELLED_BITS))


@inlined
def spell(at: Any, begin: Any, words: Any, own: Any, model: Any, chars: Any, lanes_of: Any, data: Any,
          spelled: Any) -> None:
    """Remember the row of word `at` of a text in `spelled` (hashes, int8[?, 32] rows, int32[32]), where it holds until
    another word takes its place. Texts repeat their words, so callers look there first."""
    known, rows, total = spelled
    place = place_of(words[2][at])
    page, classes, lower = chars
    spell_row(data, begin + words[0][at], begin + words[1][at], page, classes, lower, model[2], lanes_of[own], total,
              rows[place])
    known[place] = words[2][at]


@inlined
def copy_row(ref: Any, rows: Any, place: Any, spelled_rows: Any, row: Any) -> None:
    """Copy the scores of a word of row `ref`, or where that is -1 of the spelled row at `place`, to `row` (int8[32]).
    A copy, since numba counts the references to views, atomically."""
    if ref >= 0:
        for lane in range(np.uint64(32)):
            row[lane] = rows[np.uint64(ref), lane]
    else:
        for lane in range(np.uint64(32)):
            row[lane] = spelled_rows[np.uint64(place), lane]
