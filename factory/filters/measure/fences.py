"""Fenced code blocks of every row's part, compiled; and the lines outside them that may be bare code.

Fences follow CommonMark 0.31 (section 4.5) with two allowances, since models write both: any indentation, and an
opening fence at the end of a line of prose. A fence is three or more backticks or tildes with at most an info string
after it; it closes with a fence of the same sign, at least as long, on a line of its own. An unclosed block runs to the
end of the text. Lines end at newlines; `>` and white space before a fence are not looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel

from .barecode import may_be_code
from .spans import find_newline

OPEN, CLOSED, LINE = 0, 1, 2

_TICK, _TILDE, _LONGEST_INFO = 0x60, 0x7E, 30


@inlined
def fence_sign(data: Any, at: int, stop: int) -> Any:
    """(place, length) of the first run of three or more backticks or tildes in a line, if no backtick or tilde stands
    before it and no backtick after it; (-1, 0) otherwise."""
    place = at
    while place < stop and data[place] != _TICK and data[place] != _TILDE:
        place += 1
    end = place
    while end < stop and data[end] == data[place]:
        end += 1
    if end - place < 3:
        return -1, 0
    for rest in range(end, stop):
        if data[rest] == _TICK:
            return -1, 0
    return place, end - place


@inlined
def info_span(data: Any, at: int, stop: int) -> Any:
    """The line's rest after a fence, without blanks around it."""
    while at < stop and (data[at] == 0x20 or 9 <= data[at] <= 13):
        at += 1
    while stop > at and (data[stop - 1] == 0x20 or 9 <= data[stop - 1] <= 13):
        stop -= 1
    return at, stop


@inlined
def _leads(data: Any, at: int, stop: int) -> Any:
    """Whether nothing but blanks and `>` stand in data[at:stop]."""
    for place in range(at, stop):  # noqa: SIM110 - compiled
        if data[place] != 0x20 and data[place] != 9 and data[place] != 0x3E:
            return False
    return True


@inlined
def _one_word(data: Any, at: int, stop: int) -> Any:
    """Whether an info string is a language: at most 30 of ASCII letters, digits and `_+#.-`."""
    for place in range(at, stop):
        byte = data[place]
        letter = 0x61 <= (byte | 0x20) <= 0x7A or 0x30 <= byte <= 0x39
        if not (letter or byte == 0x5F or byte == 0x2B or byte == 0x23 or byte == 0x2E or byte == 0x2D):
            return False
    return stop - at <= _LONGEST_INFO


@kernel
def scan_lines(data: Any, at: int, stop: int, row: int, count: int, out: Any) -> Any:
    """Append the blocks of one text to `out` as (row, start, end, info start, info end, OPEN or CLOSED) and the lines
    outside of blocks that may be code as (row, start, end, 0, 0, LINE); the new count, or -1 if `out` gets full."""
    sign: Any = np.int64(0)
    size, opened, line = sign, sign, at
    while line < stop:
        newline = find_newline(data, line, stop)
        place, length = fence_sign(data, line, newline)
        if count >= len(out):
            return -1
        if place >= 0:
            begin, end = info_span(data, place + length, newline)
            lead = _leads(data, line, place)
            if sign == 0:
                if lead or (data[place] == _TICK and _one_word(data, begin, end)):
                    out[count, 0], out[count, 1], out[count, 2] = row, place, stop
                    out[count, 3], out[count, 4], out[count, 5] = begin, end, OPEN
                    sign, size, opened, count = np.int64(data[place]), length, count, count + 1
            elif data[place] == sign and length >= size and lead and begin == end:
                out[opened, 2], out[opened, 5] = place + length, CLOSED
                sign = np.int64(0)
        elif sign == 0 and may_be_code(data, line, newline):
            out[count, 0], out[count, 1], out[count, 2] = row, line, newline
            out[count, 3], out[count, 4], out[count, 5] = 0, 0, LINE
            count += 1
        line = newline + 1
    return count


@kernel
def scan_rows(data: Any, begins: Any, stops: Any) -> Any:
    """The blocks and possible lines of code of all rows, as `scan_lines` writes them."""
    out, count = np.empty((1024, 6), np.int64), 0
    for row in range(len(begins)):
        if begins[row] < 0:
            continue
        found = scan_lines(data, begins[row], stops[row], row, count, out)
        while found < 0:
            larger = np.empty((2 * len(out), 6), np.int64)
            larger[:count] = out[:count]
            out = larger
            found = scan_lines(data, begins[row], stops[row], row, count, out)
        count = found
    return out[:count].copy()
