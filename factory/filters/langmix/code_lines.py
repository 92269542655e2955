"""Lines that are code or formulas without a fence (see `masks` for the calling rule)."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined

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
_PLAIN = (_SIGNS == 0) | (_SIGNS == _LETTER) | (_SIGNS == _WIDE)


def _keywords() -> Any:
    """Keywords that begin a line of code, packed as `_first_word` packs the line's first eight letters."""
    words = ("def", "class", "for", "while", "if", "elif", "else", "return", "import", "from", "print", "try", "except",
             "with", "assert", "const", "let", "var", "int", "void", "public", "function", "raise", "yield", "lambda",
             "pass", "break", "continue", "async", "await", "struct", "static")
    return np.unique(np.array([int.from_bytes(word.encode()[-8:], "big") for word in words], np.uint64))


_KEYWORDS = _keywords()


@inlined
def _first_word(data: Any, at: Any, end: Any) -> Any:
    """The last eight letters of the run of small ASCII letters at `at`, packed into 64 bits."""
    packed = np.uint64(0)
    while at < end and 97 <= data[at] <= 122:
        packed = (packed << np.uint64(8)) | np.uint64(data[at])
        at += 1
    return packed


@inlined
def _is_keyword(packed: Any) -> Any:
    low, high = 0, len(_KEYWORDS)
    while low < high:
        middle = (low + high) // 2
        if _KEYWORDS[middle] < packed:
            low = middle + 1
        else:
            high = middle
    return low < len(_KEYWORDS) and _KEYWORDS[low] == packed


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
    wide, last = 0, 0
    letter: Any = 0
    before: Any = 0  # whether the last byte, and the one before it, was a letter
    while at < end and (data[at] == 32 or data[at] == 9):
        at += 1
    indent, begin, look = at - begin, at, min(at + LOOK, end)
    while at < look and _PLAIN[data[np.uint64(at)]]:
        at += 1
    early = at < look and data[at] != 0x0A
    if not early and not _is_keyword(_first_word(data, begin, end)):
        return False
    at, look = begin, begin + LOOK
    while at < end:
        byte = data[np.uint64(at)]
        kind = _SIGNS[byte]
        if at == look and signs == 0 and not _is_keyword(_first_word(data, begin, end)):
            return False
        if kind >= _RARE:
            if kind == _NEWLINE or words + wide > MOST_WORDS:
                break
            if byte == 0x24 or _opens_latex(data, at, end):
                return False
        if data[at - 1] == 32 and at > begin and _begins_sentence(data, begin, at, kind):
            return False
        now: Any = np.int64(kind == _LETTER)
        words += now & letter & (1 - before)
        signs += np.int64(kind == 1) | (np.int64(kind == 2) & letter)
        wide += kind == _WIDE
        before, letter = letter, now
        last = byte if byte > 32 else last
        at += 1
    if words + wide > MOST_WORDS:
        return False
    if signs >= 2 and signs * 2 >= words + wide:
        return True
    if wide or (signs == 0 and last != 0x3A and words > 1) or words > 10 + 3 * signs:
        return False
    return (indent >= 2 and signs > 0 and signs * 4 >= words) or _is_keyword(_first_word(data, begin, end))
