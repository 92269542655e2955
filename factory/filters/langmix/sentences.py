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
from .words import row_of

LEAST_ODD, LEAST_BYTES, MOST_WORDS = 2, 3, 12
"""Shorter words are as often signs of a formula (dx, kl)."""
LOW, HIGH = 36, 96
"""Evidence, in steps of 1/12 nat, from which a sentence is doubtful, and from which it is foreign."""


@inlined
def lean_words(own: int, reference: int, number: int, data: Any, begin: int, words: Any, count: int, model: Any,
               chars: Any, lanes_of: Any, out: Any, label: Any, odds: Any) -> Any:
    """Label the words of script `own` with the reference's number, and write to `odds` which of them speak against it:
    more than DRIFT below the best lane, and no names. Returns how many those are."""
    script, flags, rows_at, columns, many = words[3], words[4], out[0], model[3], 0
    for i in range(count):
        if script[i] != own:
            continue
        label[i] = number
        if flags[i] == CAPITAL:
            continue
        ref, odds[many] = rows_at[i], i
        if ref >= 0:
            many += columns[reference, ref] < -DRIFT
        else:
            row = row_of(ref, i, begin, words, own, model, chars, lanes_of, data, out[2])
            many += row[reference] < -DRIFT
    return many


@inlined
def _weigh(own: int, lanes_of: Any, reference: int, data: Any, begin: int, words: Any, at: int, stop: int, model: Any,
           chars: Any, common: Any, out: Any, sums: Any) -> Any:
    """(lane, evidence) of the lane that the words at..stop speak for most."""
    value, script, flags, rows_at = words[2], words[3], words[4], out[0]
    sums[:] = 0
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
        row = row_of(ref, i, begin, words, own, model, chars, lanes_of, data, out[2])
        known |= ref >= 0
        base = np.int32(row[reference])
        for lane in range(lanes_of[own]):
            sums[lane] += min(max(np.int32(row[lane]) - base, -clip), clip)
    best = 0
    for lane in range(lanes_of[own]):
        best = lane if sums[lane] > sums[best] else best
    return best, (sums[best] if known else 0)


@inlined
def find_sentences(own: int, lanes_of: Any, reference: int, data: Any, begin: int, words: Any, count: int, model: Any,
                   chars: Any, common: Any, out: Any, low: int, high: int, odds: Any, many: int, sums: Any, runs: Any,
                   found: int) -> Any:
    """Append to `runs` (as `find_runs`) the sentences that another lane explains better; how many runs there are."""
    starts, ends, script, sentence = words[0], words[1], words[3], words[5]
    k = 0
    while k < many:
        at = stop = np.int64(odds[k])
        odd = mates = 0
        while k < many and sentence[odds[k]] == sentence[at]:
            odd += ends[odds[k]] - starts[odds[k]] >= LEAST_BYTES
            k += 1
        if odd < LEAST_ODD:
            continue
        while at > 0 and sentence[at - 1] == sentence[stop]:
            at -= 1
        while stop < count and sentence[stop] == sentence[at]:
            mates += script[stop] == own
            stop += 1
        if odd * 3 < mates or mates > MOST_WORDS:
            continue
        lane, total = _weigh(own, lanes_of, reference, data, begin, words, at, stop, model, chars, common, out, sums)
        if total < LOW:
            continue
        first, last = at, stop - 1
        while script[first] != own:
            first += 1
        while script[last] != own:
            last -= 1
        runs[found, 0], runs[found, 1], runs[found, 2] = first, last, lane
        runs[found, 3] = high if total >= HIGH else low
        found += 1
    return found
