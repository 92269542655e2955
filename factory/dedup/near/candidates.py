"""From rows that share a band key to distinct pairs of rows, in bounded memory.

In a bucket (the rows of one key) of at most 2 * width + 1 rows every pair is a candidate. In a larger one the rows are
put in a circle, in the order of mix(row's content hash xor key), and each is paired with the `width` rows that follow:
pairs grow with the rows and not with their square. What that keeps and what it may lose:

- rows of which every two are similar stay one component in every bucket they share, also when rows are taken out of the
  running later, unless `width` neighbours in a circle go in all buckets that they share;
- the order depends on the content and the key alone, so buckets of the same rows pair them differently, and any order
  and sharding of the rows gives the same pairs;
- a pair that meets only in large buckets may go unmeasured; `skipped` counts such chances and is reported.

Two sets whose sizes differ by more than the floor allows are dropped here, since their Jaccard index can't reach it,
and so are pairs whose sketches (`sketches`) differ too much for it: a chance of 4e-6 to lose a pair at the floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.dedup.near.rows import Rows
from factory.dedup.near.sketches import differing, most_differing
from factory.text.jit import inlined, kernel
from factory.text.words import mix

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
WIDTH = 64  # in 64,500 short texts, many made by templates, 64 loses 3 of 44,044 pairs at 0.7 and none at 0.8
_32 = np.uint64(32)


@inlined
def _emit(left: Any, right: Any, sizes: Any, sketches: Any, floor: float, most: int, out: Any, at: int) -> int:
    """Write a pair unless its sizes or sketches exclude it; where to go on."""
    one, two = sizes[left], sizes[right]
    if left == right or min(one, two) < floor * max(one, two) or differing(sketches[left], sketches[right]) > most:
        return at
    if at < len(out):
        out[at] = (np.uint64(min(left, right)) << _32) | np.uint64(max(left, right))
    return at + 1


@kernel
def bucket_pairs(keys: Any, rows: Any, fresh: Any, crowded: Any, content: Any, sizes: Any, sketches: Any, floor: float,
                 most: int, width: int, out: Any) -> tuple[int, int]:
    """(pairs found, pairs skipped); writes the pairs that fit into `out`, as left << 32 | right, left < right. Of a
    bucket where every pair counts those with a `fresh` row are written, of a larger one all; its rows are `crowded`."""
    found, skipped, begin = 0, 0, 0
    while begin < len(keys):
        end = begin + 1
        while end < len(keys) and keys[end] == keys[begin]:
            end += 1
        size = end - begin
        if 1 < size <= 2 * width + 1:
            for i in range(begin, end):
                for j in range(i + 1, end):
                    if fresh[rows[i]] or fresh[rows[j]]:
                        found = _emit(rows[i], rows[j], sizes, sketches, floor, most, out, found)
        elif size > 1:
            mixed = np.empty(size, np.uint64)
            for i in range(size):
                crowded[rows[begin + i]] = True
                mixed[i] = mix(content[rows[begin + i]] ^ keys[begin])
            order = np.argsort(mixed)
            for i in range(size):
                for step in range(1, width + 1):
                    left, right = rows[begin + order[i]], rows[begin + order[(i + step) % size]]
                    found = _emit(left, right, sizes, sketches, floor, most, out, found)
            skipped += size * (size - 1) // 2 - size * width
        begin = end
    return found, skipped


def distinct(values: U64) -> U64:
    """Sorted, each value once. numpy 2.4's `unique` is ten times slower on 64-bit hashes: it takes a hash table."""
    values = np.sort(values)
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def split_pairs(pairs: U64) -> tuple[I64, I64]:
    """(left, right) of pairs written as left << 32 | right."""
    return (pairs >> _32).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


class Pairs:
    """A growing set of pairs (uint64 each) that moves to disk when it outgrows `limit` pairs."""

    def __init__(self, folder: Path, rows: int, limit: int = 4_000_000) -> None:
        """`folder` is made when it is needed; `rows` is how many rows there are. `named` marks those in a pair."""
        self.named = np.zeros(rows, np.bool_)
        self._folder, self._limit = folder, limit
        self._held: list[U64] = []
        self._files: list[Path] = []
        self.skipped = 0

    def add(self, pairs: U64) -> None:
        """Add pairs, repeats allowed."""
        self._held.append(distinct(pairs))
        for side in split_pairs(self._held[-1]):
            self.named[side] = True
        if sum(map(len, self._held)) > self._limit:
            self._held = [distinct(np.concatenate(self._held))]
            if 2 * len(self._held[0]) > self._limit:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._files.append(self._folder / f"pairs-{len(self._files)}.u64")
                self._held[0].tofile(self._files[-1])
                self._held = []

    def chunks(self) -> Iterator[U64]:
        """All distinct pairs in ascending order, in pieces of about `limit` at most. May be asked once."""
        held = distinct(np.concatenate([np.zeros(0, np.uint64), *self._held]))
        self._held = []
        parts = [held, *(np.memmap(path, np.uint64, "r") for path in self._files)]
        total = sum(map(len, parts))
        pieces = max(1, -(-2 * total // self._limit))
        samples = np.sort(np.concatenate([np.asarray(part[::max(1, len(part) // (16 * pieces))]) for part in parts]))
        pivots = distinct(samples[[len(samples) * at // pieces for at in range(1, pieces) if len(samples)]])
        cuts = [np.concatenate([[0], np.searchsorted(part, pivots), [len(part)]]).astype(np.int64) for part in parts]
        for at in range(len(pivots) + 1):
            piece = np.concatenate([part[cut[at]:cut[at + 1]] for part, cut in zip(parts, cuts, strict=True)])
            if len(piece):
                yield distinct(piece)
        del parts
        for path in self._files:
            path.unlink()
        self._files = []


def collect_pairs(ranges: Iterable[tuple[U64, U32]], rows: Rows, fresh: Bools, floor: float, pairs: Pairs,
                  width: int = WIDTH) -> Bools:
    """Add the candidate pairs of sorted entries (`spill.Spill.ranges`) to `pairs`: those with a `fresh` row, and all of
    buckets that are too large for every pair. Marks the rows of such buckets."""
    out, content, most = np.empty(1 << 16, np.uint64), np.ascontiguousarray(rows.set_hash[:, 0]), most_differing(floor)
    crowded = np.zeros(rows.total, np.bool_)
    for keys, numbers in ranges:
        given = (keys, numbers, fresh, crowded, content, rows.sizes, rows.sketches, floor, most, width)
        found, skipped = bucket_pairs(*given, out)
        if found > len(out):
            out = np.empty(found, np.uint64)
            bucket_pairs(*given, out)
        pairs.add(out[:found])
        pairs.skipped += int(skipped)
    return crowded
