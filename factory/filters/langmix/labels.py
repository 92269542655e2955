"""A language for every word of a text: by script where one language owns it, else by the words and runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined

from .charset import HAN, KANA, LAST_LANE, LATIN
from .runs import find_runs
from .sentences import find_sentences, lean_words
from .words import copy_row, find_row, place_of, spell

JAPANESE_HEADING = 10
"""In a Japanese text this many Han characters in a sentence without kana are Chinese."""


@inlined
def look_up(data: Any, begin: Any, count: Any, words: Any, chars: Any, model: Any, lanes_of: Any, wanted: Any,
            out: Any, seen: Any) -> Any:
    """For each word of a script with lanes: `rows_at` (its row, -1 where it is not known), and the sums per script and
    lane in `totals` where the target (`wanted`: its lane by script) has none. `seen` counts the words of each
    script."""
    value, script = words[2], words[3]
    rows_at, totals, spelled, row = out
    slots, rows, known, spelled_rows = model[0], model[1], spelled[0], spelled[1]
    for own in range(len(seen)):
        seen[own] = 0
    for own in range(LAST_LANE + 1):
        for lane in range(32):
            totals[own, lane] = 0
    for i in range(count):
        own = script[i]
        seen[own] += 1
        ref = find_row(value[i], slots) if own <= LAST_LANE else np.int64(-1)
        rows_at[i] = ref
        if own > LAST_LANE:
            continue
        if wanted[own] >= 0:
            continue
        place = place_of(value[i])
        if ref < 0 and known[place] != value[i]:
            spell(i, begin, words, own, model, chars, lanes_of, data, spelled)
        copy_row(ref, rows, place, spelled_rows, row)
        for lane in range(32):
            totals[own, lane] += max(np.int32(row[lane]), -48)


@inlined
def label_words(script: Any, sentence: Any, count: Any, main: Any, chinese: Any, japanese: Any, target: Any,
                label: Any) -> Any:
    """Languages of the words by script alone (`main`: of every script). Han is Japanese in a sentence of which kana are
    an eighth or more, and in a Japanese text in short headings without kana."""
    i = 0
    while i < count:
        stop, han, kana = i, 0, 0
        while stop < count and sentence[stop] == sentence[i]:
            han += script[stop] == HAN
            kana += script[stop] == KANA
            stop += 1
        japan = kana * 8 >= han + kana and kana > 0
        japan |= target == japanese and kana == 0 and han < JAPANESE_HEADING
        main[HAN] = japanese if japan else chinese
        for at in range(i, stop):
            label[at] = main[script[at]]
        i = stop


@inlined
def reference_of(totals: Any, own: Any, lanes: Any, lane_of_target: Any, measured: Any) -> Any:
    """The lane that the others are held against: the target's; English for Latin words in a text whose target is
    written in another script, as nearly all borrowed terms are; or the one that the whole text speaks for."""
    if lane_of_target >= 0:
        return lane_of_target
    if measured and own == LATIN:
        return 0
    best = 0
    for lane in range(lanes):
        if totals[lane] > totals[best]:
            best = lane
    return best


@inlined
def label_lanes(data: Any, begin: Any, words: Any, count: Any, seen: Any, model: Any, chars: Any, common: Any,
                out: Any, lanes_of: Any, numbers: Any, lane_of: Any, measured: Any, low: Any,
                high: Any, odds: Any, sums: Any, recent: Any, runs: Any, main: Any) -> Any:
    """Write to `main` the languages that are the references of scripts with lanes, and to `runs` the runs of others.
    Returns how many runs there are."""
    found = 0
    for own in range(1, LAST_LANE + 1):
        if seen[own] == 0:
            continue
        reference = reference_of(out[1][own], own, lanes_of[own], lane_of[own], measured)
        main[own] = numbers[own, reference]
        many = lean_words(own, reference, data, begin, words, count, model, chars, lanes_of, out, odds)
        found = find_sentences(own, lanes_of, reference, data, begin, words, count, model, chars, common, out, low,
                               high, odds, many, sums[0], runs, found)
        found = find_runs(own, lanes_of, reference, data, begin, words, count, model, chars, common, out, low, odds,
                          many, sums, recent, runs, found)
    return found
