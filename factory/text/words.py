"""The words of a text and their hashes, compiled.

A word is a run of letters, digits, underscores and combining marks, or one character of a script that is written
without spaces (`tables`). Its hash is that of its simple-lower-cased code points c1 … cm:

    h = BASIS; for each c: h = (h xor c) * STEP mod 2^64; the hash is mix(h)

where `mix` is MurmurHash3's 64-bit finaliser (Appleby 2011). Nothing depends on how the text was cut into batches.
Kernels loop with `next_word`, which allocates nothing:

    at, begin, end, value = next_word(data, at, stop, folded)      # begin < 0: no more words

or take a row's words at once, twice as fast, with `scan_row` or `scan_hashes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .buffers import TextBuffers
from .codes import decode, mix
from .jit import inlined, kernel
from .tables import ALONE, load_tables

__all__ = ["BASIS", "STEP", "count_words", "decode", "hash_word", "mix", "next_word", "scan_hashes", "scan_row"]
BASIS, STEP = np.uint64(0x9AE16A3B2F90404F), np.uint64(0x9E3779B97F4A7C15)
_LONE, _CODE = np.uint32(ALONE), np.uint32(ALONE - 1)


@inlined
def next_word(data: Any, at: int, stop: int, folded: Any) -> tuple[int, Any, int, Any]:
    """(where to go on, begin, end, hash) of the first word in data[at:stop], in bytes; begin is -1 when there is none.
    `folded` is `tables.Tables.folded`."""
    code, after = np.uint32(0), at
    while at < stop:
        byte = data[at]
        if byte < 0x80:
            code, after = folded[byte], at + 1
        else:
            point, after = decode(data, at, stop)
            code = folded[point]
        if code != 0:
            break
        at = after
    if at >= stop:
        return at, np.int64(-1), at, BASIS
    value, begin = (BASIS ^ np.uint64(code & _CODE)) * STEP, at
    if code & _LONE:
        return after, begin, after, mix(value)
    at = after
    while at < stop:
        byte = data[at]
        if byte < 0x80:
            code, after = folded[byte], at + 1
        else:
            point, after = decode(data, at, stop)
            code = folded[point]
        if code == 0 or code & _LONE:
            return after if code == 0 else at, begin, at, mix(value)
        value = (value ^ np.uint64(code)) * STEP
        at = after
    return at, begin, at, mix(value)


@inlined
def scan_hashes(data: Any, at: int, stop: int, folded: Any, hashes: Any, base: int) -> int:
    """Write the hashes of the words of data[at:stop] to hashes[base:], with room for (stop - at) // 2 + 2; their
    number. Twice as fast as `next_word`: whether a word ends is added and not branched on, since no processor can
    foretell the lengths of words."""
    count, value, inside = base, BASIS, False
    while at < stop:
        if data[at] < 0x80:
            code, at = folded[data[at]], at + 1
        else:
            point, at = decode(data, at, stop)
            code = folded[point]
            if code & _LONE:
                count += inside
                hashes[count] = (BASIS ^ np.uint64(code & _CODE)) * STEP
                count, value, inside = count + 1, BASIS, False
                continue
        count += inside & (code == 0)
        inside = code != 0
        value = (value ^ np.uint64(code)) * STEP if inside else BASIS
        hashes[count] = value
    for word in range(base, count + inside):
        hashes[word] = mix(hashes[word])
    return count + inside - base


@kernel
def scan_row(data: Any, at: int, stop: int, folded: Any, starts: Any, ends: Any, hashes: Any) -> int:
    """Write the words of data[at:stop] into three arrays with room for as many as there are ((stop - at + 1) // 2 at
    most); the number of words. As fast as `scan_hashes`."""
    count, value, inside, begin, room = 0, BASIS, False, at, len(hashes)
    while at < stop:
        if data[at] < 0x80:
            code, after = folded[data[at]], at + 1
        else:
            point, after = decode(data, at, stop)
            code = folded[point]
            if code & _LONE:
                count += inside
                starts[count], ends[count] = at, after
                hashes[count] = (BASIS ^ np.uint64(code & _CODE)) * STEP
                count, value, inside, at = count + 1, BASIS, False, after
                continue
        count += inside & (code == 0)
        begin = begin if inside else at
        inside = code != 0
        value = (value ^ np.uint64(code)) * STEP if inside else BASIS
        if count < room:
            starts[count], ends[count], hashes[count] = begin, after, value
        at = after
    for word in range(count + inside):
        hashes[word] = mix(hashes[word])
    return count + inside


@kernel
def count_words(data: Any, offsets: Any, folded: Any) -> Any:
    """Words per row."""
    counts = np.empty(len(offsets) - 1, np.int64)
    for row in range(len(counts)):
        at, count = offsets[row], 0
        while True:
            at, begin, _, _ = next_word(data, at, offsets[row + 1], folded)
            if begin < 0:
                break
            count += 1
        counts[row] = count
    return counts


def hash_word(word: str) -> int:
    """The hash of one word, in plain Python: the definition, for tests and small lists of words."""
    lower, value = load_tables().lower, int(BASIS)
    for char in word:
        value = ((value ^ int(lower[ord(char)])) * int(STEP)) % 2 ** 64
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) % 2 ** 64
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) % 2 ** 64
    return value ^ (value >> 33)


def word_counts(texts: TextBuffers) -> npt.NDArray[np.int64]:
    """Words of each text."""
    return count_words(texts.data, texts.offsets, load_tables().folded)  # type: ignore[no-any-return]
