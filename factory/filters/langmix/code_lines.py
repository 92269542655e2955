"""Lines that are code or formulas without a fence (see `masks` for the calling rule)."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.blocks import count_letters, load_block
from factory.text.jit import inlined

from .keywords import is_keyword
from .masks import is_ascii_letter

LOOK = 64
"""A line with no sign in so many bytes after its indentation, and no keyword before them, is prose."""
MOST_WORDS = 60
"""A line with more words is prose, whatever its signs."""


_LETTER, _WIDE, _RARE, _NEWLINE = 3, 4, 8, 9


def _code_signs() -> Any:
    table = np.zeros(256, np.uint8)
    for sign in b"={};<>+[]&%^":
        table[sign] = 1
    table[0x24] = table[0x5C] = _RARE
    table[0x28] = 2
    table[10] = _NEWLINE
    table[0xC0:] = _WIDE
    for letter in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
        table[letter] = _LETTER
    return table


_SIGNS = _code_signs()
_PLAIN = np.isin(_SIGNS, (0, _LETTER, _WIDE))


@inlined
def _has_sign(data: Any, at: Any, end: Any) -> Any:
    """Whether a sign stands in data[at:end] before a newline."""
    at, end = np.uint64(at), np.uint64(end)
    while at + np.uint64(8) <= end:
        plain = True
        for k in range(np.uint64(8)):
            plain &= _PLAIN[data[at + k]]
        if not plain:
            break
        at += np.uint64(8)
    while at < end and _PLAIN[data[at]]:
        at += np.uint64(1)
    return at < end and data[at] != 0x0A


@inlined
def _opens_latex(data: Any, at: Any, end: Any) -> Any:
    """Whether the backslash at `at` begins a LaTeX command of two letters or more, or a formula."""
    if at + 2 >= end:
        return False
    byte = data[at + 1]
    return byte == 0x28 or byte == 0x5B or (is_ascii_letter(byte) and is_ascii_letter(data[at + 2]))


@inlined
def _begins_sentence(data: Any, begin: Any, at: Any, kind: Any) -> Any:
    """Whether a capital, or a letter beyond ASCII, that follows a blank begins a sentence after . ! or ?"""
    if at < begin + 2 or not (kind == _WIDE or 65 <= data[at] <= 90):
        return False
    before = data[at - 2]
    return before == 0x2E or before == 0x21 or before == 0x3F


@inlined
def _is_code(data: Any, begin: Any, end: Any, indent: Any, signs: Any, words: Any, wide: Any, last: Any) -> Any:
    """What the counts of a line come to; `last` is its last byte that is not white space."""
    if words + wide > MOST_WORDS:
        return False
    if signs >= 2 and signs * 2 >= words + wide:
        return True
    if wide or (signs == 0 and last != 0x3A and words > 1) or words > 10 + 3 * signs:
        return False
    return (indent >= 2 and signs > 0 and signs * 4 >= words) or is_keyword(data, begin, end)


@inlined
def is_code_line(data: Any, at: Any, end: Any) -> Any:
    """Whether the line at `at` is code or a formula: two code signs and one for every two words; or ASCII alone,
    indented by two or more, with a sign for every four words; or ASCII alone, beginning with a small-letter keyword,
    with a sign, a colon at its end or nothing after it. A line with LaTeX or a dollar is not: what is prose in it is
    for `formulas`; nor is one in which a sentence begins after another.

    Signs are = { } ; < > + [ ] & % ^ and a parenthesis that touches a letter on its left; words are runs of two or
    more ASCII letters, and every other character.
    """
    begin = at
    signs: Any = 0
    words: Any = 0
    wide: Any = 0
    last: Any = 0
    letter: Any = 0
    before: Any = 0  # whether the last byte, and the one before it, was a letter
    while at < end and (data[at] == 32 or data[at] == 9):
        at += 1
    indent, begin, look = at - begin, at, at + LOOK
    if not _has_sign(data, at, min(look, end)) and not is_keyword(data, at, end):
        return False
    while at < end:
        byte = data[np.uint64(at)]
        kind = _SIGNS[byte]
        if at >= look:
            if signs == 0 and not is_keyword(data, begin, end):
                return False
            look = end
        if kind >= _RARE:
            if kind == _NEWLINE or words + wide > MOST_WORDS:
                break
            if byte == 0x24 or _opens_latex(data, at, end):
                return False
        if at > begin and data[at - 1] == 32 and _begins_sentence(data, begin, at, kind):
            return False
        run = count_letters(load_block(data, at)) if kind == _LETTER and at + 8 <= end else np.int64(0)
        if run > 1:
            words += 1 - (letter & before)
            before, letter, last, at = np.int64(1), np.int64(1), np.int64(data[at + run - 1]), at + run
            continue
        now: Any = np.int64(kind == _LETTER)
        words += now & letter & (1 - before)
        signs += np.int64(kind == 1) | (np.int64(kind == 2) & letter)
        wide += kind == _WIDE
        before, letter = letter, now
        last = np.int64(byte) if byte > 32 else last
        at += 1
    return _is_code(data, begin, end, indent, signs, words, wide, last)
