"""What is no prose: where a formula, code, URL, tag, LaTeX command or quoted name that begins at a byte ends.

All functions take the UTF-8 bytes of a batch and the bounds of one text, and return the position after the masked
span, or `at` itself where nothing is masked. `ahead` remembers for each kind of formula where its next closer is, so
a text full of openers costs one search and not one for each (the scan stays linear). Limits are bytes.
"""

from __future__ import annotations

from typing import Any

from factory.text.jit import inlined

TICK, TILDE, DOLLAR, BACKSLASH, OPEN_TAG, QUOTE = 0x60, 0x7E, 0x24, 0x5C, 0x3C, 0x22
NL, SPACE = 0x0A, 0x20
_PAREN, _BRACKET, _BEGIN, _DOUBLE, _SINGLE = range(5)
KINDS = 5
"""Kinds of formulas, each with a place of its own in `ahead`."""


@inlined
def is_ascii_letter(byte: Any) -> Any:
    """Whether a byte is one of A-Z or a-z."""
    return 97 <= (byte | 32) <= 122 and byte < 128


@inlined
def skip_tag(data: Any, at: Any, end: Any) -> Any:
    """An HTML or XML tag of at most 240 bytes within a line."""
    i = at + 1
    if i < end and data[i] == 0x2F:
        i += 1
    if i >= end or not is_ascii_letter(data[i]):
        return at
    last = min(end, at + 240)
    while i < last and data[i] != NL and data[i] != OPEN_TAG and data[i] != DOLLAR:
        if data[i] == 0x3E:
            return i + 1
        i += 1
    return at


@inlined
def skip_url(data: Any, at: Any, end: Any) -> Any:
    """A URL that begins with http://, https:// or www. (also hxxp-like ones are left alone)."""
    if at + 8 >= end:
        return at
    web = data[at] == 119 and data[at + 1] == 119 and data[at + 2] == 119 and data[at + 3] == 0x2E
    web |= (data[at] == 104 and data[at + 1] == 116 and data[at + 2] == 116 and data[at + 3] == 112
            and (data[at + 4] == 0x3A or data[at + 5] == 0x3A))
    while web and at < end and 32 < data[at] < 127:
        at += 1
    return at


@inlined
def _find_closer(data: Any, kind: Any, at: Any, end: Any) -> Any:
    """Position after the first closer of a kind of formula from `at` on; `end + 10000` where there is none."""
    while at < end:
        byte = data[at]
        if byte == BACKSLASH and at + 1 < end:
            after = data[at + 1]
            if (kind == _PAREN and after == 0x29) or (kind == _BRACKET and after == 0x5D):
                return at + 2
            if kind == _BEGIN and at + 5 < end and after == 101 and data[at + 2] == 110 and data[at + 3] == 100:
                while at < end and data[at] != 0x7D and data[at] != NL:
                    at += 1
                return at + 1
            at += 2
            continue
        if byte == DOLLAR:
            if kind == _DOUBLE and at + 1 < end and data[at + 1] == DOLLAR:
                return at + 2
            if kind == _SINGLE and data[at - 1] > SPACE and not (at + 1 < end and 48 <= data[at + 1] <= 57):
                return at + 1
        at += 1
    return end + 10000
