"""Prompts that are nearly an item's prompt: the exact Jaccard similarity of their sets of word n-grams.

A benchmark has thousands of prompts, not millions, so nothing has to be estimated: an inverted index from n-gram to
prompts counts what a row shares with every prompt at once, and |A ∩ B| / |A ∪ B| follows from the sizes. That misses
nothing, which MinHash with bands does (Broder 1997); for benchmarks of millions of items `rows` takes the rows that a
MinHash index proposes, and only those are measured.

Sets are those of `dedup.minhash` but for texts without words, which have none here, and no similar prompt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import TextBuffers, text_buffers
from factory.text.jit import kernel
from factory.text.tables import load_tables
from factory.text.words import mix

from .grams import find_gram, gram_room, make_table, power_of, row_grams
from .index import freeze


class NearIndex(NamedTuple):
    """Distinct shingles `values`, the prompts that have entry e in `prompt` at `at[e]:at[e + 1]`, shingles per prompt
    in `sizes`, and the table of `grams.make_table`."""

    values: npt.NDArray[np.uint64]
    at: npt.NDArray[np.int64]
    prompt: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]
    bloom: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int32]


@kernel
def _best(data: Any, offsets: Any, folded: Any, n: int, power: Any, rows: Any, index: Any, floor: float, room: Any,
          seen: Any, found: Any, similarity: Any) -> Any:
    """Into `found` and `similarity` the prompt most like each row, the first of equals, from `floor` on. `room` holds
    the grams of the longest row; `seen`, of a power of two of at least twice as many, the distinct ones."""
    values, at, prompt, sizes, bloom, slots = index
    keys, stamps = seen
    shared, touched = np.zeros(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    for row in rows:
        count, _ = row_grams(data, offsets[row], offsets[row + 1], folded, n, power, room)
        known = 0
        for place in range(count):
            known += find_gram(room[place], bloom, slots, values) >= 0
        if known == 0:
            continue
        distinct, many, last = 0, 0, np.uint64(len(keys) - 1)
        for place in range(count):
            spot = mix(room[place]) & last
            while stamps[spot] == row and keys[spot] != room[place]:
                spot = (spot + np.uint64(1)) & last
            if stamps[spot] == row:
                continue
            stamps[spot], keys[spot], distinct = row, room[place], distinct + 1
            entry = find_gram(room[place], bloom, slots, values)
            for post in range(at[entry] if entry >= 0 else 0, at[entry + 1] if entry >= 0 else 0):
                if shared[prompt[post]] == 0:
                    touched[many], many = prompt[post], many + 1
                shared[prompt[post]] += 1
        for number in touched[:many]:
            value = shared[number] / (distinct + sizes[number] - shared[number])
            first = value == similarity[row] and number < found[row]
            if value >= floor and (value > similarity[row] or first):
                found[row], similarity[row] = number, value
            shared[number] = 0


@kernel
def _shingle_all(data: Any, offsets: Any, folded: Any, n: int, power: Any, room: Any, out: Any, at: Any) -> Any:
    for row in range(len(offsets) - 1):
        count, _ = row_grams(data, offsets[row], offsets[row + 1], folded, n, power, room)
        at[row + 1] = at[row] + count
        out[at[row]:at[row + 1]] = room[:count]


def index_prompts(texts: pl.Series, n: int) -> NearIndex:
    """The inverted index of a benchmark's prompts; prompt p is row p."""
    buffers = text_buffers(texts)
    hashes, at = np.empty(buffers.bytes, np.uint64), np.zeros(buffers.rows + 1, np.int64)
    _shingle_all(buffers.data, buffers.offsets, load_tables().folded, n, power_of(n), gram_room(buffers), hashes, at)
    pairs = pl.DataFrame({"hash": hashes[:at[-1]], "prompt": np.repeat(np.arange(buffers.rows), np.diff(at))})
    pairs = pairs.unique().sort("hash", "prompt")
    sizes = np.bincount(pairs["prompt"].to_numpy(), minlength=buffers.rows).astype(np.int64)
    values, first = np.unique(pairs["hash"].to_numpy(), return_index=True)
    posts = np.concatenate([first, [pairs.height]]).astype(np.int64)
    arrays = (values, posts, pairs["prompt"].to_numpy().astype(np.int32), sizes, *make_table(values))
    return NearIndex(*(freeze(array) for array in arrays))


def match_near(texts: TextBuffers, words: npt.NDArray[np.int64], index: NearIndex, n: int, floor: float,
               rows: npt.NDArray[np.int64] | None = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(prompt most like each row or -1, their Jaccard or 0), where it is `floor` or more. `words`: of each row."""
    found, similarity = np.full(texts.rows, -1, np.int64), np.zeros(texts.rows)
    if not len(index.values):
        return found, similarity
    rows = np.arange(texts.rows) if rows is None else rows
    folded = load_tables().folded
    size = 1 << (2 * int(words.max(initial=0)) + 2).bit_length()
    seen = np.empty(size, np.uint64), np.full(size, -1, np.int64)
    _best(texts.data, texts.offsets, folded, n, power_of(n), rows, tuple(index), floor, gram_room(texts), seen,
          found, similarity)
    return found, similarity
