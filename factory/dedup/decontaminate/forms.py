"""The compared form of a prompt (`exact` says what it is), written by a kernel."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel
from factory.text.tables import DIGIT, SPACE, load_tables
from factory.text.words import decode

from .index import freeze

ZERO_WIDTH = "\u0000\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
SAME = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2212": "-", "\u2010": "-", "\u2011": "-"}
_NUMBER, _BLANK, _POINT, _COMMA = 0x110000, 32, 46, 44


@cache
def form_table() -> npt.NDArray[np.uint32]:
    """What becomes of each code point: 0 where it goes, 32 where it is white space."""
    tables = load_tables()
    table = tables.lower.copy()
    table[0xFF01:0xFF5F] = tables.lower[0x21:0x7F]
    for char, same in SAME.items():
        table[ord(char)] = ord(same)
    table[(tables.classes & SPACE) > 0] = _BLANK
    for char in ZERO_WIDTH:
        table[ord(char)] = 0
    return freeze(table)


@kernel
def write_form(data: Any, at: Any, stop: int, table: Any, classes: Any, digits: bool, most: int,
               out: Any) -> tuple[int, Any]:
    """The form of data[at:stop] into `out`, which has room for stop - at codes, until it has `most` (one more may be
    written); how many there are, and the place after the last byte that was read."""
    count, blank, number = 0, False, False
    held: Any = 0  # held: a point or comma after a number, kept if no digit follows
    while at < stop and count < most:
        point, after = np.int64(data[at]), at + 1
        if point >= 0x80:
            point, after = decode(data, at, stop)
        at, code = after, int(table[point])
        if code == 0:
            continue
        if digits and classes[point] & DIGIT:
            if number:
                held = 0
                continue
            code = _NUMBER
        elif number and held == 0 and code in (_POINT, _COMMA):
            held = code
            continue
        if held:
            out[count] = held
            count, held = count + 1, 0
        if code == _BLANK:
            blank, number = count > 0, False
            continue
        if blank:
            out[count] = _BLANK
            count, blank = count + 1, False
        out[count] = code
        count, number = count + 1, code == _NUMBER
    if held:
        out[count] = held
        count += 1
    return count, at
