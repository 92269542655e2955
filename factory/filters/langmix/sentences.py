"""Short sentences of another language among the words of one script: all words of a sentence weighed together.

A change-point test (`runs`) needs some five words before it is sure. Where a foreign stretch fills a whole sentence,
that is evidence in itself, so less will do: two words or more that speak against the reference and, all words together,
the least evidence for another language. What is between `low` and `high` is for lid.176.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined

from .runs import DRIFT, clip_of
from .scan import CAPITAL
from .words import copy_row, place_of, spell

LEAST_ODD, LEAST_BYTES, MOST_WORDS = 2, 3, 12
"""Shorter words are as often signs of a formula (dx, kl)."""
LOW, HIGH = 36, 96
"""Evidence, in steps of 1/12 nat, from which a sentence is doubtful, and from which it is foreign."""


@inlined
def lean_words(own: int, reference: int, data: Any, begin: int, words: Any, count: int, model: Any, chars: Any,
               lanes_of: Any, out: Any, odds: Any) -> Any:
    """Write to `odds` which words of script `own` speak against the reference: more than DRIFT below the best lane, and
    no names. Returns how many those are."""
    value, script, flags, rows_at, column = words[2], words[3], words[4], out[0], model[3][reference]
    known, spelled_rows, many = out[2][0], out[2][1], 0
    for i in range(count):
        ref, odds[many] = rows_at[i], i
        if ref >= 0:  # added and not branched on
            many += (column[np.uint64(ref)] < -DRIFT) & (flags[i] != CAPITAL) & (script[i] == own)
        elif script[i] == own and flags[i] != CAPITAL:
            place = place_of(value[i])
            if known[place] != value[i]:
                spell(i, begin, words, own, model, chars, lanes_of, data, out[2])
            many += spelled_rows[place, reference] < -DRIFT
    return many


@inlined
def _weigh(own: int, lanes_of: Any, reference: int, data: Any, begin: int, words: Any, at: int, stop: int, model: Any,
           chars: Any, common: Any, out: Any, sums: Any) -> Any:
    """(lane, evidence) of the lane that the words at..stop speak for most."""
    value, script, flags, rows_at, row = words[2], words[3], words[4], out[0], out[3]
    rows, spelled_known, spelled_rows = model[1], out[2][0], out[2][1]
    for lane in range(len(sums)):
        sums[lane] = 0
    known = False
    for i in range(at, stop):
        if script[i] != own:
            continue
        echo = False
        for k in range(at, i):
            echo |= value[k] == value[i]
        if echo:
            continue
        ref = rows_at[i]
        clip = np.int32(clip_of(ref, flags, common, i, stop))
        place = place_of(value[i])
        if ref < 0 and spelled_known[place] != value[i]:
            spell(i, begin, words, own, model, chars, lanes_of, data, out[2])
        copy_row(ref, rows, place, spelled_rows, row)
        known |= ref >= 0
        base = np.int32(row[reference])
        for lane in range(lanes_of[own]):
            sums[lane] += min(max(np.int32(row[lane]) - base, -clip), clip)
    best = 0
    for lane in range(lanes_of[own]):
        best = lane if sums[lane] > sums[best] else best
    return best, (sums[best] if known else 0)


@inlined
def _count_odd(words: Any, odds: Any, k: Any, many: Any) -> Any:
    """(the entry after those of the sentence of `odds[k]`, how many of these are long enough)."""
    starts, ends, sentence = words[0], words[1], words[5]
    own = sentence[odds[k]]
    odd: Any = 0
    while k < many and sentence[odds[k]] == own:
        odd += np.int64(ends[odds[k]] - starts[odds[k]] >= LEAST_BYTES)
        k += 1
    return k, odd


@inlined
def _bounds(script: Any, sentence: Any, count: int, own: int, at: Any) -> Any:
    """(first word, last word, words) of script `own` in the sentence of word `at`, and where that begins and ends."""
    stop = at
    mates: Any = 0
    while at > 0 and sentence[at - 1] == sentence[stop]:
        at -= 1
    while stop < count and sentence[stop] == sentence[at]:
        mates += np.int64(script[stop] == own)
        stop += 1
    first, last = at, stop - 1
    while script[first] != own:
        first += 1
    while script[last] != own:
        last -= 1
    return first, last, mates, at, stop


@inlined
def find_sentences(own: int, lanes_of: Any, reference: int, data: Any, begin: int, words: Any, count: int, model: Any,
                   chars: Any, common: Any, out: Any, low: int, high: int, odds: Any, many: int, sums: Any, runs: Any,
                   found: int) -> Any:
    """Append to `runs` (as `find_runs`) the sentences that another lane explains better; how many runs there are."""
    k = 0
    while k < many:
        word = np.int64(odds[k])
        k, odd = _count_odd(words, odds, k, many)
        if odd < LEAST_ODD:
            continue
        first, last, mates, at, stop = _bounds(words[3], words[5], count, own, word)
        if odd * 3 < mates or mates > MOST_WORDS:
            continue
        lane, total = _weigh(own, lanes_of, reference, data, begin, words, at, stop, model, chars, common, out, sums)
        if total >= LOW:
            runs[found, 0], runs[found, 1], runs[found, 2] = first, last, lane
            runs[found, 3] = high if total >= HIGH else low
            found += 1
    return found
