"""Masking of LaTeX: formulas, environments and commands (see `masks` for the calling rule)."""

from __future__ import annotations

from typing import Any

from factory.text.jit import inlined

from .masks import (
    _BEGIN,
    _BRACKET,
    _DOUBLE,
    _PAREN,
    _SINGLE,
    BACKSLASH,
    DOLLAR,
    NL,
    SPACE,
    _find_closer,
    is_ascii_letter,
)


@inlined
def _has_blank_line(data: Any, at: Any, end: Any) -> Any:
    for i in range(at, end - 1):  # noqa: SIM110 - compiled
        if data[i] == NL and data[i + 1] == NL:
            return True
    return False


@inlined
def _skip_kind(data: Any, kind: Any, opener: Any, longest: Any, at: Any, end: Any, ahead: Any) -> Any:
    """The formula of a kind that is opened by `opener` bytes at `at`, if it closes within `longest` bytes."""
    begin = at + opener
    if ahead[kind] <= begin:
        ahead[kind] = _find_closer(data, kind, begin, end)
    close = ahead[kind]
    if close - begin > longest or (kind == _SINGLE and _has_blank_line(data, begin, close)):
        return at
    return min(close, end)


@inlined
def _skip_command(data: Any, at: Any, end: Any) -> Any:
    """A LaTeX command such as \\frac with its arguments in braces (each at most 200 bytes, within a line)."""
    i = at + 1
    while i < end and is_ascii_letter(data[i]):
        i += 1
    if i == at + 1:
        return min(at + 2, end) if i < end and data[i] < 128 else i
    if i < end and data[i] == 0x2A:
        i += 1
    while i < end and data[i] == 0x7B:
        stop = i + 1
        while stop < end and stop - i <= 200 and data[stop] != 0x7D and data[stop] != 0x7B and data[stop] != NL:
            stop += 1
        if stop >= end or data[stop] != 0x7D:
            break
        i = stop + 1
    return i


@inlined
def skip_formula(data: Any, at: Any, end: Any, ahead: Any) -> Any:
    """A formula, environment or command at a backslash or dollar.

    A lone dollar is money unless it closes within its paragraph and 1,000 bytes, with no space before the closing sign
    and no digit after it.
    """
    after = data[at + 1] if at + 1 < end else SPACE
    if data[at] == DOLLAR:
        if after == DOLLAR:
            return _skip_kind(data, _DOUBLE, 2, 5000, at, end, ahead)
        return at if after <= SPACE else _skip_kind(data, _SINGLE, 1, 1000, at, end, ahead)
    if data[at] != BACKSLASH:
        return at
    stop = at
    if after == 0x28:
        stop = _skip_kind(data, _PAREN, 2, 2000, at, end, ahead)
    elif after == 0x5B:
        stop = _skip_kind(data, _BRACKET, 2, 5000, at, end, ahead)
    elif (after == 98 and at + 7 <= end and data[at + 2] == 101 and data[at + 3] == 103 and data[at + 4] == 105
          and data[at + 5] == 110 and data[at + 6] == 0x7B):
        stop = _skip_kind(data, _BEGIN, 7, 5000, at, end, ahead)
    return stop if stop > at else _skip_command(data, at, end)
