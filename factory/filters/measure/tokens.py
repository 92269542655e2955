"""The words that n-gram statistics count, and numbers that make every n-gram's hash one multiplication.

A *word* here is a run of letters, digits, underscores and marks, or a character of a script written without spaces, or
any other character that is no white space: punctuation counts, as in the tokenisers that Gopher's statistics are
usually computed with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import inlined, kernel
from factory.text.tables import SPACE, SPACELESS, WORD
from factory.text.words import decode, mix

from .spans import at_byte

BASE = 0x9E3779B97F4A7C15 | 1
INVERSE = pow(BASE, -1, 1 << 64)
_BASE, _INVERSE = np.uint64(BASE), np.uint64(INVERSE)


def _value_of_bytes() -> npt.NDArray[np.uint64]:
    """A pseudo-random number for each byte value, so that no arithmetic of byte values shows in a hash."""
    values, mask = [], (1 << 64) - 1
    for byte in range(256):
        value = (byte + 1) * BASE & mask
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ (value >> 33)) * factor & mask
        values.append(value ^ (value >> 33))
    table = np.array(values, np.uint64)
    table.flags.writeable = False
    return table


BYTES = _value_of_bytes()


@kernel
def scan_tokens(data: Any, at: int, stop: int, classes: Any, values: Any, starts: Any, ends: Any, sums: Any, scale: Any,
                chars: Any) -> Any:
    """Write the words of data[at:stop] (byte places) and their running numbers (see `sum_words`; both in one loop,
    which halves the time); the number of words, or -1 if the arrays are too small."""
    total, power, inverse, seen = np.uint64(0), np.uint64(1), np.uint64(1), np.int64(0)
    count, inside, room = 0, False, len(starts) - 1
    while at < stop:
        byte = at_byte(data, at)
        if byte < 0x80:
            point, after = np.int64(byte), at + 1
        else:
            point, after = decode(data, at, stop)
        kind = classes[np.uint64(point)]
        joins = kind & WORD and not kind & SPACELESS
        if inside and not joins:
            ends[np.uint64(count - 1)] = at
            inside = False
        if not kind & SPACE:
            if not inside:
                if count >= room:
                    return -1
                slot = np.uint64(count)
                starts[slot], sums[slot], scale[slot], chars[slot] = at, total, inverse, seen
                ends[slot] = after
                count, inside = count + 1, joins
            total += values[np.uint64(byte)] * power
            power *= _BASE
            inverse *= _INVERSE
            for place in range(np.uint64(at + 1), np.uint64(after)):
                total += values[np.uint64(data[place])] * power
                power *= _BASE
                inverse *= _INVERSE
            seen += 1
        at = after
    if inside:
        ends[count - 1] = stop
    sums[count], scale[count], chars[count] = total, inverse, seen
    return count


@kernel
def sum_words(data: Any, starts: Any, ends: Any, count: int, values: Any, sums: Any, scale: Any, chars: Any) -> None:
    """Running numbers over the words' bytes b_0, b_1, … put end to end, one entry before each word and one at the end:

        sums[k]  = sum of values[b_j] * BASE^j over the bytes before word k   (mod 2^64)
        scale[k] = BASE^-(number of those bytes)                             (mod 2^64)
        chars[k] = characters before word k

    so (sums[k + n] - sums[k]) * scale[k] is a polynomial hash of words k … k + n - 1 put together.
    """
    total, power, inverse, seen = np.uint64(0), np.uint64(1), np.uint64(1), np.int64(0)
    for word in range(count):
        sums[word], scale[word], chars[word] = total, inverse, seen
        for place in range(np.uint64(starts[word]), np.uint64(ends[word])):
            byte = data[place]
            total += values[np.uint64(byte)] * power
            power *= _BASE
            inverse *= _INVERSE
            seen += (byte & 0xC0) != 0x80
    sums[count], scale[count], chars[count] = total, inverse, seen


@inlined
def gram_hash(sums: Any, scale: Any, word: int, n: int) -> Any:
    """Hash of n words put together without spaces, from `word` on."""
    return mix((sums[word + n] - sums[word]) * scale[word])
