"""Classes of code points: which script a letter belongs to, and what else the scanner must know of a character.

Scripts are taken from the blocks of the Unicode standard (Blocks.txt), letters, marks and digits from the general
category in Python's `unicodedata`. Both tables are two-level: `PAGE[code >> 8]` names a page of 256 entries.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NONE, LATIN, CYRILLIC, ARABIC, DEVANAGARI, HAN, KANA, THAI, LAO, KHMER, BURMESE, TIBETAN = range(12)
HANGUL, GREEK, HEBREW, BENGALI, GURMUKHI, GUJARATI, TAMIL, TELUGU, KANNADA, MALAYALAM, SINHALA = range(12, 23)
ARMENIAN, GEORGIAN, ETHIOPIC, OTHER = range(23, 27)
SCRIPTS = 27
MARK, DIGIT, STOP, NEWLINE = 30, 31, 32, 33
"""MARK continues a word, DIGIT (digits and the underscore) makes a word an identifier, STOP ends a sentence."""
LAST_LANE, FIRST_SPACELESS, LAST_SPACELESS = DEVANAGARI, HAN, TIBETAN
LOWER_BELOW = 0x2000

_BLOCKS = (
    (0x41, 0x24F, LATIN), (0x1E00, 0x1EFF, LATIN), (0x370, 0x3FF, GREEK), (0x1F00, 0x1FFF, GREEK),
    (0x400, 0x52F, CYRILLIC), (0x531, 0x58F, ARMENIAN), (0x5D0, 0x5F4, HEBREW), (0x620, 0x6FF, ARABIC),
    (0x750, 0x77F, ARABIC), (0x8A0, 0x8FF, ARABIC), (0xFB50, 0xFDFF, ARABIC), (0xFE70, 0xFEFC, ARABIC),
    (0x900, 0x97F, DEVANAGARI), (0x980, 0x9FF, BENGALI), (0xA00, 0xA7F, GURMUKHI), (0xA80, 0xAFF, GUJARATI),
    (0xB80, 0xBFF, TAMIL), (0xC00, 0xC7F, TELUGU), (0xC80, 0xCFF, KANNADA), (0xD00, 0xD7F, MALAYALAM),
    (0xD80, 0xDFF, SINHALA), (0x10A0, 0x10FF, GEORGIAN), (0x1200, 0x139F, ETHIOPIC), (0x1100, 0x11FF, HANGUL),
    (0x3131, 0x318E, HANGUL), (0xAC00, 0xD7A3, HANGUL))
"""Letters in these blocks belong to the script; marks and digits in them keep their own class."""
_WHOLE = (
    (0x0E01, 0x0E3A, THAI), (0x0E40, 0x0E4E, THAI), (0x0E81, 0x0ECE, LAO), (0x0F40, 0x0FBC, TIBETAN),
    (0x1000, 0x103F, BURMESE), (0x1050, 0x108F, BURMESE), (0x1780, 0x17D3, KHMER), (0x3005, 0x3005, HAN),
    (0x3007, 0x3007, HAN), (0x3400, 0x4DBF, HAN), (0x4E00, 0x9FFF, HAN), (0xF900, 0xFAFF, HAN),
    (0x20000, 0x3134F, HAN), (0x3041, 0x3096, KANA), (0x309D, 0x309F, KANA), (0x30A1, 0x30FA, KANA),
    (0x30FC, 0x30FF, KANA), (0x31F0, 0x31FF, KANA), (0xFF66, 0xFF9D, KANA))
"""Scripts without spaces: every character of the range counts, marks too."""
_MARKED = ((0x300, 0x36F), (0x483, 0x489), (0x591, 0x5C7), (0x610, 0x61A), (0x64B, 0x65F), (0x6D6, 0x6DC),
           (0x200C, 0x200D), (0xFE00, 0xFE0F))


class Charset(NamedTuple):
    """`page` (uint8[4352]) and `classes` (uint8[pages, 256]); `lower` (uint16[0x2000]), simple lower-casing."""

    page: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint16]


def _script_of(code: int) -> int:
    return next((script for first, last, script in _BLOCKS if first <= code <= last), OTHER)


def _class_of(code: int) -> int:
    category = unicodedata.category(chr(code))
    if category[0] == "L":
        return _script_of(code)
    if category in ("Mn", "Mc"):
        return MARK
    return DIGIT if category in ("Nd", "No") or code == 0x5F else NONE


@cache
def charset() -> Charset:
    """The tables, built once per process."""
    flat = np.zeros(0x110000, np.uint8)
    flat[:0x3100] = [_class_of(code) for code in range(0x3100)]
    for first, last in ((0xA000, 0xAC00), (0x10000, 0x12000), (0x16800, 0x17000), (0x1E000, 0x1F000)):
        flat[first:last] = OTHER if first != 0x10000 else [_class_of(code) for code in range(first, last)]
    flat[0x1E000:0x1F000] = NONE
    for first, last, script in _BLOCKS:
        if first >= 0x3100:
            flat[first:last + 1] = script
    for first, last, script in _WHOLE:
        flat[first:last + 1] = script
    for first, last in _MARKED:
        flat[first:last + 1] = MARK
    flat[[ord(sign) for sign in "。！？…؟।۔｡"]] = STOP
    flat[[10, 13, 0x2028, 0x2029]] = NEWLINE
    pages, index = np.unique(flat.reshape(-1, 256), axis=0, return_inverse=True)
    lower = np.arange(LOWER_BELOW, dtype=np.uint16)
    for code in range(LOWER_BELOW):
        small = chr(code).lower()
        if len(small) == 1 and ord(small) < LOWER_BELOW:
            lower[code] = ord(small)
    lower[0x130] = ord("i")
    return Charset(index.reshape(-1).astype(np.uint8), pages, lower)
