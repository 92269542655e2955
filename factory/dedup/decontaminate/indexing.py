"""How the arrays of an `Index` are made: words of every document, then n-grams sorted by hash, then the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import text_buffers
from factory.text.jit import kernel
from factory.text.tables import DIGIT, load_tables
from factory.text.words import count_words, decode, scan_row

from .grams import hash_grams, make_table, power_of

Array = npt.NDArray[Any]


@kernel
def _scan_documents(data: Any, offsets: Any, folded: Any, word_at: Any, hashes: Any, starts: Any, ends: Any) -> Any:
    for document in range(len(offsets) - 1):
        begin, at = offsets[document], word_at[document]
        count = scan_row(data, begin, offsets[document + 1], folded, starts[at:], ends[at:], hashes[at:])
        for word in range(at, at + count):
            starts[word] -= begin
            ends[word] -= begin


@kernel
def _count_lettered(data: Any, starts: Any, ends: Any, classes: Any, out: Any) -> Any:
    """Words before each that have a character other than a digit."""
    for word in range(len(starts)):
        at, plain = starts[word], True
        while plain and at < ends[word]:
            point, after = np.int64(data[at]), at + 1
            if point >= 0x80:
                point, after = decode(data, at, ends[word])
            plain, at = classes[point] & DIGIT != 0, after
        out[word + 1] = out[word] + (not plain)


@kernel
def _count_documents(post_document: Any, post_at: Any, out: Any) -> Any:
    """Distinct documents per entry; postings are sorted by document."""
    for entry in range(len(out)):
        last = -1
        for post in range(post_at[entry], post_at[entry + 1]):
            if post_document[post] != last:
                out[entry] += 1
                last = post_document[post]


def index_arrays(texts: pl.Series, n: int) -> dict[str, Array]:
    """Every array of `Index`, by name."""
    buffers, folded = text_buffers(texts), load_tables().folded
    data, offsets = buffers.data[buffers.offsets[0]:buffers.offsets[-1]], buffers.offsets - buffers.offsets[0]
    offsets.flags.writeable = False
    word_at = np.concatenate([[0], np.cumsum(count_words(data, offsets, folded))]).astype(np.int64)
    total = int(word_at[-1])
    starts, ends, hashes = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.uint64)
    _scan_documents(data, offsets, folded, word_at, hashes, starts, ends)
    chars = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])  # code points before each byte
    base = np.repeat(offsets[:-1], np.diff(word_at))
    lettered = np.zeros(total + 1, np.int32)
    _count_lettered(data, base + starts, base + ends, load_tables().classes, lettered)
    places = {"chars_at": chars[base + starts] - chars[base], "chars_to": chars[base + ends] - chars[base],
              "starts": starts, "ends": ends}
    return {"data": data.copy(), "text_at": offsets.copy(), "hashes": hashes, "word_at": word_at,
            "lettered": lettered,
            **{name: place.astype(np.int32) for name, place in places.items()}, **_grams(hashes, word_at, n)}


def _grams(hashes: Array, word_at: Array, n: int) -> dict[str, Array]:
    per_document = np.maximum(np.diff(word_at) - n + 1, 0)
    found, starts = np.empty(int(per_document.sum()), np.uint64), np.empty(len(word_at), np.int64)
    hash_grams(hashes, word_at, n, power_of(n), found, starts)
    order = np.argsort(found, kind="stable")  # ties stay in order of document and place
    document = np.repeat(np.arange(len(per_document)), per_document)
    values, first = np.unique(found[order], return_index=True)
    post_at = np.concatenate([first, [len(found)]]).astype(np.int64)
    post_document = document[order].astype(np.int32)
    documents = np.zeros(len(values), np.int32)
    _count_documents(post_document, post_at, documents)
    bloom, slots = make_table(values)
    return {"values": values, "documents": documents, "post_at": post_at, "post_document": post_document,
            "post_word": (order - starts[document[order]]).astype(np.int32), "bloom": bloom, "slots": slots}
