"""filter.language for targets beyond its tables: the same columns, measured by lid.176 stretch by stretch.

Far slower, and its grain is the sentence: foreign words within one are not seen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.filters.langmix.score import LONGEST, PART
from factory.filters.languages import UNDECIDED, Unit, find_units, resolve
from factory.filters.masking import mask

SPACELESS_SENTENCE, SPACED_SENTENCE = 6, 4
_SPACELESS = frozenset(("cjk", "thai", "south_east"))


def _longest_run(units: list[Unit], languages: list[str], target: str) -> tuple[list[list[int]], int]:
    """Foreign stretches as lists of unit numbers, and which is the longest."""
    runs: list[list[int]] = []
    for at, language in enumerate(languages):
        if language == target:
            continue
        if runs and runs[-1][-1] == at - 1:
            runs[-1].append(at)
        else:
            runs.append([at])
    sizes = [sum(units[at].words for at in run) for run in runs]
    return runs, max(range(len(runs)), key=lambda number: sizes[number], default=-1)


def _is_sentence(units: list[Unit]) -> bool:
    spaceless = sum(unit.words for unit in units if unit.script in _SPACELESS)
    return spaceless >= SPACELESS_SENTENCE or sum(unit.words for unit in units) - spaceless >= SPACED_SENTENCE


def _shares(units: list[Unit], languages: list[str]) -> list[dict[str, Any]]:
    found: dict[str, list[int]] = {}
    for unit, language in zip(units, languages, strict=True):
        entry = found.setdefault(language, [0, 0])
        entry[0], entry[1] = entry[0] + unit.words, entry[1] + 1
    return [{"language": language, "words": words, "segments": segments}
            for language, (words, segments) in sorted(found.items(), key=lambda item: (-item[1][0], item[0]))]


def measure_outside(data: npt.NDArray[np.uint8], start: int, end: int, target: str) -> dict[str, Any]:
    """The columns of `PART` for the text data[start:end] (start -1: none)."""
    text = data[start:end].tobytes().decode("utf-8", "replace") if start >= 0 else ""
    units = find_units(mask(text))
    languages = resolve(units, target)
    words = sum(unit.words for unit in units)
    good = sum(unit.words for unit, language in zip(units, languages, strict=True) if language == target)
    spoken = [language for language in languages if language != UNDECIDED]
    runs, longest = _longest_run(units, languages, target)
    row: dict[str, Any] = dict.fromkeys(PART)
    row |= {"consistency": good / words if words else None, "words": words, "foreign_words": words - good,
            "switches": sum(one != other for one, other in pairwise(spoken)),
            "foreign_sentences": sum(_is_sentence([units[at] for at in run]) for run in runs),
            "languages": _shares(units, languages), "foreign_run_words": 0, "start": -1, "stop": -1}
    if runs:
        run = runs[longest]
        begin, stop = units[run[0]].start, units[run[-1]].end
        row |= {"foreign_run": text[begin:stop][:LONGEST], "foreign_run_words": sum(units[at].words for at in run),
                "foreign_run_language": languages[run[0]], "start": start + len(text[:begin].encode()),
                "stop": start + len(text[:stop].encode())}
    return row


def outside_frame(data: npt.NDArray[np.uint8], spans: list[tuple[int, int]], targets: list[str]) -> pl.DataFrame:
    """One row per text, with the columns of `PART`."""
    rows = [measure_outside(data, start, end, target) for (start, end), target in zip(spans, targets, strict=True)]
    return pl.DataFrame(rows, schema=PART, orient="row")
