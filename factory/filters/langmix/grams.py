"""Scores of a word's character trigrams in every lane.

A word's trigrams are those of its lower-cased letters between two blanks (Cavnar and Trenkle 1994, "N-Gram-Based Text
Categorization"); a table row holds for each lane ln p(trigram | language), from the floor up, in steps of half a nat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel
from factory.text.words import mix

from .charset import LOWER_BELOW
from .letters import char_at

BITS = 15


@inlined
def bucket(first: Any, second: Any, third: Any) -> Any:
    """The row of three code points."""
    key = (np.uint64(first) << np.uint64(42)) | (np.uint64(second) << np.uint64(21)) | np.uint64(third)
    return np.int64(mix(key) >> np.uint64(64 - BITS))


@inlined
def add_grams(data: Any, at: Any, end: Any, page: Any, classes: Any, lower: Any, grams: Any, total: Any) -> Any:
    """Write into `total` (int32[32]) the sums over the word's trigrams; how many there are."""
    for lane in range(32):
        total[lane] = 0
    first: Any = 32
    second: Any = 32
    count = 0
    done = False
    skipped_first = True
    while not done:
        if at < end:
            code, _, at = char_at(data, at, end, page, classes)
            if code == 0x2019:
                code = 0x27
            third = np.int64(lower[code]) if code < LOWER_BELOW else code
        else:
            third, done = 32, True
        if not skipped_first:
            row = grams[bucket(first, second, third)]
            for lane in range(32):
                total[lane] += row[lane]
            count += 1
        skipped_first = False
        first, second = second, third
    return count


@kernel
def score_words(data: Any, offsets: Any, page: Any, classes: Any, lower: Any, grams: Any, out: Any) -> Any:
    """Row i of `out` (int32[n, 32]): the sums of word i of a buffer of words that end in a newline each."""
    for i in range(len(offsets) - 1):
        add_grams(data, offsets[i], offsets[i + 1] - 1, page, classes, lower, grams, out[i])


@kernel
def count_buckets(codes: Any, weight: Any, out: Any) -> Any:
    """Add `weight[i]` to the bucket of the trigram `codes[i]` (int64[n, 3])."""
    for i in range(len(codes)):
        out[bucket(codes[i, 0], codes[i, 1], codes[i, 2])] += weight[i]
