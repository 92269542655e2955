"""Hashes of word n-grams, and the table that says which of them a benchmark holds.

The hash of the n-gram w1 … wn with word hashes h1 … hn (`text.words`) is the polynomial h1 B^(n-1) + … + hn mod 2^64,
kept while a window slides by one multiplication in and one out (Karp and Rabin 1987). It only proposes: every hit is
then compared word by word (`scan`), so what the hash costs is time, never a false hit.

Look-ups go through a blocked Bloom filter (Putze, Sanders and Singler 2007, section 3, with blocks of one machine word
and two bits a key) that fits the second-level cache, then through a table with linear probing, at most half full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.buffers import TextBuffers
from factory.text.jit import inlined, kernel
from factory.text.words import mix, scan_hashes

BASE = np.uint64(0xD1342543DE82EF95)
_LEFT, _63, _6 = np.uint64(0x9E3779B97F4A7C15), np.uint64(63), np.uint64(6)
_ONE, _12 = np.uint64(1), np.uint64(12)
BITS_PER_KEY = 16
Words = npt.NDArray[np.uint64]


def power_of(n: int) -> np.uint64:
    """B^(n-1), the weight of the word that leaves the window."""
    return np.uint64(pow(int(BASE), n - 1, 1 << 64))


@inlined
def slide(value: Any, leaving: Any, entering: Any, power: Any) -> Any:
    """The window's hash when `leaving` goes (0 while the window fills) and `entering` comes."""
    return (value - leaving * power) * BASE + entering


@inlined
def row_grams(data: Any, at: int, stop: int, folded: Any, n: int, power: Any, out: Any) -> tuple[int, int]:
    """The n-gram hashes of data[at:stop], as they come, into `out` with room for (stop - at) // 2 + 2; how many there
    are, and the number of words. Of 1 to n - 1 words there is one gram, of all of them."""
    words = scan_hashes(data, at, stop, folded, out, 0)
    size = min(n, words)
    value, gone = np.uint64(0), np.uint64(0)
    for word in range(size - 1):
        value = slide(value, gone, out[word], power)
    for gram in range(words - size + 1 if words else 0):
        value = slide(value, gone, out[gram + size - 1], power)
        gone, out[gram] = out[gram], value
    return (words - size + 1 if words else 0), words


@inlined
def bloom_bits(key: Any) -> Any:
    """The two bits of a key in its machine word."""
    return (_ONE << (key & _63)) | (_ONE << ((key >> _6) & _63))


@inlined
def find_gram(value: Any, bloom: Any, slots: Any, values: Any) -> Any:
    """The number of the n-gram with this hash in `values`, -1 where there is none."""
    key = mix(value)
    wanted = bloom_bits(key)
    if bloom[np.int64((key >> _12) & np.uint64(len(bloom) - 1))] & wanted != wanted:
        return -1
    last = len(slots) - 1
    at = np.int64((key * _LEFT) >> np.uint64(20)) & last
    while slots[at] >= 0:
        if values[slots[at]] == value:
            return np.int64(slots[at])
        at = (at + 1) & last
    return -1


def gram_room(texts: TextBuffers) -> Words:
    """Room for `row_grams` of any of these texts."""
    return np.empty(int(np.diff(texts.offsets).max(initial=0)) // 2 + 2, np.uint64)


@kernel
def hash_grams(hashes: Any, begins: Any, n: int, power: Any, out: Any, starts: Any) -> Any:
    """n-gram hashes of documents whose word hashes lie at hashes[begins[d]:begins[d + 1]], one after another in `out`;
    `starts[d]` is where those of document d begin."""
    count = 0
    for document in range(len(begins) - 1):
        starts[document] = count
        value = np.uint64(0)
        for at in range(begins[document], begins[document + 1]):
            leaving = hashes[at - n] if at - n >= begins[document] else np.uint64(0)
            value = slide(value, leaving, hashes[at], power)
            if at - begins[document] >= n - 1:
                out[count] = value
                count += 1
    starts[len(begins) - 1] = count


@kernel
def fill_table(values: Any, bloom: Any, slots: Any) -> Any:
    """Enter distinct hashes into the filter (zeros before) and the table (-1 before)."""
    last = len(slots) - 1
    for number in range(len(values)):
        key = mix(values[number])
        bloom[np.int64((key >> _12) & np.uint64(len(bloom) - 1))] |= bloom_bits(key)
        at = np.int64((key * _LEFT) >> np.uint64(20)) & last
        while slots[at] >= 0:
            at = (at + 1) & last
        slots[at] = number


def make_table(values: Words) -> tuple[Words, npt.NDArray[np.int32]]:
    """(filter, slots) for distinct hashes; sizes are powers of two."""
    count = max(len(values), 1)
    bloom = np.zeros(1 << max((count * BITS_PER_KEY // 64).bit_length(), 8), np.uint64)
    slots = np.full(1 << (2 * count - 1).bit_length(), -1, np.int32)
    fill_table(values, bloom, slots)
    return bloom, slots
