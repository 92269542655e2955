"""The parts of judged rows as texts: a column as it is, or its thinking and its answer apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.engine.text import split_response

Offsets = npt.NDArray[np.int64]


def split_parts(rows: pl.DataFrame, parts: Mapping[str, str]) -> Iterator[tuple[str, pl.Series, Offsets | None]]:
    """(part, its texts, where they begin in their column in code points; None: at 0) of each part."""
    for part, column in parts.items():
        texts = rows[column].cast(pl.String)
        yield (part, *_split(texts, part)) if part in ("thinking", "answer") else (part, texts, None)


def _split(texts: pl.Series, part: str) -> tuple[pl.Series, Offsets]:
    found: list[str | None] = []
    offsets = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts.to_list()):
        piece, offsets[row] = (None, 0) if text is None else _piece(text, part)
        found.append(piece)
    return pl.Series(found, dtype=pl.String), offsets


def _piece(text: str, part: str) -> tuple[str | None, Any]:
    """The part as it stands in the text, so that places in it are places in the text. Of an answer that later thinking
    cuts in pieces, this is all from its begin on."""
    split = split_response(text)
    piece, at = (split.thinking, split.thinking_at) if part == "thinking" else (split.answer, split.answer_at)
    if piece is None or text.startswith(piece, at):
        return piece, at
    return text[at:], at
