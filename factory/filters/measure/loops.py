"""A loop at the end of a text, and how far the text compresses; both compiled, both linear in the text.

The *tail loop* is the longest suffix (white space at the very end left out) that repeats one unit at least three times,
the first time perhaps cut at its front; of units that give the same suffix the shortest. It is found with the Z array
(Gusfield 1997, section 1.4) of the reversed last `WINDOW` bytes: Z[p] characters agree with those p places earlier, so
a unit of p loops over p + Z[p]. UTF-8 synchronises itself, so units of bytes are units of characters.

*Compression* is the size in bytes of an LZ4 block (lz4_Block_format.md: a token of one byte, literals, a two-byte
distance, matches of four bytes or more) over the size of the text, for the parse spelt out in `lz_bytes`. zlib and zstd
promise no output size across versions and cost more; this number is the same for ever and everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import kernel

from .keys import load4
from .spans import at_byte, trim_space

WINDOW = 131_072
LEAST = 3
LZ_SLOTS = 4096
_LZ_STEP, _LZ_MASK = np.uint64(2654435761), np.uint64(0xFFFFFFFF)  # Fibonacci hashing of four bytes
_LZ_SHIFT = np.uint64(20)  # to 12 bits
_FARTHEST = 65_535


@kernel
def tail_loop(data: Any, at: int, stop: int, classes: Any, z: Any) -> Any:
    """(place where the loop begins, place where it ends, bytes of its unit); (-1, -1, 0) without a loop. `z` is a work
    array of `WINDOW` integers."""
    stop = trim_space(data, at, stop, classes)
    size = min(stop - at, WINDOW)
    best: Any = np.int64(0)
    unit, left, right = best, best, best
    last = stop - 1
    for shift in range(1, size):
        length = min(right - shift, z[np.uint64(shift - left)]) if shift < right else 0
        while shift + length < size and at_byte(data, last - length) == at_byte(data, last - shift - length):
            length += 1
        z[np.uint64(shift)] = length
        if shift + length > right:
            left, right = shift, shift + length
        if length >= (LEAST - 1) * shift and shift + length > best:
            best, unit = shift + length, shift
    if unit == 0:
        return -1, -1, 0
    begin = stop - best
    while begin < stop and (data[begin] & 0xC0) == 0x80:
        begin += 1
    return begin, stop, unit


@kernel
def lz_bytes(data: Any, at: int, stop: int, slots: Any) -> Any:
    """Bytes of the text's LZ4 block under this parse: from the left, look up the last place whose four bytes had the
    same 12-bit hash (every place where the parse looks is entered); if its four bytes are equal and at most 65,535
    back, take the longest match; else step on by 1 + (places since the last match) / 64."""
    slots[:] = -1
    size, place, literals = np.int64(0), at, at
    while place + 4 <= stop:
        word = load4(data, place)
        slot = ((word * _LZ_STEP) & _LZ_MASK) >> _LZ_SHIFT
        other, slots[slot] = slots[slot], place
        if other < 0 or place - other > _FARTHEST or load4(data, other) != word:
            place += 1 + (place - literals >> 6)
            continue
        length = 4
        while place + length < stop and at_byte(data, other + length) == at_byte(data, place + length):
            length += 1
        run = place - literals
        size += 3 + run + (0 if run < 15 else (run - 15) // 255 + 1) + (0 if length < 19 else (length - 19) // 255 + 1)
        place += length
        literals = place
    run = stop - literals
    return size + 1 + run + (0 if run < 15 else (run - 15) // 255 + 1)
