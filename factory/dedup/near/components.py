"""Connected components, and the greedy pass of dedup.incremental, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import inlined, kernel

I64 = npt.NDArray[np.int64]


@inlined
def _root(parent: Any, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@kernel
def _unite(parent: Any, left: Any, right: Any) -> None:
    for pair in range(len(left)):
        one, two = _root(parent, left[pair]), _root(parent, right[pair])
        if one < two:
            parent[two] = one
        else:
            parent[one] = two
    for node in range(len(parent)):
        parent[node] = _root(parent, node)


def find_roots(count: int, left: I64, right: I64) -> I64:
    """For each of `count` nodes the smallest node of its component, whatever the order of the pairs."""
    parent = np.arange(count, dtype=np.int64)
    _unite(parent, np.ascontiguousarray(left, np.int64), np.ascontiguousarray(right, np.int64))
    return parent


@kernel
def _judge(starts: Any, earlier: Any, jaccard: Any, first: int, kept: Any, partner: Any, nearest: Any) -> None:
    for row in range(first, len(kept)):
        at = row - first
        for pair in range(starts[at], starts[at + 1]):
            if kept[earlier[pair]] and jaccard[pair] > nearest[at]:
                partner[at], nearest[at] = earlier[pair], jaccard[pair]
        kept[row] = kept[row] and partner[at] < 0


def judge_greedily(kept: npt.NDArray[np.bool_], first: int, left: I64, right: I64,
                   jaccard: npt.NDArray[np.float64]) -> tuple[I64, npt.NDArray[np.float64]]:
    """Take the rows from `first` on one after another: a row goes when a pair ties it to an earlier row that stays.

    Args:
        kept: which rows stay, by number: decided before `first`, candidates from it on; changed in place.
        left, right: pairs, left < right, right from `first` on; `jaccard` of each.

    Returns:
        for each row from `first` on the row that stays in its place (-1: it stays), the nearest and of equally near
        ones the earliest, and their Jaccard index.
    """
    order = np.lexsort((left, right))
    starts = np.searchsorted(right[order], np.arange(first, len(kept) + 1))
    partner, nearest = np.full(len(kept) - first, -1, np.int64), np.zeros(len(kept) - first)
    _judge(starts, np.ascontiguousarray(left[order], np.int64), jaccard[order], first, kept, partner, nearest)
    return partner, nearest
