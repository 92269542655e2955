"""Prompts that are the same: character by character, or but for their numbers.

The compared form of a text is its NFC, lower-cased code point by code point, with a run of white space as one space,
none around, zero-width characters gone, and a few characters that editors swap as one: curly and straight quotes, the
minus sign and the hyphen, full-width and plain ASCII. Operators, signs, brackets and LaTeX stay, so two problems that
differ in a sign differ. `digits=True` also makes one sign of every number (digits, with points or commas between them):
texts that agree so are versions of one template, and only sometimes the same problem.

Forms are found by hash and then compared whole: an answer is never a collision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import TextBuffers, text_buffers
from factory.text.jit import kernel
from factory.text.tables import load_tables
from factory.text.words import BASIS, STEP

from .forms import form_table, write_form
from .grams import find_gram, make_table
from .index import freeze


class Forms(NamedTuple):
    """Compared forms of a benchmark's prompts, equal ones once: `codes` of form f at at[f]:at[f + 1], the first
    document with it in `document`, their hashes in `values`, and the table of `grams.make_table`. `same`: per document
    the first with its form, -1 for a blank one."""

    codes: npt.NDArray[np.uint32]
    at: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint64]
    bloom: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int32]
    same: npt.NDArray[np.int64]


@kernel
def _hash(codes: Any, at: int, stop: int) -> Any:
    value = BASIS
    for place in range(at, stop):
        value = (value ^ np.uint64(codes[place])) * STEP
    return value


@kernel
def _all_forms(data: Any, offsets: Any, table: Any, classes: Any, digits: bool, codes: Any, at: Any,
               hashes: Any) -> Any:
    for row in range(len(offsets) - 1):
        count = write_form(data, offsets[row], offsets[row + 1], table, classes, digits, codes[at[row]:])
        at[row + 1] = at[row] + count
        hashes[row] = _hash(codes, at[row], at[row + 1])


@kernel
def _match(data: Any, offsets: Any, table: Any, classes: Any, digits: bool, forms: Any, room: Any, found: Any) -> Any:
    codes, at, document, values, bloom, slots, _ = forms
    for row in range(len(offsets) - 1):
        count = write_form(data, offsets[row], offsets[row + 1], table, classes, digits, room)
        form = find_gram(_hash(room, 0, count), bloom, slots, values) if count else -1
        if form >= 0 and at[form + 1] - at[form] == count:
            same = True
            for place in range(count):
                same = same and room[place] == codes[at[form] + place]
            if same:
                found[row] = document[form]


def _buffers(texts: pl.Series) -> TextBuffers:
    """The texts in NFC. Below U+0300 everything is (Unicode Standard Annex 15, section 9), and looking is cheap."""
    texts = texts.cast(pl.String)
    rows = texts.str.contains(r"[^\x{0}-\x{2FF}]").fill_null(False).arg_true()
    if len(rows):
        texts = texts.scatter(rows, texts.gather(rows).str.normalize("NFC"))
    return text_buffers(texts)


def index_forms(texts: pl.Series, digits: bool) -> Forms:
    """The forms of a benchmark's prompts; document d is row d. Blank texts have none."""
    buffers, classes = _buffers(texts), load_tables().classes
    codes, at = np.empty(buffers.bytes, np.uint32), np.zeros(buffers.rows + 1, np.int64)
    hashes = np.empty(buffers.rows, np.uint64)
    _all_forms(buffers.data, buffers.offsets, form_table(), classes, digits, codes, at, hashes)
    values, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.where(at[1:] > at[:-1], first[which.reshape(-1)], -1).astype(np.int64)
    keep = at[first + 1] > at[first]
    values, first = values[keep], first[keep]
    sizes = at[first + 1] - at[first]
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    packed = codes[np.arange(ends[-1]) + np.repeat(at[first] - ends[:-1], sizes)]
    arrays = (packed, ends, first.astype(np.int64), values, *make_table(values), same)
    return Forms(*(freeze(array) for array in arrays))


def match_forms(texts: pl.Series, forms: Forms, digits: bool) -> npt.NDArray[np.int64]:
    """For each text the first document with the same form, -1 where there is none (and for null)."""
    buffers = _buffers(texts)
    longest = int(np.diff(buffers.offsets).max(initial=0))
    found = np.full(buffers.rows, -1, np.int64)
    _match(buffers.data, buffers.offsets, form_table(), load_tables().classes, digits, tuple(forms),
           np.empty(longest, np.uint32), found)
    return found
