"""The tables of the measure: words and trigrams with what each tells of the languages (made by `train`).

Row of a word, per lane: ln of p(word | language) relative to the best lane, in twelfths of a nat. The probability is
the word's share of the training text, plus a bonus where it was seen at all, plus a small part of what its trigrams
say: so unseen words are judged by their spelling, and seen ones mostly by having been seen.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .charset import charset
from .lanes import WIDTH

STEP = 12
"""Steps of a score per nat."""
GRAM_WEIGHT = 0.55
"""Trigrams of one word overlap: their sum counts for this much."""
_BONUS, _SPELLING = 6e-5, 2e-5
NEUTRAL = 255
"""In place of a lane: the word speaks for no language."""
_FILE = Path(__file__).parent / "tables.npz"


class Model(NamedTuple):
    """`slots` finds a word's row by its hash (`words.find_row`); `rows` (int8[words, 32]) holds the scores, frequent
    words first, so that those in use lie together, `columns` the same by lane; `common` (uint8): 1 if among a
    language's 60 most frequent words, 2 for a particle of names."""

    slots: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int8]
    columns: npt.NDArray[np.int8]
    common: npt.NDArray[np.uint8]
    grams: npt.NDArray[np.uint8]
    page: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint16]


def _rows(stored: Any, sums: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
    spelling = sums.astype(np.float32) * np.float32(0.5 * GRAM_WEIGHT)
    spelling -= spelling.max(axis=1, keepdims=True)
    p = np.exp(np.maximum(spelling, -12)) * np.float32(_SPELLING)
    word = np.repeat(np.arange(len(sums)), np.diff(stored["indptr"]))
    lane, share = stored["lane"], np.exp2(-stored["share"].astype(np.float32) / 8)
    neutral = word[lane == NEUTRAL]
    word, share, lane = word[lane < WIDTH], share[lane < WIDTH], lane[lane < WIDTH]
    p[word, lane] += share + np.float32(_BONUS)
    score = np.log(p)
    score -= score.max(axis=1, keepdims=True)
    score[neutral] = 0
    rows: npt.NDArray[np.int8] = np.maximum(np.rint(score * STEP), -127).astype(np.int8)
    return rows


@cache
def load_model() -> Model:
    """The tables, read and unfolded once per process."""
    from .grams import score_words
    from .words import fill_slots, hash_words

    with np.load(_FILE) as stored:
        text = stored["words"]
        ends = np.flatnonzero(text == 10).astype(np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), ends + 1])
        chars = charset()
        grams = np.ascontiguousarray(stored["grams"])
        sums = np.zeros((len(ends), WIDTH), np.int32)
        keys = np.zeros(len(ends), np.uint64)
        hash_words(text, offsets, *chars, keys)
        score_words(text, offsets, *chars, grams, sums)
        order = _by_frequency(stored)
        size = 1 << int(len(ends) * 2 - 1).bit_length()
        slots = np.zeros(size, np.uint64)
        fill_slots(keys[order], slots)
        rows = _rows(stored, sums)[order]
        return Model(slots, rows, np.ascontiguousarray(rows.T), stored["common"][order], grams, *chars)


def _by_frequency(stored: Any) -> npt.NDArray[np.int64]:
    """Rows from the most frequent word to the rarest (by its largest share in any language)."""
    rarity = np.minimum.reduceat(stored["share"], stored["indptr"][:-1])
    return np.argsort(rarity, kind="stable")
