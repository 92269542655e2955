"""Where rows hold n words in a row of a benchmark's document: the longest common runs, word by word.

A *run* is a maximal stretch of k >= n words of a row that equals, word by word after lower-casing, k successive words
of a document (words as `text.words`). So a row has an n-gram of a document exactly where it has a run, for every n from
the index's upwards: a run of k words is a hit at n = 8, 10 and 13 alike when k >= 13, and the choice can be made later.

Two passes. `mark_rows` takes the n-grams of every row and looks each up, which decides the speed.
`find_runs` reads the marked rows again: each n-gram found is compared with every posting and extended both ways, and
left out where the words before hold another n-gram from which the run was found. Of an n-gram that stands in more than
`runs.WIDE` documents (a phrase, or the frame of a template) only the first posting is followed, so a benchmark made by
one template costs no more than others; its items are found from what is their own. A run that is neither the row's
longest of its document so far nor has an n-gram of it that the row did not have before is left out: it is a
repetition, and texts that repeat a few words a million times would else have a million runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.text.buffers import TextBuffers
from factory.text.jit import kernel
from factory.text.tables import load_tables

from .grams import find_gram, gram_room, power_of, row_grams
from .index import Index
from .runs import find_runs

_ROOM = 4096
COLUMNS = ("row", "document", "begin", "end", "word", "words", "spread")


class Runs(NamedTuple):
    """One entry per run, by row and place: `row`, `document`, `begin`, `end` (code points in the row), `word` (place of
    the run's first word in the document), `words` (its length), `spread` (documents that have the run's rarest
    n-gram)."""

    row: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    word: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    spread: npt.NDArray[np.int64]


@kernel
def mark_rows(data: Any, offsets: Any, folded: Any, n: int, power: Any, bloom: Any, slots: Any, values: Any, room: Any,
              words: Any, marked: Any) -> Any:
    """Words per row into `words`, and into `marked` whether the row has an n-gram of the index. `room` holds the grams
    of the longest row."""
    for row in range(len(offsets) - 1):
        grams, words[row] = row_grams(data, offsets[row], offsets[row + 1], folded, n, power, room)
        for gram in range(grams if words[row] >= n else 0):
            if find_gram(room[gram], bloom, slots, values) >= 0:
                marked[row] = True
                break


def search(texts: TextBuffers, index: Index) -> tuple[Runs, npt.NDArray[np.int64]]:
    """The runs of a batch, and the words of each row."""
    folded, power = load_tables().folded, power_of(index.n)
    words, marked = np.zeros(texts.rows, np.int64), np.zeros(texts.rows, np.bool_)
    mark_rows(texts.data, texts.offsets, folded, index.n, power, index.bloom, index.slots, index.values,
              gram_room(texts), words, marked)
    rows = np.flatnonzero(marked)
    longest = int(words[rows].max()) if len(rows) else 0
    room = (np.empty(longest, np.uint64), *(np.empty(longest, np.int64) for _ in range(4)))
    arrays = ((index.data, index.hashes, index.starts, index.ends), (index.bloom, index.slots, index.values),
              (index.text_at, index.word_at, index.documents, index.post_at, index.post_document, index.post_word))
    at, size, found = 0, _ROOM, [np.empty((0, len(COLUMNS)), np.int64)]
    while at < len(rows):
        out = np.empty((size, len(COLUMNS)), np.int64)
        next_at, count = find_runs(texts.data, texts.offsets, folded, rows, at, index.n, power, arrays, room, out)
        found.append(out[:count])
        size = size * 4 if next_at == at else size  # one row has more runs than there is room for
        at = next_at
    return Runs(*np.concatenate(found).T.copy()), words
