"""Repeated lines, paragraphs and sentences of one text, compiled.

Lines and paragraphs are Gopher's duplicate fractions (Rae et al. 2021, table A1) by datatrove's rules: lines are what
stands between runs of newlines, of the text as it is; paragraphs what stands between runs of two newlines or more, of
the text without the white space around it. A piece that appeared before is a duplicate, with all its characters.

A *sentence* ends after one of `. ! ? …` that white space follows (closing quotes and brackets may stand between),
after one of `。！？।॥؟۔`, and at a newline; white space around it is dropped. Sentences of fewer than `MIN_CHARS`
characters ("So:", "Yes.") say nothing and are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel

from .keys import add_key, hash_span, table_size
from .spans import at_byte, count_chars, find_newline, skip_space, trim_space

MIN_CHARS = 8
_MAY_END = np.array([byte in b".!?\n" or byte >= 0xD8 for byte in range(256)])
_DOT, _BANG, _ASK, _NEWLINE = 0x2E, 0x21, 0x3F, 10


@inlined
def count_newlines(data: Any, at: int, stop: int) -> Any:
    """Newlines in data[at:stop]."""
    count = np.int64(0)
    for place in range(np.uint64(at), np.uint64(stop)):
        count += data[place] == _NEWLINE
    return count


@kernel
def dup_pieces(data: Any, at: int, stop: int, least: int, slots: Any, out: Any) -> None:
    """Pieces of data[at:stop] between runs of at least `least` newlines: `out` gets (pieces, duplicates, their
    characters, start and end of the first duplicate or -1)."""
    size = table_size(count_newlines(data, at, stop) + 1)
    slots[:size] = np.uint64(0)
    bits = np.uint64(size - 1)
    out[:] = 0
    out[3] = out[4] = -1
    begin = at
    while True:
        end = find_newline(data, at, stop)
        after = end
        while after < stop and data[after] == _NEWLINE:
            after += 1
        at = after
        if end < stop and after - end < least:
            continue
        out[0] += 1
        if add_key(slots, bits, hash_span(data, begin, end)):
            if out[1] == 0:
                out[3], out[4] = begin, end
            out[1] += 1
            out[2] += count_chars(data, begin, end)
        if end == stop:
            return
        begin = after


@inlined
def sentence_end(data: Any, at: int, stop: int) -> Any:
    """The place after the sentence that data[at:stop] begins with: past its end mark, before a newline, or `stop`."""
    while at < stop:
        byte = at_byte(data, at)
        at += 1
        if not _MAY_END[np.uint64(byte)]:
            continue
        if byte == _NEWLINE:
            return at - 1
        if byte == _DOT or byte == _BANG or byte == _ASK:  # noqa: SIM109 - compiled
            after = at
            while after < stop and (data[after] == 0x22 or data[after] == 0x27 or data[after] == 0x29
                                    or data[after] == 0x5D or data[after] == 0x2A or data[after] == byte):
                after += 1  # " ' ) ] *
            if after == stop or data[after] == 0x20 or 9 <= data[after] <= 13:
                return after
        elif byte >= 0xD8 and at < stop and _ends_alone(data, at - 1, stop):
            return at + (1 if byte < 0xE0 else 2)
    return stop


@inlined
def _ends_alone(data: Any, at: int, stop: int) -> Any:
    """Whether one of ؟ ۔ 。 ！ ？ । ॥ stands at `at`, or … with white space or the end after it."""
    first, second = data[at], data[at + 1]
    if first == 0xD8 or first == 0xDB:
        return (first == 0xD8 and second == 0x9F) or (first == 0xDB and second == 0x94)
    if at + 2 >= stop:
        return False
    third = data[at + 2]
    if first == 0xE2:
        return second == 0x80 and third == 0xA6 and (at + 3 == stop or data[at + 3] <= 0x20)
    if first == 0xE3:
        return second == 0x80 and third == 0x82
    if first == 0xEF:
        return second == 0xBC and (third == 0x81 or third == 0x9F)
    return first == 0xE0 and second == 0xA5 and (third == 0xA4 or third == 0xA5)


@kernel
def dup_sentences(data: Any, at: int, stop: int, classes: Any, slots: Any, out: Any) -> None:
    """`out` gets (sentences, duplicates, characters of all, of the duplicates, start and end of the first duplicate).
    The set holds at most `stop - at` bytes over `MIN_CHARS`, which bounds its size."""
    size = table_size((stop - at) // MIN_CHARS + 1)
    slots[:size] = np.uint64(0)
    bits = np.uint64(size - 1)
    out[:] = 0
    out[4] = out[5] = -1
    while True:
        at = skip_space(data, at, stop, classes)
        if at >= stop:
            return
        after = sentence_end(data, at, stop)
        end = trim_space(data, at, after, classes)
        chars = count_chars(data, at, end)
        if chars >= MIN_CHARS:
            out[0] += 1
            out[2] += chars
            if add_key(slots, bits, hash_span(data, at, end)):
                if out[1] == 0:
                    out[4], out[5] = at, end
                out[1] += 1
                out[3] += chars
        at = after
