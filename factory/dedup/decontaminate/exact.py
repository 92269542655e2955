"""Prompts that are the same: character by character, or but for their numbers.

The compared form of a text is its NFC, lower-cased code point by code point, with a run of white space as one space,
none around, zero-width characters gone, and a few characters that editors swap as one: curly and straight quotes, the
minus sign and the hyphen, full-width and plain ASCII. Operators, signs, brackets and LaTeX stay, so two problems that
differ in a sign differ. `digits=True` also makes one sign of every number (digits, with points or commas between them):
texts that agree so are versions of one template, and only sometimes the same problem.

Of most rows only as much is read as the first `HEAD` codes of the form take, enough to see that no prompt begins so.
The others' forms are found by hash and then compared whole: an answer is never a collision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import TextBuffers, text_buffers
from factory.text.jit import inlined, kernel
from factory.text.tables import load_tables
from factory.text.words import BASIS, STEP, decode

from .composed import composed_buffers, composing, may_compose
from .forms import form_table, write_form
from .grams import find_gram, make_table
from .index import freeze

HEAD = 48


class Forms(NamedTuple):
    """Compared forms of a benchmark's prompts, equal ones once: `codes` of form f at at[f]:at[f + 1], the first
    document with it in `document`, their hashes in `values`, and the table of `grams.make_table`. `same`: per document
    the first with its form, -1 for a blank one. `heads`: hashes of the first HEAD codes of the forms, with a table of
    their own."""

    codes: npt.NDArray[np.uint32]
    at: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint64]
    bloom: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int32]
    same: npt.NDArray[np.int64]
    heads: npt.NDArray[np.uint64]
    head_bloom: npt.NDArray[np.uint64]
    head_slots: npt.NDArray[np.int32]


@inlined
def _hash(codes: Any, at: int, stop: int) -> Any:
    value = BASIS
    for place in range(at, stop):
        value = (value ^ np.uint64(codes[place])) * STEP
    return value


@kernel
def _all_forms(data: Any, offsets: Any, table: Any, classes: Any, digits: bool, codes: Any, at: Any,
               hashes: Any) -> Any:
    for row in range(len(offsets) - 1):
        size = offsets[row + 1] - offsets[row]
        count, _ = write_form(data, offsets[row], offsets[row + 1], table, classes, digits, size, codes[at[row]:])
        at[row + 1] = at[row] + count
        hashes[row] = _hash(codes, at[row], at[row + 1])


@kernel
def _head_hashes(codes: Any, at: Any, out: Any) -> Any:
    for form in range(len(out)):
        out[form] = _hash(codes, at[form], min(at[form] + HEAD, at[form + 1]))


@kernel
def _mark_heads(data: Any, offsets: Any, table: Any, classes: Any, marks: Any, digits: bool, heads: Any,
                out: Any) -> Any:
    """Which texts may have a form that begins as one of a prompt: those with such a head, and those whose head NFC may
    change, also by the character after it."""
    values, bloom, slots = heads
    room = np.empty(HEAD + 1, np.uint32)
    for row in range(len(out)):
        begin, stop = offsets[row], offsets[row + 1]
        count, at = write_form(data, begin, stop, table, classes, digits, HEAD, room)
        if at < stop:
            _, at = (0, at + 1) if data[at] < 0x80 else decode(data, at, stop)
        out[row] = may_compose(data, begin, at, marks) or (
            count > 0 and find_gram(_hash(room, 0, min(count, HEAD)), bloom, slots, values) >= 0)


@kernel
def _match(data: Any, offsets: Any, table: Any, classes: Any, digits: bool, forms: Any, room: Any, found: Any) -> Any:
    codes, at, document, values, bloom, slots = forms
    for row in range(len(offsets) - 1):
        count, _ = write_form(data, offsets[row], offsets[row + 1], table, classes, digits, len(room), room)
        form = find_gram(_hash(room, 0, count), bloom, slots, values) if count else -1
        if form >= 0 and at[form + 1] - at[form] == count:
            same = True
            for place in range(count):
                same = same and room[place] == codes[at[form] + place]
            if same:
                found[row] = document[form]


def index_forms(texts: pl.Series, digits: bool) -> Forms:
    """The forms of a benchmark's prompts; document d is row d. Blank texts have none."""
    buffers, classes = composed_buffers(texts), load_tables().classes
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
    heads = np.empty(len(values), np.uint64)
    _head_hashes(packed, ends, heads)
    heads = np.unique(heads)
    arrays = (packed, ends, first.astype(np.int64), values, *make_table(values), same, heads,
              *make_table(heads))
    return Forms(*(freeze(array) for array in arrays))


def match_forms(texts: pl.Series, forms: Forms, digits: bool, given: TextBuffers | None = None,
                ) -> npt.NDArray[np.int64]:
    """For each text the first document with the same form, -1 where there is none (and for null). `given` are the
    buffers of the texts, where there are some."""
    given = text_buffers(texts) if given is None else given
    table, classes = form_table(), load_tables().classes
    found, maybe = np.full(given.rows, -1, np.int64), np.zeros(given.rows, np.bool_)
    _mark_heads(given.data, given.offsets, table, classes, composing(), digits,
                (forms.heads, forms.head_bloom, forms.head_slots), maybe)
    rows = np.flatnonzero(maybe)
    if not len(rows):
        return found
    buffers = composed_buffers(texts.gather(pl.Series(rows)))
    longest = int(np.diff(buffers.offsets).max())
    whole = np.full(len(rows), -1, np.int64)
    arrays = (forms.codes, forms.at, forms.document, forms.values, forms.bloom, forms.slots)
    _match(buffers.data, buffers.offsets, table, classes, digits, arrays, np.empty(longest, np.uint32), whole)
    found[rows] = whole
    return found
