"""Everything that filter.repetition measures of one part (thinking or answer) of every row.

Values are float64 columns; evidence is a byte span of the part (see `Parts.locate` for characters): where the first
duplicate, the top n-gram or the loop stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.text.tables import load_tables

from .keys import table_size
from .parts import Ints, Spans
from .pieces import MIN_CHARS
from .repetition_rows import measure_rows, most_newlines
from .tokens import BYTES

GOPHER = ("dup_line_frac", "dup_line_char_frac", "dup_para_frac", "dup_para_char_frac",
          "top_2gram", "top_3gram", "top_4gram", *(f"dup_{n}gram" for n in range(5, 11)))
"""Table A1's thirteen statistics (see `pieces` and `grams`), each a share, mostly of the part's characters."""
OTHERS = ("dup_sentence_frac", "dup_sentence_char_frac", "tail_loop_chars", "tail_loop_times", "compression")
"""Shares of sentences and of their characters; the tail loop in characters and in times (seldom whole); LZ4
bytes / bytes."""
NAMES = (*GOPHER, *OTHERS)


@dataclass(frozen=True, slots=True)
class Repetition:
    """`values[row, i]` is the statistic NAMES[i] (0 for an empty or missing part); `evidence[row, i]` its (start, end)
    in bytes of the spans' data, -1 where nothing repeats."""

    values: npt.NDArray[np.float64]
    evidence: Ints

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """One statistic of all rows."""
        return self.values[:, NAMES.index(name)]


def measure_repetition(spans: Spans) -> Repetition:
    """Every statistic of every row (see NAMES). Work arrays: some 80 bytes per word of the longest text."""
    rows = len(spans.starts)
    values, places = np.zeros((rows, len(NAMES))), np.full((rows, len(NAMES), 2), -1, np.int64)
    slots = np.empty(_slots_for_pieces(spans), np.uint64)
    measure_rows(spans.data, spans.starts, spans.ends, load_tables().classes, BYTES, slots, values, places)
    return Repetition(values, places)


def _slots_for_pieces(spans: Spans) -> int:
    lines = most_newlines(spans.data, spans.starts, spans.ends) + 1
    return int(table_size(max(lines, spans.longest // MIN_CHARS + 1)))
