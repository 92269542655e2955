"""Texts in Unicode's Normalization Form C, at the price of a look at each byte where they are in it already.

Most texts are: what NFC could change must hold a character of `composing`, a decomposable one or one that a character
before it may take in (the quick check of Unicode Standard Annex 15, section 9, with the answer "maybe" for every
combining mark). Only such texts are given to the normaliser.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import TextBuffers, text_buffers
from factory.text.jit import inlined, kernel
from factory.text.tables import CODE_POINTS
from factory.text.words import decode

from .index import freeze

_FIRST = 0x300
_LEAD = 0xCC  # the first byte of U+0300; characters before it are as NFC wants them
_LAST = 0x30000  # characters from here on neither decompose nor combine


@cache
def composing() -> npt.NDArray[np.bool_]:
    """Whether a code point may change in NFC, or change what is before it."""
    marks = np.zeros(CODE_POINTS, np.bool_)
    marks[0x1161:0x1176] = marks[0x11A8:0x11C3] = True  # vowels and finals of Hangul join by rule, not by table
    for code in range(_FIRST, _LAST):
        parts = unicodedata.decomposition(chr(code)).split()
        if unicodedata.combining(chr(code)) or unicodedata.category(chr(code)) == "Cn":
            marks[code] = True  # of a character that is newer than Python's tables anything may be
        elif parts and not parts[0].startswith("<"):
            marks[code] = marks[code] or not unicodedata.is_normalized("NFC", chr(code))
            marks[int(parts[-1], 16)] |= len(parts) == 2
    marks[:_FIRST] = False
    return freeze(marks)


@inlined
def may_compose(data: Any, at: int, stop: int, marks: Any) -> bool:
    """Whether a character of data[at:stop] is marked."""
    while at < stop:
        if data[at] < _LEAD:
            at += 1
            continue
        point, at = decode(data, at, stop)
        if marks[point]:
            return True
    return False


@kernel
def _mark(data: Any, offsets: Any, marks: Any, out: Any) -> Any:
    for row in range(len(out)):
        out[row] = may_compose(data, offsets[row], offsets[row + 1], marks)


def composed_buffers(texts: pl.Series) -> TextBuffers:
    """The buffers of the texts in NFC."""
    buffers = text_buffers(texts)
    maybe = np.zeros(buffers.rows, np.bool_)
    _mark(buffers.data, buffers.offsets, composing(), maybe)
    rows = pl.Series(np.flatnonzero(maybe))
    if not len(rows):
        return buffers
    texts = texts.cast(pl.String)
    return text_buffers(texts.scatter(rows, texts.gather(rows).str.normalize("NFC")))
