"""SHA-1 of word n-grams, compiled: the hashes that datasketch takes of shingles given as strings.

The strings are the simple-lower-cased words of a text (`factory.text.words`), each n of them joined by one space, in
UTF-8; a text of fewer words has one string, all of them, and a text without words has the empty string. Of the digest
(FIPS 180-4, section 6.1) the first four bytes count, read little-endian, as `datasketch.hashfunc.sha1_hash32` does.
SHA-1 serves as a hash function here, not to keep a secret.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.buffers import TextBuffers
from factory.text.jit import inlined, kernel
from factory.text.tables import load_tables
from factory.text.words import decode, next_word

_START = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0], np.uint32)
_K = np.array([0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6], np.uint32)


@inlined
def _left(value: Any, bits: int) -> Any:
    """Rotate 32 bits to the left."""
    return np.uint32((value << np.uint32(bits)) | (value >> np.uint32(32 - bits)))


@inlined
def _block(state: Any, w: Any) -> None:
    """One block of 16 words, in w[:16], into the state."""
    for i in range(16, 80):
        w[i] = _left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for i in range(20):
        a, b, c, d, e = np.uint32(_left(a, 5) + ((b & c) | (~b & d)) + e + _K[0] + w[i]), a, _left(b, 30), c, d
    for i in range(20, 40):
        a, b, c, d, e = np.uint32(_left(a, 5) + (b ^ c ^ d) + e + _K[1] + w[i]), a, _left(b, 30), c, d
    for i in range(40, 60):
        a, b, c, d, e = (np.uint32(_left(a, 5) + ((b & c) | (b & d) | (c & d)) + e + _K[2] + w[i]), a, _left(b, 30), c,
                         d)
    for i in range(60, 80):
        a, b, c, d, e = np.uint32(_left(a, 5) + (b ^ c ^ d) + e + _K[3] + w[i]), a, _left(b, 30), c, d
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


@inlined
def sha1_32(data: Any, at: int, stop: int, state: Any, w: Any) -> Any:
    """The first four bytes of SHA-1 over data[at:stop], little-endian; `state` and `w` (80) are work space."""
    state[:] = _START
    size, done, closed = stop - at, 0, False
    while not closed:
        w[:16] = 0
        part = min(64, size - done)
        for i in range(part):
            w[i >> 2] |= np.uint32(data[at + done + i]) << np.uint32(24 - 8 * (i & 3))
        if part < 64:  # the last bytes, perhaps none: a one bit ends them
            w[part >> 2] |= np.uint32(0x80) << np.uint32(24 - 8 * (part & 3))
            if part > 55:
                _block(state, w)
                w[:16] = 0
            w[14], w[15] = np.uint32(size >> 29), np.uint32((size << 3) & 0xFFFFFFFF)
            closed = True
        _block(state, w)
        done += part
    first = state[0]
    return np.uint32(((first & 0xFF) << 24) | ((first & 0xFF00) << 8) | ((first >> 8) & 0xFF00) | (first >> 24))


@inlined
def _put(out: Any, at: int, code: int) -> int:
    """Write a code point as UTF-8; the place after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at], out[at + 1] = 0xC0 | (code >> 6), 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at], out[at + 1], out[at + 2] = 0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
        return at + 3
    out[at], out[at + 1] = 0xF0 | (code >> 18), 0x80 | ((code >> 12) & 0x3F)
    out[at + 2], out[at + 3] = 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
    return at + 4


@inlined
def _join_words(data: Any, at: int, stop: int, folded: Any, lower: Any, out: Any, starts: Any) -> int:
    """Write the lower-cased words of data[at:stop] to `out`, each with a space after it, and where they begin to
    `starts`, with the end of all as the last; their number."""
    count, goal = 0, 0
    while True:
        at, begin, end, _ = next_word(data, at, stop, folded)
        starts[count] = goal
        if begin < 0:
            return count
        while begin < end:
            if data[begin] < 0x80:
                code, begin = np.int64(data[begin]), begin + 1
            else:
                code, begin = decode(data, begin, end)
            goal = _put(out, goal, np.int64(lower[code]))
        out[goal] = 32
        goal += 1
        count += 1


@kernel
def sha1_kernel(data: Any, offsets: Any, folded: Any, lower: Any, ngram: int, flat: Any, ends: Any) -> None:
    """Fill `flat` (room for bytes // 2 + 1 of every row) and `ends` (rows + 1)."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # Lower case may take three bytes where upper case took two; a spaceless character of three gains a space.
    out, starts = np.empty(2 * longest + 8, np.uint8), np.empty(longest // 2 + 2, np.int64)
    state, w = np.empty(5, np.uint32), np.empty(80, np.uint32)
    goal = 0
    ends[0] = 0
    for row in range(len(offsets) - 1):
        count = _join_words(data, offsets[row], offsets[row + 1], folded, lower, out, starts)
        size = min(ngram, count)
        for first in range(count - size + 1):
            flat[goal] = sha1_32(out, starts[first], max(starts[first + size] - 1, 0), state, w)
            goal += 1
        ends[row + 1] = goal


def sha1_shingles(texts: TextBuffers, ngram: int = 5) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """(32-bit SHA-1 hashes of each text's n-grams with repeats, offsets), to be given to `signatures.sign`."""
    tables = load_tables()
    flat, ends = np.empty(texts.bytes // 2 + texts.rows + 1, np.uint32), np.empty(texts.rows + 1, np.int64)
    sha1_kernel(texts.data, texts.offsets, tables.folded, tables.lower, ngram, flat, ends)
    return flat[:ends[-1]], ends
