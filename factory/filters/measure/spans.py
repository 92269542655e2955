"""Small compiled helpers on byte spans: characters, white space, substrings."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel
from factory.text.tables import SPACE
from factory.text.words import decode

_NEWLINE = 10


@inlined
def at_byte(data: Any, place: Any) -> Any:
    """The byte at a place known not to be negative: an unsigned index spares the test for a negative one, which keeps
    loops from being vectorised."""
    return data[np.uint64(place)]


@inlined
def count_chars(data: Any, at: int, stop: int) -> Any:
    """Characters (code points) that begin in data[at:stop]."""
    count = np.int64(0)
    for place in range(np.uint64(at), np.uint64(stop)):
        count += (data[place] & 0xC0) != 0x80
    return count


@inlined
def skip_space(data: Any, at: int, stop: int, classes: Any) -> Any:
    """The first place at or after `at` that is no white space."""
    while at < stop:
        byte = at_byte(data, at)
        if byte < 0x80:
            point, after = np.int64(byte), at + 1
        else:
            point, after = decode(data, at, stop)
        if not classes[np.uint64(point)] & SPACE:
            break
        at = after
    return at


@inlined
def trim_space(data: Any, at: int, stop: int, classes: Any) -> Any:
    """The end of data[at:stop] without the white space at its end."""
    while stop > at:
        place = stop - 1
        while place > at and (data[place] & 0xC0) == 0x80:
            place -= 1
        point = np.int64(data[place]) if data[place] < 0x80 else decode(data, place, stop)[0]
        if not classes[np.uint64(point)] & SPACE:
            break
        stop = place
    return stop


@inlined
def holds(data: Any, at: int, stop: int, word: Any) -> Any:
    """Whether data[at:stop] begins with `word`."""
    if at + len(word) > stop:
        return False
    for place in range(len(word)):  # noqa: SIM110 - compiled
        if at_byte(data, at + place) != at_byte(word, place):
            return False
    return True


@inlined
def find(data: Any, at: int, stop: int, word: Any) -> Any:
    """Where `word` stands first in data[at:stop]; -1 if nowhere."""
    first = word[0]
    for place in range(at, stop - len(word) + 1):
        if at_byte(data, place) == first and holds(data, place, stop, word):
            return place
    return -1


@inlined
def find_newline(data: Any, at: int, stop: int) -> Any:
    """The first newline in data[at:stop], or `stop`."""
    place, end = np.uint64(at), np.uint64(stop)
    while place < end and data[place] != _NEWLINE:
        place += np.uint64(1)
    return np.int64(place)


@kernel
def to_chars(data: Any, bases: Any, places: Any) -> Any:
    """Character offsets of byte places, each counted from its base; -1 stays -1."""
    offsets = np.empty(len(places), np.int64)
    for row in range(len(places)):
        offsets[row] = count_chars(data, bases[row], places[row]) if places[row] >= 0 else -1
    return offsets


@kernel
def char_counts(data: Any, begins: Any, stops: Any) -> Any:
    """Characters of each span; 0 where it begins at -1."""
    counts = np.zeros(len(begins), np.int64)
    for row in range(len(begins)):
        if begins[row] >= 0:
            counts[row] = count_chars(data, begins[row], stops[row])
    return counts
