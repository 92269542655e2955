"""Length and layout of every row's part: characters, words, paragraphs and walls of text.

Words are those of `factory.text.words` (letters, digits, underscores, marks; one per character in scripts without
spaces). A *paragraph* is what stands between blank lines (a line of spaces, tabs and carriage
returns is blank), a *line* what stands between newlines, both without the white space around them. A *wall* is a
paragraph of more than `wall_chars` characters without a single line break inside; so a long list or proof that keeps
its lines is none. Shares are of the part's characters without the white space around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel
from factory.text.tables import SPACELESS, WORD, load_tables
from factory.text.words import decode

from .parts import Ints, Spans
from .spans import at_byte, count_chars, find_newline, skip_space, trim_space

LENGTH = ("chars", "words")
LAYOUT = ("paragraphs", "longest_paragraph_chars", "longest_paragraph_words", "longest_line_chars", "walls",
          "wall_chars", "chars")


@kernel
def count_words(data: Any, at: int, stop: int, classes: Any) -> Any:
    """Words of data[at:stop]: as many as `text.words.next_word` finds."""
    count, inside = np.int64(0), np.int64(0)
    while at < stop:
        byte = at_byte(data, at)
        if byte < 0x80:
            kind, after = np.int64(classes[np.uint64(byte)]) & WORD, at + 1
        else:
            point, after = decode(data, at, stop)
            kind = np.int64(classes[np.uint64(point)]) & (WORD | SPACELESS)
        if kind > WORD:
            count, inside = count + 1, np.int64(0)
        else:
            count += kind & ~inside
            inside = kind
        at = after
    return count


@kernel
def length_rows(data: Any, begins: Any, stops: Any, classes: Any, out: Any) -> None:
    """Characters and words of each row; -1 where it has no such part."""
    for row in range(len(begins)):
        if begins[row] < 0:
            out[row, :] = -1
            continue
        at = skip_space(data, begins[row], stops[row], classes)
        stop = trim_space(data, at, stops[row], classes)
        out[row, 0] = count_chars(data, at, stop)
        out[row, 1] = count_words(data, at, stop, classes)


@kernel
def next_paragraph(data: Any, at: int, stop: int, classes: Any, out: Any) -> Any:
    """The place after the paragraph that begins at `at`, itself no white space; `out` gets its (end, lines, characters
    of its longest line, start and end of that line)."""
    out[1] = 0
    out[2] = out[3] = out[4] = -1
    while at < stop:
        newline = find_newline(data, at, stop)
        first = skip_space(data, at, newline, classes)
        if first >= newline:
            break  # a blank line
        last = trim_space(data, first, newline, classes)
        chars = count_chars(data, first, last)
        if chars > out[2]:
            out[2], out[3], out[4] = chars, first, last
        out[0] = last
        out[1] += 1
        at = newline + 1
    return min(at, stop)


@kernel
def layout_rows(data: Any, begins: Any, stops: Any, classes: Any, wall: int, out: Any, places: Any) -> None:
    """LAYOUT of each row; `places` gets the spans of the longest paragraph, the longest line and the first wall."""
    found = np.empty(5, np.int64)
    for row in range(len(begins)):
        out[row, :] = 0
        places[row, :, :] = -1
        if begins[row] < 0:
            out[row, :] = -1
            continue
        stop = trim_space(data, begins[row], stops[row], classes)
        at = skip_space(data, begins[row], stop, classes)
        out[row, 6] = count_chars(data, at, stop)
        while at < stop:
            after = next_paragraph(data, at, stop, classes, found)
            chars = count_chars(data, at, found[0])
            out[row, 0] += 1
            if chars > out[row, 1]:
                out[row, 1], places[row, 0, 0], places[row, 0, 1] = chars, at, found[0]
            if found[2] > out[row, 3]:
                out[row, 3], places[row, 1, 0], places[row, 1, 1] = found[2], found[3], found[4]
            if found[1] == 1 and chars > wall:
                if out[row, 4] == 0:
                    places[row, 2, 0], places[row, 2, 1] = at, found[0]
                out[row, 4] += 1
                out[row, 5] += chars
            at = skip_space(data, after, stop, classes)
        if places[row, 0, 0] >= 0:
            out[row, 2] = count_words(data, places[row, 0, 0], places[row, 0, 1], classes)


def measure_length(spans: Spans) -> Ints:
    """Array (rows, 2) of LENGTH, without the white space around the part; -1 where a row has no such part."""
    out = np.empty((len(spans.starts), len(LENGTH)), np.int64)
    length_rows(spans.data, spans.starts, spans.ends, load_tables().classes, out)
    return out


def measure_layout(spans: Spans, wall_chars: int) -> tuple[Ints, npt.NDArray[np.int64]]:
    """Array (rows, 7) of LAYOUT (-1 where a row has no such part; `wall_chars` are the characters inside walls) and
    byte spans (rows, 3, 2) of the longest paragraph, the longest line and the first wall, -1 where there is none."""
    rows = len(spans.starts)
    out, places = np.empty((rows, len(LAYOUT)), np.int64), np.empty((rows, 3, 2), np.int64)
    layout_rows(spans.data, spans.starts, spans.ends, load_tables().classes, wall_chars, out, places)
    return out, places
