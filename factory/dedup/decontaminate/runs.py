"""The maximal runs of words that a row and a benchmark's documents have in common (`scan` says what a run is)."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel
from factory.text.words import decode, scan_row

from .grams import find_gram, slide

WIDE = 64
"""An n-gram that stands in more documents is a phrase: by itself it is a hit of the first of them alone."""


@inlined
def same_word(data: Any, at: int, stop: int, other: Any, place: int, end: int, folded: Any) -> Any:
    """Whether two words are the same code points after lower-casing."""
    while at < stop and place < end:
        if data[at] < 0x80 and other[place] < 0x80:
            if folded[data[at]] != folded[other[place]]:
                return False
            at += 1
            place += 1
        else:  # also where one is ASCII: the Kelvin sign's lower case is k
            one, two = np.int64(data[at]), np.int64(other[place])
            after, next_place = at + 1, place + 1
            if one >= 0x80:
                one, after = decode(data, at, stop)
            if two >= 0x80:
                two, next_place = decode(other, place, end)
            if folded[one] != folded[two]:
                return False
            at, place = after, next_place
    return at >= stop and place >= end


@inlined
def count_chars(data: Any, at: int, stop: int) -> int:
    """Code points in data[at:stop]."""
    count = 0
    for place in range(at, stop):
        count += (data[place] & 0xC0) != 0x80
    return count


@inlined
def _equal(text: Any, word: int, document: Any, place: int, base: int, folded: Any) -> Any:
    """Whether word `word` of a row is word `place` of a document whose text begins at `base`."""
    data, hashes, starts, ends = text
    doc_data, doc_hashes, doc_starts, doc_ends = document
    return hashes[word] == doc_hashes[place] and same_word(
        data, starts[word], ends[word], doc_data, base + doc_starts[place], base + doc_ends[place], folded)


@kernel
def _look_up(hashes: Any, words: int, n: int, power: Any, table: Any, documents: Any, grams: Any, spreads: Any) -> Any:
    """The entry of each n-gram of a row (-1: none), and in how many documents it stands."""
    bloom, slots, values = table
    value = np.uint64(0)
    for word in range(words):
        value = slide(value, hashes[word - n] if word >= n else np.uint64(0), hashes[word], power)
        if word >= n - 1:
            found = find_gram(value, bloom, slots, values)
            grams[word - n + 1], spreads[word - n + 1] = found, documents[found] if found >= 0 else 0


@kernel
def _known(text: Any, word: int, document: Any, place: int, base: int, folded: Any, post: int, tables: Any) -> Any:
    """How many words before `word` belong to the run too, or -1 where the run was found from an earlier n-gram: from a
    rare one, or, if this one is wide, from a wide one whose first posting lies in the run."""
    grams, documents, post_at, post_document, post_word = tables
    wide, back = documents[grams[word]] > WIDE, 0
    which, at = post_document[post], post_word[post]
    while back < word and back < at and _equal(text, word - back - 1, document, place - back - 1, base, folded):
        back += 1
        before = grams[word - back]
        if documents[before] <= WIDE:
            return -1
        first = post_at[before]
        if wide and post_document[first] == which and post_word[first] == at - back:
            return -1
    return back


@kernel
def _adds(number: int, place: int, grams: int, seen: Any, longest: Any) -> Any:
    """Whether a run of this many n-grams from word `place` of the index is the row's longest of its document or has an
    n-gram not `seen` in the row (the row is the `number`-th); and remembers it."""
    new = longest[0] != number or grams > longest[1]
    if new:
        longest[0], longest[1] = number, grams
    for gram in range(place, place + grams):
        if seen[gram] != number:
            seen[gram], new = number, True
    return new


@kernel
def find_runs(data: Any, offsets: Any, folded: Any, rows: Any, first: int, n: int, power: Any, arrays: Any, room: Any,
              out: Any) -> tuple[int, int]:
    """Runs of rows[first:] into `out` (m, 7), until it is full: (the place in `rows` to go on from, runs written).
    A row is written whole or not at all. `room` are hashes, starts, ends, grams and spreads, for the longest row.
    `longest` and `seen` say what `_adds` needs per document and per word of the index."""
    document, table, (text_at, word_at, documents, post_at, post_document, post_word) = arrays
    hashes, starts, ends, grams, spreads = room
    text = (data, hashes, starts, ends)
    count, longest, seen = 0, np.full((len(word_at) - 1, 2), -1, np.int64), np.full(word_at[-1], -1, np.int32)
    for number in range(first, len(rows)):
        row, before = rows[number], count
        words = scan_row(data, offsets[row], offsets[row + 1], folded, starts, ends, hashes)
        _look_up(hashes, words, n, power, table, documents, grams, spreads)
        byte, chars = offsets[row], 0
        for word in range(words - n + 1):
            if grams[word] < 0:
                continue
            last = post_at[grams[word]] + 1 if documents[grams[word]] > WIDE else post_at[grams[word] + 1]
            for post in range(post_at[grams[word]], last):
                which = np.int64(post_document[post])
                base, place = text_at[which], word_at[which] + post_word[post]
                back = _known(text, word, document, place, base, folded, post,
                              (grams, documents, post_at, post_document, post_word))
                if back < 0:
                    continue
                length, begin, place = back, word - back, place - back
                most = min(words - begin, word_at[which + 1] - place)
                while length < most and _equal(text, begin + length, document, place + length, base, folded):
                    length += 1
                if length < n + back or not _adds(number, place, length - n + 1, seen, longest[which]):
                    continue
                if count == len(out):
                    return number, before
                if starts[begin] < byte:
                    chars -= count_chars(data, starts[begin], byte)
                else:
                    chars += count_chars(data, byte, starts[begin])
                byte = starts[begin]
                out[count, 0], out[count, 1], out[count, 2] = row, which, chars
                out[count, 3] = chars + count_chars(data, byte, ends[begin + length - 1])
                out[count, 4], out[count, 5] = place - word_at[which], length
                out[count, 6] = spreads[begin]
                for later in range(begin + 1, begin + length - n + 1):
                    out[count, 6] = min(out[count, 6], spreads[later])
                count += 1
    return len(rows), count
