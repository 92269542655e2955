"""What kind of character a code point is, and its simple lower case, as flat tables.

The tables follow Python's `re` and `str` (and so the interpreter's Unicode version, `VERSION`) and are built once per
process in some 50 ms. All are read-only arrays over 0x110000 code points, so a kernel is compiled once for them.

Classes (bits of `classes`):

- WORD: `\\w` of `re` (letters, digits, underscore) or a combining mark that joins a word in its script.
- SPACELESS: a character of a script written without spaces (Han, kana, Thai, Lao, Tibetan, Burmese, Khmer); WORD too.
- SPACE: `str.isspace`. DIGIT: `\\d`. UPPER: its simple lower case is another character.

`folded` is what a scan for words needs, in one look-up: 0 for a character outside words, else the simple lower case,
plus ALONE where the character is a word by itself.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

VERSION = unicodedata.unidata_version
CODE_POINTS = 0x110000
WORD, SPACELESS, SPACE, DIGIT, UPPER = 1, 2, 4, 8, 16
ALONE = 1 << 31
SPACELESS_RANGES = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003134f\u0e01-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u103f"
    "\u1050-\u108f\u1780-\u17d3")
MARK_RANGES = ("\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963"
               "\u0971-\u0dff")


class Tables(NamedTuple):
    """See the module; `classes` uint8, `lower` and `folded` uint32, each of CODE_POINTS entries and read-only."""

    classes: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint32]
    folded: npt.NDArray[np.uint32]


def _mark(classes: npt.NDArray[np.uint8], every: str, pattern: str, bit: int) -> None:
    for run in re.finditer(f"(?:{pattern})+", every):
        classes[run.start():run.end()] |= bit


def _lower_case(every: str) -> npt.NDArray[np.uint32]:
    """Simple lower case: the first code point of `chr(c).lower()`; only U+0130 has more than one."""
    lowered = every.replace("\u0130", "i").lower().encode("utf-32-le", "surrogatepass")
    lower = np.frombuffer(lowered, "<u4").astype(np.uint32)
    lower[0x03A3] = 0x03C3  # a capital sigma's lower case must not depend on its neighbours
    return lower


@cache
def load_tables() -> Tables:
    """The tables, built on the first call."""
    codes = np.arange(CODE_POINTS, dtype=np.uint32)
    every = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    classes = np.zeros(CODE_POINTS, np.uint8)
    _mark(classes, every, rf"\w|[{MARK_RANGES}{SPACELESS_RANGES}]", WORD)
    _mark(classes, every, f"[{SPACELESS_RANGES}]", SPACELESS)
    _mark(classes, every, r"\s", SPACE)
    _mark(classes, every, r"\d", DIGIT)
    lower = _lower_case(every)
    classes[lower != codes] |= UPPER
    folded = np.where(classes & WORD, lower, np.uint32(0)).astype(np.uint32)
    folded[(classes & SPACELESS) > 0] |= np.uint32(ALONE)
    for table in (classes, lower, folded):
        table.flags.writeable = False
    return Tables(classes, lower, folded)
