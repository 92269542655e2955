"""The compiled loop over rows behind `repetition`: columns of `values` and `places` are those of its NAMES."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import kernel

from .grams import dup_chars, top_chars
from .keys import table_size
from .loops import LZ_SLOTS, WINDOW, lz_bytes, tail_loop
from .pieces import count_newlines, dup_pieces, dup_sentences
from .spans import count_chars, skip_space, trim_space
from .tokens import scan_tokens, sum_words


@kernel
def measure_pieces(data: Any, at: int, stop: int, total: int, classes: Any, slots: Any, out: Any, values: Any,
                   places: Any) -> None:
    """Lines, paragraphs and sentences of one text of `total` characters."""
    dup_pieces(data, at, stop, 1, slots, out)
    values[0], values[1] = out[1] / out[0], out[2] / total
    places[0:2, 0], places[0:2, 1] = out[3], out[4]
    first = skip_space(data, at, stop, classes)
    dup_pieces(data, first, trim_space(data, first, stop, classes), 2, slots, out)
    values[2], values[3] = out[1] / out[0], out[2] / total
    places[2:4, 0], places[2:4, 1] = out[3], out[4]
    dup_sentences(data, at, stop, classes, slots, out)
    if out[0] > 0:
        values[13], values[14] = out[1] / out[0], out[3] / out[2]
    places[13:15, 0], places[13:15, 1] = out[4], out[5]


@kernel
def measure_grams(starts: Any, ends: Any, words: int, total: int, work: Any, values: Any, places: Any) -> None:
    """The nine n-gram statistics of one text of `total` characters, given its words; `work`
    holds their running numbers."""
    chars, sums, scale, keys, live, slots, first, times = work
    found, counted = np.full((9, 2), -1, np.int64), np.zeros(9, np.int64)
    top_chars(chars, sums, scale, words, keys, live, slots, first, times, counted, found)
    dup_chars(chars, sums, scale, words, keys, slots, counted, found)
    for index in range(9):
        values[4 + index] = counted[index] / total
        if found[index, 0] >= 0:
            places[4 + index, 0] = starts[found[index, 0]]
            places[4 + index, 1] = ends[found[index, 0] + found[index, 1] - 1]


@kernel
def measure_tail(data: Any, at: int, stop: int, classes: Any, z: Any, values: Any, places: Any) -> None:
    """The tail loop of one text."""
    begin, end, unit = tail_loop(data, at, stop, classes, z)
    places[15:17, 0], places[15:17, 1] = begin, end
    if unit > 0:
        values[15], values[16] = count_chars(data, begin, end), (end - begin) / unit


@kernel
def make_work(words: int) -> Any:
    """Work arrays for texts of up to `words` words: running numbers (chars, sums, scale), then those of `grams`."""
    room = words + 1
    return (np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(room, np.uint64),
            np.empty(room, np.bool_), np.empty(table_size(words), np.int32), np.empty(room, np.int32),
            np.empty(room, np.int32))


@kernel
def measure_rows(data: Any, begins: Any, stops: Any, classes: Any, table: Any, slots: Any, values: Any,
                 places: Any) -> None:
    """All statistics of all rows; the words are those of `tokens`."""
    starts, ends, work = np.empty(4096, np.int64), np.empty(4096, np.int64), make_work(4096)
    z, lz, out = np.empty(WINDOW, np.int32), np.empty(LZ_SLOTS, np.int64), np.empty(6, np.int64)
    for row in range(len(begins)):
        at, stop = begins[row], stops[row]
        if at < 0 or at == stop:
            continue
        total = count_chars(data, at, stop)
        measure_pieces(data, at, stop, total, classes, slots, out, values[row], places[row])
        words = scan_tokens(data, at, stop, classes, table, starts, ends, work[1], work[2], work[0])
        while words < 0:
            starts, ends = np.empty(2 * len(starts), np.int64), np.empty(2 * len(starts), np.int64)
            work = make_work(len(starts))
            words = scan_tokens(data, at, stop, classes, table, starts, ends, work[1], work[2], work[0])
        measure_grams(starts, ends, words, total, work, values[row], places[row])
        measure_tail(data, at, stop, classes, z, values[row], places[row])
        values[row, 17] = lz_bytes(data, at, stop, lz) / (stop - at)


@kernel
def measure_words(data: Any, begins: Any, stops: Any, offsets: Any, starts: Any, ends: Any, table: Any, values: Any,
                  places: Any) -> None:
    """The n-gram statistics for given words: those of row i are starts[offsets[i]:offsets[i + 1]], in bytes."""
    work = make_work((offsets[1:] - offsets[:-1]).max())
    for row in range(len(begins)):
        at, stop = begins[row], stops[row]
        if at >= 0 and at < stop:
            first, last = offsets[row], offsets[row + 1]
            sum_words(data, starts[first:last], ends[first:last], last - first, table, work[1], work[2], work[0])
            measure_grams(starts[first:last], ends[first:last], last - first, count_chars(data, at, stop), work,
                          values[row], places[row])


@kernel
def most_newlines(data: Any, begins: Any, stops: Any) -> Any:
    """The most newlines that any row holds."""
    most = 0
    for row in range(len(begins)):
        if begins[row] >= 0:
            most = max(most, count_newlines(data, begins[row], stops[row]))
    return most
