"""Words of ASCII letters, eight bytes at once, and the hash of a word.

The hash takes ASCII letters that follow each other in blocks of up to eight, the first one lowest, and every other code
point alone; all lower-cased.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.blocks import ALL, SMALL, count_letters, load_block
from factory.text.jit import inlined
from factory.text.words import BASIS, STEP, mix

from .masks import is_ascii_letter

_LATER = SMALL & ~np.uint64(0xFF)
"""The bit of a small letter in all bytes of a block but the first."""
_BEYOND = np.uint64(1 << 63)
"""Marks a code point that is hashed alone, so that none is taken for a block of letters."""


@inlined
def push(value: Any, packed: Any, many: Any, code: Any) -> Any:
    """(hash of all before the last block, letters of that, how many) after one more lower-cased code point."""
    if 97 <= code <= 122:
        packed |= np.uint64(code) << np.uint64(8 * many)
        if many < 7:
            return value, packed, many + 1
        return (value ^ packed) * STEP, np.uint64(0), np.int64(0)
    if many > 0:
        value = (value ^ packed) * STEP
    return (value ^ (np.uint64(code) | _BEYOND)) * STEP, np.uint64(0), np.int64(0)


@inlined
def finish(value: Any, packed: Any, many: Any) -> Any:
    """The hash of a word that has been pushed."""
    return mix((value ^ packed) * STEP if many > 0 else value)


@inlined
def _are_first(capitals: Any) -> Any:
    """Whether no small letter precedes a capital; bit 5 of each byte of a block of letters tells which are capitals."""
    filled = (capitals >> np.uint64(5)) * np.uint64(0xFF)
    return filled & (filled + np.uint64(1)) == 0


@inlined
def read_ascii(data: Any, at: Any, end: Any) -> Any:
    """The run of ASCII letters at `at`, of which most words consist: (place after it, `push`'s three values, whether a
    capital follows a small letter, whether there is a small letter)."""
    value, packed, many, odd, small = BASIS, np.uint64(0), np.int64(0), False, False
    usual = np.uint64(0x20)  # a capital at the word's very beginning
    while at + 8 <= end:
        block = load_block(data, at)
        many = count_letters(block)
        if many == 0:
            break
        inside = ALL >> np.uint64(64 - 8 * many)
        packed, capitals = (block | SMALL) & inside, ~block & SMALL & inside
        if capitals & ~usual:
            odd |= small or not _are_first(capitals)
        small |= capitals != SMALL & inside
        at += many
        if many < 8:
            return at, value, packed, many, odd, small
        value, packed, many, usual = (value ^ packed) * STEP, np.uint64(0), np.int64(0), np.uint64(0)
    while at < end and is_ascii_letter(data[at]):
        folded = np.int64(data[at]) | 0x20
        odd |= small and folded != data[at]
        small |= folded == data[at]
        value, packed, many = push(value, packed, many, folded)
        at += 1
    return at, value, packed, many, odd, small


@inlined
def read_short(data: Any, at: Any, end: Any) -> Any:
    """(letters, hash) of the word that begins with the ASCII letter at `at`, as `read_word` finds them, if it is as
    most are: up to seven ASCII letters, no capital after the first, no apostrophe; else 0 letters."""
    if at + 8 > end:
        return np.int64(0), BASIS
    block = load_block(data, at)
    many = count_letters(block)
    inside = (np.uint64(1) << np.uint64(8 * many & 63)) - np.uint64(1)
    following = (block >> np.uint64(8 * many & 63)) & np.uint64(0xFF)
    usual = (many < 8) & (following < 0x80) & (following != 0x27) & (~block & inside & _LATER == 0)
    return many * np.int64(usual), mix((BASIS ^ ((block | SMALL) & inside)) * STEP)
