"""The measure of one part of every response as a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from .lanes import languages
from .lid import judge
from .measure import Measured, measure
from .tally import FOREIGN, GOOD, RUN_LANGUAGE, RUN_START, RUN_STOP, RUN_WORDS, SWITCHES, WORDS

Ints = npt.NDArray[np.int64]
LONGEST = 200
"""Characters of a foreign stretch that are kept as evidence."""
SHARES = pl.List(pl.Struct({"language": pl.String(), "words": pl.Int32(), "segments": pl.Int32()}))
PART: dict[str, pl.DataType] = {
    "consistency": pl.Float64(), "words": pl.Int32(), "switches": pl.Int32(), "foreign_words": pl.Int32(),
    "foreign_sentences": pl.Int32(), "languages": SHARES, "foreign_run": pl.String(),
    "foreign_run_words": pl.Int32(), "foreign_run_language": pl.String(), "start": pl.Int64(), "stop": pl.Int64()}
"""What is said of a part. `consistency` is null without words, `foreign_run…` null without any; `start` and `stop` are
the places (bytes of the batch) of the longest foreign stretch, -1 without any."""


def measure_part(data: npt.NDArray[np.uint8], starts: Ints, ends: Ints, targets: Ints) -> Measured:
    """Measure the spans of one part (start -1: the row has none) against languages by number."""
    there = starts >= 0
    return measure(data, np.where(there, starts, 0), np.where(there, ends, 0), targets, judge)


def part_frame(data: npt.NDArray[np.uint8], starts: Ints, measured: Measured) -> pl.DataFrame:
    """One row per text, with the columns of `PART`."""
    fields, known = measured.fields, np.array([*languages(), None], dtype=object)
    words, good, found = fields[:, WORDS], fields[:, GOOD], fields[:, RUN_WORDS] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        share = pl.Series(good / words).fill_nan(None)
    spoken = [(places := (int(starts[i] + fields[i, RUN_START]), int(starts[i] + fields[i, RUN_STOP])))
              and data[slice(*places)].tobytes().decode("utf-8", "replace")[:LONGEST] if there else None
              for i, there in enumerate(found.tolist())]
    return pl.DataFrame({
        "consistency": share, "words": words, "switches": fields[:, SWITCHES], "foreign_words": words - good,
        "foreign_sentences": fields[:, FOREIGN], "languages": share_table(measured), "foreign_run": spoken,
        "foreign_run_words": fields[:, RUN_WORDS],
        "foreign_run_language": known[np.where(found, fields[:, RUN_LANGUAGE], -1)].tolist(),
        "start": np.where(found, starts + fields[:, RUN_START], -1),
        "stop": np.where(found, starts + fields[:, RUN_STOP], -1)}, schema=PART, strict=False)


def share_table(measured: Measured) -> pl.Series:
    """Words and sentences by language, most words first, then by the number of the language."""
    known: Any = np.array(languages(), dtype=object)
    at, language = np.nonzero(measured.by_word)
    words = measured.by_word[at, language]
    order = np.lexsort((language, -words, at))
    at, language, words = at[order], language[order], words[order]
    entries = pa.StructArray.from_arrays(
        [pa.array(known[language].tolist(), pa.large_string()), pa.array(words),
         pa.array(measured.by_sentence[at, language])], ["language", "words", "segments"])
    ends = np.searchsorted(at, np.arange(len(measured.by_word) + 1))
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), entries))
