"""The exact Jaccard index of candidate pairs: |A and B| / |A or B| of their shingle sets, compiled.

Shingles come from `shelf`, which has them of the candidates alone: a row outside every candidate pair costs no more
here. Rows are taken by connected components of the candidate pairs and in blocks of a bounded number of shingles, so
those of a row are read more than once only where a component is larger than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.dedup.near.candidates import split_pairs
from factory.dedup.near.components import find_roots
from factory.text.jit import kernel

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Fetch = Callable[[I64], tuple[U64, I64]]
_ONE = np.uint64(1)


class Measured(NamedTuple):
    """Pairs of rows, left < right, ascending, and their Jaccard index."""

    left: I64
    right: I64
    jaccard: npt.NDArray[np.float64]


@kernel
def jaccard_kernel(left: Any, right: Any, flat: Any, offsets: Any, floor: float, out: Any) -> None:
    """Fill `out` with the Jaccard index of each pair, or -1 as soon as it can't reach the floor. Fast when pairs are
    sorted by `left`, whose set is put into a hash table once for all its partners."""
    table = np.zeros(16, np.uint64)
    mask, held = np.uint64(15), np.int64(-1)
    for pair in range(len(left)):
        one, two = left[pair], right[pair]
        if one != held:
            count, size = offsets[one + 1] - offsets[one], 16
            while size < 2 * count:
                size *= 2
            if size > len(table):
                table = np.zeros(size, np.uint64)
            else:
                table[:size] = 0
            mask, held = np.uint64(size - 1), one
            for at in range(offsets[one], offsets[one + 1]):
                slot = flat[at] & mask
                while table[slot] != 0:
                    slot = (slot + _ONE) & mask
                table[slot] = flat[at]
        first, second = offsets[one + 1] - offsets[one], offsets[two + 1] - offsets[two]
        # Allowed misses of the second set, and one more, so that no rounding decides.
        spare = second - np.int64(floor * (first + second) / (1 + floor)) + 1
        common = second
        for at in range(offsets[two], offsets[two + 1]):
            slot = flat[at] & mask
            while table[slot] != 0 and table[slot] != flat[at]:
                slot = (slot + _ONE) & mask
            if table[slot] == 0:
                common -= 1
                if second - common > spare:
                    break
        jaccard = common / (first + second - common)
        out[pair] = jaccard if second - common <= spare and jaccard >= floor else -1.0


def verify_pairs(pairs: U64, sizes: npt.NDArray[np.uint32], fetch: Fetch, floor: float,
                 budget: int = 16_000_000) -> Measured:
    """Those of the candidate pairs (left << 32 | right, distinct) whose Jaccard index is at least the floor.

    Args:
        pairs: ascending, as `candidates.Pairs.chunks` yields them.
        sizes: shingles of each row.
        fetch: (shingles of the rows named, ascending, one after another; where those of each begin and the end).
        budget: shingles held at once, 8 bytes each.
    """
    left, right = split_pairs(pairs)
    jaccard = np.full(len(pairs), -1.0)
    for at, rows in _blocks(left, right, sizes, budget):
        flat, offsets = fetch(rows)
        place = np.empty(len(sizes), np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        out = np.empty(len(at), np.float64)
        jaccard_kernel(place[left[at]], place[right[at]], flat, offsets, floor, out)
        jaccard[at] = out
    kept = np.flatnonzero(jaccard >= floor)
    return Measured(left[kept], right[kept], jaccard[kept])


def _named(count: int, *rows: I64) -> I64:
    """The distinct rows, ascending, of `count`."""
    named = np.zeros(count, np.bool_)
    for one in rows:
        named[one] = True
    return np.flatnonzero(named)


def _blocks(left: I64, right: I64, sizes: npt.NDArray[np.uint32], budget: int) -> Iterator[tuple[I64, I64]]:
    """(indices of pairs, sorted by left; the rows they name, ascending), each within the budget, or two rows."""
    rows = _named(len(sizes), left, right)
    weights = sizes[rows].astype(np.int64)
    if weights.sum() <= budget:
        if len(left):
            yield np.arange(len(left)), rows
        return
    place = np.empty(len(sizes), np.int64)
    place[rows] = np.arange(len(rows))
    order = np.argsort(find_roots(len(rows), place[left], place[right]), kind="stable")
    block = np.empty(len(sizes), np.int64)
    block[rows[order]] = np.cumsum(weights[order]) // max(1, budget // 2)
    low, high = np.minimum(block[left], block[right]), np.maximum(block[left], block[right])
    ordered = np.lexsort((right, left, high, low))
    edges = np.flatnonzero(np.diff(low[ordered]) | np.diff(high[ordered])) + 1
    for at in np.split(ordered, edges):
        yield at, _named(len(sizes), left[at], right[at])
