"""R1's language consistency, and what is foreign where, for a batch of texts.

The measure (DeepSeek-R1, equation 7 of the 2025 paper's supplement): Num(words in the target language) / Num(words).
Which words count is said in `scan`, how a word gets its language in `labels` and `runs`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import charset as c
from .lanes import LANES, OWNERS, languages
from .masks import KINDS
from .model import STEP, load_model
from .tally import FIELDS
from .words import SPELLED_BITS

HIGH, LOW = 9 * STEP, int(6.5 * STEP)
"""Peaks (nats times STEP) from which a run of a script-mate is foreign, and from which it is doubtful."""
Ints = npt.NDArray[np.int64]


class Measured(NamedTuple):
    """One row per text. `fields` (int64[n, 12]; columns are named in `tally`), byte offsets within the text;
    `by_word` and `by_sentence` (int32[n, languages])."""

    fields: Ints
    by_word: npt.NDArray[np.int32]
    by_sentence: npt.NDArray[np.int32]


@cache
def _layout() -> tuple[Any, ...]:
    """(lanes per script, language numbers by script and lane, lanes by language and script, owners)."""
    known = languages()
    lanes_of = np.zeros(5, np.int64)
    numbers = np.zeros((5, 32), np.int16)
    lane_of = np.full((len(known) + 1, 5), -1, np.int64)  # the last row serves target -1
    for script, codes in LANES.items():
        lanes_of[script] = len(codes)
        for lane, code in enumerate(codes):
            numbers[script, lane] = known.index(code)
            lane_of[known.index(code), script] = lane
    owner = np.zeros(c.SCRIPTS, np.int16)
    for script, code in OWNERS.items():
        owner[script] = known.index(code)
    # Serbian is written in both scripts, in Latin letters as Croatian is.
    lane_of[known.index("sr"), c.LATIN] = LANES[c.LATIN].index("hr")
    return lanes_of, numbers, lane_of, owner, known.index("ja"), known.index("zh")


def _work(room: int, known: int) -> tuple[Any, ...]:
    """Arrays for the words of a text of up to `room` bytes, so that nothing is allocated in the kernel: words (start,
    stop, hash, script, flags, sentence), what is found of them (row, sums by lane, spelled rows, a row), labels, runs,
    odd words, sums of `runs.step`, votes, words by script, language by script, last words, closers of `masks`."""
    ints, places = np.empty((5, room + 1), np.int32), 1 << SPELLED_BITS
    words = (ints[0], ints[1], np.empty(room + 1, np.uint64), np.empty(room + 1, np.uint8),
             np.empty(room + 1, np.uint8), ints[2])
    spelled = np.zeros(places, np.uint64), np.zeros((places, 32), np.int8), np.zeros(32, np.int32)
    found = ints[3], np.zeros((5, 32), np.int32), spelled, np.empty(32, np.int8)
    return (words, found, np.empty(room + 1, np.int16), np.empty((room + 2, 4), np.int32), ints[4],
            np.zeros((4, 32), np.int32), np.zeros(known, np.int32), np.zeros(256, np.int64),
            np.zeros(c.SCRIPTS, np.int16), np.zeros(4, np.uint64), np.zeros(KINDS, np.int64))


def measure(data: npt.NDArray[np.uint8], begins: Ints, ends: Ints, targets: Ints, judge: Any = None,
            low: int = LOW, high: int = HIGH) -> Measured:
    """Measure texts `data[begins[i]:ends[i]]` (valid UTF-8) against languages by number (-1: the text's own).

    `judge(text, language, target)` says of a doubtful run whether it is in another language than the target; without
    one doubtful runs are in the target language. The result for a text depends on no other.
    """
    count = len(languages())
    lanes_of, numbers, lane_of, owner, japanese, chinese = _layout()
    model, work = load_model(), _work(int((ends - begins).max(initial=0)), count)

    def run(picked: Ints, accepted: Ints, doubts: Ints) -> tuple[Measured, int]:
        out = Measured(np.zeros((len(picked), FIELDS), np.int64), np.zeros((len(picked), count), np.int32),
                       np.zeros((len(picked), count), np.int32))
        asked = _kernel()(data, begins[picked], ends[picked], targets[picked], accepted, low, high,
                          (model.page, model.classes, model.lower), (model.slots, model.rows, model.grams,
                          model.columns), model.common, lanes_of, numbers, lane_of, owner, japanese, chinese, work,
                          *out, doubts)
        return out, asked

    every = np.arange(len(begins))
    doubts = np.zeros((4096 + 2 * len(begins) if judge else 0, 5), np.int64)
    none = np.zeros((0, 2), np.int64)
    result, asked = run(every, none, doubts)
    if judge is None or not asked:
        return result
    if asked > len(doubts):
        doubts = np.zeros((asked, 5), np.int64)
        run(every, none, doubts)
    accepted = _accept(data, begins, targets, doubts[:asked], judge, result)
    if len(accepted):
        picked, place = np.unique(accepted[:, 0], return_inverse=True)
        again, _ = run(picked, np.column_stack([place, accepted[:, 1]]), np.zeros((0, 5), np.int64))
        result.fields[picked], result.by_word[picked] = again.fields, again.by_word
        result.by_sentence[picked] = again.by_sentence
    return result


def _accept(data: npt.NDArray[np.uint8], begins: Ints, targets: Ints, doubts: Ints, judge: Any,
            result: Measured) -> Ints:
    from .tally import TARGET

    kept = []
    for text, first, start, stop, language in doubts.tolist():
        at = int(begins[text])
        said = data[at + start:at + stop].tobytes().decode("utf-8", "replace")
        if judge(said, int(language), int(result.fields[text, TARGET])):
            kept.append((text, first))
    return np.array(kept, np.int64).reshape(-1, 2)


def share_script(one: int, other: int) -> bool:
    """Whether two languages, by number, are written in one script that several languages share, or are the same."""
    lane_of = _layout()[2]
    return one == other or bool(((lane_of[one] >= 0) & (lane_of[other] >= 0)).any())


@cache
def _kernel() -> Any:
    from .kernel import measure_batch

    return measure_batch
