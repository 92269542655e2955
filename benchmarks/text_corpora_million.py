"""Rows of about 2 KB by the million: windows of real text, recombined, with 3 % near-duplicates.

A row is SLOTS windows of consecutive words, each at a random place of the pool (the texts of the corpora SHORT and LONG
one after another), joined by single spaces; two rows share a window's words by chance alone. A near-duplicate is an
earlier row whose last 0 to 3 windows are others, so its Jaccard is about 1, .85, .71 or .6: `near` is the id of
that row (null for others), `changed` the number of windows that differ. Places come from a counter-based generator
(SplitMix64 of seed, row and slot; Steele, Lea and Flood 2014, section 4), so any cut into shards gives the same rows
and memory is that of one shard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

SLOTS, NEAR_SHARE, CHANGES, WINDOW_BYTES, MOST_GAP = 12, 0.03, 4, (100, 240), 100
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def mix(*parts: Any) -> npt.NDArray[np.uint64]:
    """A random 64-bit number for each combination of counters (broadcast as numpy does)."""
    with np.errstate(over="ignore"):
        state = np.uint64(0x9E3779B97F4A7C15)
        for part in parts:
            state = (state + np.asarray(part).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def read_pool(corpora: Path) -> tuple[Bytes, Ints]:
    """The pool as UTF-8 with a space at its end, and the places of its ASCII spaces; texts with longer gaps between
    spaces than MOST_GAP bytes (Chinese, tables) are left out, so that a window stays near its intended size."""
    texts = pl.concat([pl.read_parquet(corpora / f"{name}.parquet", columns=["text", "source"])
                       for name in ("short", "long")]).filter(~pl.col("source").str.starts_with("planted"))
    flat = np.frombuffer(" ".join(["", *texts["text"].to_list(), ""]).encode(), np.uint8)
    spaces = np.flatnonzero(flat == 32)
    wide = np.flatnonzero(np.diff(spaces) > MOST_GAP)
    keep = np.ones(len(flat), bool)
    for at in wide:
        keep[spaces[at] + 1:spaces[at + 1] + 1] = False
    flat = flat[keep]
    return flat, np.flatnonzero(flat == 32)


def _copies(rows: Ints, seed: int) -> npt.NDArray[np.bool_]:
    """Rows drawn to be near-duplicates; those whose original is drawn too are none, so no chains arise."""
    return ((mix(seed, rows, 1) >> np.uint64(11)).astype(np.float64) / 2.0**53 < NEAR_SHARE) & (rows > 0)


def place_windows(rows: Ints, spaces: Ints, seed: int) -> tuple[Ints, Ints, Ints, Ints]:
    """First and last byte (exclusive) in the pool of each row's windows as (rows, SLOTS) arrays, and `near`, `changed`
    (-1 for rows that copy none)."""
    earlier = (mix(seed, rows, 2) % np.maximum(rows, 1).astype(np.uint64)).astype(np.int64)
    copies = _copies(rows, seed) & ~_copies(earlier, seed)
    near = np.where(copies, earlier, -1)
    changed = np.where(copies, (mix(seed, rows, 3) % np.uint64(CHANGES)).astype(np.int64), -1)
    slots = np.arange(SLOTS)
    own = ~copies[:, None] | (slots[None, :] >= SLOTS - changed[:, None])
    owner = np.where(own, rows[:, None], near[:, None])
    generation = np.where(own & copies[:, None], 1, 0)
    low, high = WINDOW_BYTES
    place = mix(seed, owner, slots[None, :] + 16, generation)
    first = spaces[(place % np.uint64(len(spaces) - 2 * high)).astype(np.int64)] + 1
    length = low + (mix(seed, owner, slots[None, :] + 64, generation) % np.uint64(high - low)).astype(np.int64)
    return first, spaces[np.searchsorted(spaces, first + length)], near, changed


def gather(flat: Bytes, first: Ints, last: Ints) -> pa.Array:
    """The windows of each row joined by single spaces, as large_string; the space is the one before each window."""
    starts, sizes = (first - 1).ravel(), (last - first + 1).ravel()
    ends = np.cumsum(sizes)
    at = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    data = flat[at]
    offsets = np.concatenate([[0], ends[SLOTS - 1::SLOTS]]).astype(np.int64)
    return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def make_shard(flat: Bytes, spaces: Ints, begin: int, end: int, seed: int) -> pl.DataFrame:
    """Rows `begin` to `end` (exclusive): (id, text, near, changed)."""
    rows = np.arange(begin, end, dtype=np.int64)
    first, last, near, changed = place_windows(rows, spaces, seed)
    texts = [pl.from_arrow(gather(flat, first[at:at + 2_000], last[at:at + 2_000]))
             for at in range(0, len(rows), 2_000)]
    shard = pl.DataFrame({"id": rows, "text": pl.concat(texts, rechunk=True), "near": near, "changed": changed})
    return shard.with_columns(pl.when(pl.col("near") >= 0).then(pl.col("near", "changed")))


def write_shards(corpora: Path, out: Path, rows: int, shard_rows: int = 50_000, seed: int = 7) -> None:
    """The first `rows` rows as shards of Parquet in `out`."""
    flat, spaces = read_pool(corpora)
    for number, begin in enumerate(range(0, rows, shard_rows)):
        shard = make_shard(flat, spaces, begin, min(begin + shard_rows, rows), seed)
        shard.write_parquet(out / f"part-{number:04}.parquet", compression="lz4")
