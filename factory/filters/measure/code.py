"""Code in every row's part: blocks, bare lines, their share of the characters, and where they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .barecode import CODE_LINE, LONGEST
from .fences import LINE, OPEN, scan_rows
from .parts import Ints, Spans
from .spans import char_counts


class Code(NamedTuple):
    """Per row: fenced blocks, bare lines of code, characters of both (fences and info strings count as code), their
    share of the part's characters, and the byte place of the first block, of the block that never closes and of the
    first bare line and its end, -1 where there is none. `blocks` has one row per block: (row, start, end, info start,
    info end, closed), `lines` one per bare line: (row, start, end); in bytes of the spans' data."""

    fenced: Ints
    bare: Ints
    chars: Ints
    share: npt.NDArray[np.float64]
    first_block: Ints
    open_block: Ints
    first_line: Ints
    first_line_end: Ints
    blocks: Ints
    lines: Ints


def _is_code(data: npt.NDArray[np.uint8], start: int, end: int) -> bool:
    if end - start > LONGEST:
        return False
    line = data[start:end].tobytes().decode().rstrip()
    return "\\" not in line and CODE_LINE.match(line) is not None


def _first_per_row(rows: Ints, places: Ints, count: int) -> Ints:
    first = np.full(count, -1, np.int64)
    first[rows[::-1]] = places[::-1]
    return first


def measure_code(spans: Spans) -> Code:
    """Code of every row (zeros where a row has no such part)."""
    rows = len(spans.starts)
    found = scan_rows(spans.data, spans.starts, spans.ends)
    lines = found[found[:, 5] == LINE][:, :3]
    judged = [_is_code(spans.data, start, end) for _, start, end in lines.tolist()]
    lines, blocks = lines[np.array(judged, np.bool_)], found[found[:, 5] != LINE]
    unclosed = blocks[blocks[:, 5] == OPEN]
    chars: Any = np.zeros(rows, np.int64)
    for pieces in (blocks, lines):
        np.add.at(chars, pieces[:, 0], char_counts(spans.data, pieces[:, 1].copy(), pieces[:, 2].copy()))
    whole = char_counts(spans.data, spans.starts, spans.ends)
    return Code(np.bincount(blocks[:, 0], minlength=rows), np.bincount(lines[:, 0], minlength=rows), chars,
                chars / np.maximum(whole, 1), _first_per_row(blocks[:, 0], blocks[:, 1], rows),
                _first_per_row(unclosed[:, 0], unclosed[:, 1], rows), _first_per_row(lines[:, 0], lines[:, 1], rows),
                _first_per_row(lines[:, 0], lines[:, 2], rows), blocks, lines)
