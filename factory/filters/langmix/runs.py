"""Runs of another language among the words of one script: a change-point test over the words.

For every lane l but the reference the sum S_l = max(0, S_l + d_l) is kept over the words, where d_l is the clipped
log-likelihood ratio of l to the reference less a drift (Page 1954, "Continuous inspection schemes", CUSUM). A run of l
begins where S_l last left zero, ends where S_l was highest once it has fallen clearly below, and is foreign where that
peak reaches the threshold. A capitalised word within a sentence begins no run. So a run needs no sentence ends around
it, and one odd word is no run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined

from .scan import CAPITAL
from .words import copy_row, place_of, spell

CLIP, CLIP_SPELLED, CLIP_NAME = 48, 42, 16
"""Most that one word may say, in steps of 1/12 nat: a known word, an unknown one, a capitalised one in a sentence."""
PARTICLE = 2
"""Mark of a name's particle in `common`."""
DRIFT = 6
FALL = 100
"""How far below its peak a sum must fall before the run is over."""
LOOK_BACK, ALONE = 64, 8


@inlined
def clip_of(ref: Any, flags: Any, common: Any, at: Any, count: Any) -> Any:
    """Most that the word at `at` may say. A particle before a capitalised word is part of a name (de la Vallée)."""
    if flags[at] == CAPITAL:
        return CLIP_NAME
    if ref < 0:
        return CLIP_SPELLED
    if common[ref] == PARTICLE:
        for near in range(at + 1, min(at + 3, count)):
            if flags[near] == CAPITAL:
                return CLIP_NAME
    return CLIP


@inlined
def _is_echo(value: Any, recent: Any) -> Any:
    """Whether a word is one of the last four of this kind, which are remembered; a repeated word is no new evidence."""
    for k in range(len(recent)):
        if recent[k] == value:
            return True
    recent[3], recent[2], recent[1] = recent[2], recent[1], recent[0]
    recent[0] = value
    return False


@inlined
def step(row: Any, reference: Any, lanes: Any, clip: Any, at: Any, sums: Any, first: Any, peak: Any, last: Any) -> Any:
    """Move the sums of all lanes by one word; the highest sum, and the highest peak."""
    base = np.int32(row[reference])
    for lane in range(lanes):  # without branches, so that it runs on vectors
        said = min(max(np.int32(row[lane]) - base, -clip), clip) - np.int32(DRIFT)
        before = sums[lane]
        total = max(before + said, np.int32(0))
        begun = (before == 0) & (total > 0)
        first[lane] = at if begun else first[lane]
        top = np.int32(0) if begun else peak[lane]
        last[lane] = at if total > top else last[lane]
        peak[lane] = max(top, total)
        sums[lane] = total
    high, top = np.int32(0), np.int32(0)
    for lane in range(lanes):
        high, top = max(high, sums[lane]), max(top, peak[lane])
    return high, top


@inlined
def _lane_of(peak: Any, lanes: Any) -> Any:
    """The lane with the highest peak, the first of several."""
    best = 0
    for lane in range(lanes):
        best = lane if peak[lane] > peak[best] else best
    return best


@inlined
def _next_start(odds: Any, many: int, at: int, word: Any) -> int:
    """The first entry of `odds` from `at` on that is no word before `word` and not the only one for ALONE words: what
    one word says is spent on so many others."""
    while at < many and (odds[at] < word or at + 1 == many or odds[at + 1] - odds[at] > ALONE):
        at += 1
    return at


@inlined
def _restart(sums: Any, peak: Any) -> None:
    for lane in range(len(sums)):
        sums[lane] = peak[lane] = 0


@inlined
def find_runs(own: Any, lanes_of: Any, reference: Any, data: Any, begin: Any, words: Any, count: Any, model: Any,
              chars: Any, common: Any, out: Any, low: Any, odds: Any, many: Any, work: Any, recent: Any,
              runs: Any, found: Any) -> Any:
    """Append to `runs` (int32[?, 4]: first word, last word, lane, peak) the runs of words of script `own` whose peak is
    at least `low`; how many runs there are now. `odds[:many]` are the words with which a run may begin."""
    value, script, flags, lanes = words[2], words[3], words[4], lanes_of[own]
    rows_at, _, spelled, row = out
    rows, known, spelled_rows = model[1], spelled[0], spelled[1]
    sums, first, peak, last = work[0], work[1], work[2], work[3]
    _restart(sums, peak)
    for k in range(len(recent)):
        recent[k] = 0
    i: Any = 0
    idle, next_odd = True, 0
    while i < count:
        if idle:
            next_odd = _next_start(odds, many, next_odd, i)
            if next_odd == many:
                break
            i = np.int64(odds[next_odd])
        if script[i] == own:
            ref = rows_at[i]
            place = place_of(value[i])
            if ref < 0 and known[place] != value[i]:
                spell(i, begin, words, own, model, chars, lanes_of, data, spelled)
            copy_row(ref, rows, place, spelled_rows, row)
            clip = 0 if _is_echo(value[i], recent) else clip_of(ref, flags, common, i, count)
            high, top = step(row, reference, lanes, np.int32(clip), np.int32(i), sums, first, peak, last)
            idle = high == 0
            best = _lane_of(peak, lanes) if top >= low else np.int64(0)
            if peak[best] >= low and (sums[best] == 0 or sums[best] <= peak[best] - FALL):
                runs[found, 0], runs[found, 1], runs[found, 2], runs[found, 3] = (
                    first[best], last[best], best, peak[best])
                found += 1
                i = max(np.int64(last[best]), i - LOOK_BACK)
                idle, next_odd = True, 0
                _restart(sums, peak)
        i += 1
    best = _lane_of(peak, lanes)
    if peak[best] >= low:
        runs[found, 0], runs[found, 1], runs[found, 2], runs[found, 3] = first[best], last[best], best, peak[best]
        found += 1
    return found
