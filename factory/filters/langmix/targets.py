"""The main language of a text: by its words where they leave no doubt, else with the help of lid.176."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import text_buffers

from .lanes import fold, languages, number_of
from .lid import ask_codes
from .measure import measure, share_script
from .tally import MAIN, MARGIN, WORDS

Ints = npt.NDArray[np.int64]
UNCERTAIN_WORDS, CLEAR_SHARE, SAMPLE = 20, 0.9, 600
"""A text with fewer words, or a smaller share of its main language, is shown to lid.176: its first SAMPLE bytes."""
AGREED_ODDS, SURE_ODDS = 0.5, 0.7
AGREED_MARGIN, SURE_MARGIN = 24, 60
"""What decides such a text (see `settle`). A margin is by how much its language beats the next one of its script, in
twelfths of a nat."""


def main_languages(texts: Sequence[str]) -> list[str | None]:
    """The language code of each text, None where it has too few words to tell. Codes beyond `lanes.languages()` are
    lid.176's."""
    buffers = text_buffers(pl.Series(texts, dtype=pl.String))
    begins, ends = buffers.offsets[:-1], buffers.offsets[1:]
    measured = measure(buffers.data, begins, ends, np.full(buffers.rows, -1, np.int64))
    main, words, margin = (measured.fields[:, field] for field in (MAIN, WORDS, MARGIN))
    own = measured.by_word.max(axis=1, initial=0)
    known = languages()
    found: list[str | None] = [known[number] if number > 0 else None for number in main.tolist()]
    for i in np.flatnonzero((words < UNCERTAIN_WORDS) | (own < CLEAR_SHARE * words)).tolist():
        if not words[i]:
            found[i] = None
            continue
        said = buffers.data[begins[i]:min(begins[i] + SAMPLE, ends[i])].tobytes().decode("utf-8", "ignore")
        found[i] = settle(said, int(main[i]), int(margin[i]))
    return found


def settle(said: str, main: int, margin: int) -> str | None:
    """The language of a text whose words speak for `main` by `margin`: theirs where lid.176 agrees or they are sure;
    lid.176's where that is sure and the script allows it; None where neither is, as in "ok" or "Find x"."""
    code, odds = ask_codes(said, 1)[0]
    number, known = number_of(code), languages()
    if main > 0 and number == main and (odds >= AGREED_ODDS or margin >= AGREED_MARGIN):
        return known[main]
    if odds >= SURE_ODDS and (share_script(number, main) if number else margin < 2 * SURE_MARGIN):
        return known[number] if number else fold(code)
    return known[main] if main > 0 and margin >= SURE_MARGIN else None
