"""Fenced and inline code (see `masks` for the calling rule)."""

from __future__ import annotations

from typing import Any

from factory.text.jit import inlined

from .masks import NL, SPACE, TICK, TILDE


@inlined
def _line_end(data: Any, at: Any, end: Any) -> Any:
    while at < end and data[at] != NL:
        at += 1
    return at


@inlined
def _run(data: Any, at: Any, end: Any) -> Any:
    """Length of the run of equal bytes at `at`."""
    stop = at
    while stop < end and data[stop] == data[at]:
        stop += 1
    return stop - at


@inlined
def _closes_fence(data: Any, at: Any, end: Any, sign: Any, size: Any) -> Any:
    """The place after a closing fence in the line `data[at:end]`, or -1. Prose may follow it: more than one word."""
    while at < end and (data[at] == SPACE or data[at] == 9 or data[at] == 0x3E):
        at += 1
    if at >= end or data[at] != sign:
        return -1
    many = _run(data, at, end)
    if many < size:
        return -1
    at = stop = at + many
    while stop < end and data[stop] <= SPACE:
        stop += 1
    if stop == end:
        return end
    while stop < end and data[stop] > SPACE:
        stop += 1
    return at if stop + 1 < end and data[stop + 1] > SPACE else -1


@inlined
def skip_fence(data: Any, at: Any, line: Any, end: Any) -> Any:
    """A fenced code block whose first fence is at `at`, in the line that begins at `line`.

    CommonMark 0.31 section 4.5, with three allowances, since models write so: any indentation; a fence of backticks at
    the end of a line of prose where its info string is one short word; prose of two or more words after the last fence.
    Of a block that never closes only the fence is masked (a stray one must not hide the rest of a trace).
    """
    size = _run(data, at, end)
    if size < 3:
        return at
    lead = False
    for i in range(line, at):
        if data[i] != SPACE and data[i] != 9 and data[i] != 0x3E:
            lead = True
            break
    if lead and data[at] == TILDE:
        return at
    stop = at + size
    while stop < end and data[stop] != NL:
        blank = data[stop] == SPACE and stop + 1 < end and data[stop + 1] > SPACE
        if data[stop] == TICK or (lead and (blank or data[stop] > 126 or stop - at > 33)):
            return at
        stop += 1
    sign = data[at]
    while stop < end:
        line = stop + 1
        stop = _line_end(data, line, end)
        after = _closes_fence(data, line, stop, sign, size)
        if after >= 0:
            return after
    return at + size


@inlined
def skip_inline(data: Any, at: Any, end: Any) -> Any:
    """Inline code in one or two backticks, within a line; longer runs are passed over."""
    size = _run(data, at, end)
    if size > 2:
        return at + size
    stop = at + size
    while stop < end and data[stop] != NL:
        if data[stop] == TICK:
            many = _run(data, stop, end)
            return stop + many if many == size else at + size
        stop += 1
    return at + size
