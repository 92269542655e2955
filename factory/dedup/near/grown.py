"""All similar rows where those of earlier rows are known: what is new is compared with everything, nothing else is.

The result must be that of `search.find_pairs` over all rows. Pairs with a new node come from the keys of new nodes, and
the keys of the others are read once to see which of them they share. What was found among the others stands, but for
two cases: a bucket that a new row made too large for every pair, or grew when it was, pairs its rows anew; and a scope
that outgrew the number of nodes of which every pair is a candidate. Earlier pairs that these cases touch are proposed
again by all keys that their rows share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from factory.dedup.near.candidates import Pairs, collect_pairs, distinct
from factory.dedup.near.rows import I64, Rows, band_keys_of
from factory.dedup.near.search import (
    FEW,
    Settings,
    add_scopes,
    find_pairs,
    measure_pairs,
    scope_sizes,
    scratch_of,
)
from factory.dedup.near.spill import Spill
from factory.dedup.near.verify import Measured
from factory.dedup.near.wanted import entries_among
from factory.engine.gathered import Gathered

U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
_32, _SHARES = np.uint64(32), 20_000


def find_grown_pairs(gathered: Gathered, rows: Rows, nodes: I64, settings: Settings,
                     known: Measured) -> tuple[Measured, Pairs]:
    """As `search.find_pairs`; `known` are the pairs of nodes among settled rows, by today's numbers."""
    heads = nodes == np.arange(rows.total)
    old = np.zeros(rows.total, np.bool_)
    old[nodes[rows.settled]] = True
    fresh = heads & ~old
    if 2 * fresh.sum() > heads.sum() or fresh.sum() * settings.bands > settings.buffer:
        return find_pairs(gathered, rows, nodes, settings)
    sizes = scope_sizes(rows, heads)
    pairs = Pairs(scratch_of(gathered, "new"), rows.total, settings.buffer)
    crowded = _propose(gathered, rows, heads, fresh, sizes, settings, pairs)
    order = np.argsort(_codes(known.left, known.right))
    known = Measured._make(one[order] for one in known)
    outgrown = (sizes > FEW) & (scope_sizes(rows, old & heads) <= FEW)
    doubtful = ((crowded[known.left] & crowded[known.right]) | outgrown[known.left]) & (sizes[known.left] > FEW)
    if doubtful.any():
        again = _proposed_again(gathered, rows, heads, known.left[doubtful], known.right[doubtful], settings)
        stands = ~doubtful
        stands[doubtful] = again
        known = Measured._make(one[stands] for one in known)
    found = measure_pairs(gathered, rows, pairs, settings, _codes(known.left, known.right))
    every = [np.concatenate(one) for one in zip(known, found, strict=True)]
    order = np.argsort(_codes(every[0], every[1]))
    return Measured._make(one[order] for one in every), pairs


def _propose(gathered: Gathered, rows: Rows, heads: Bools, fresh: Bools, sizes: I64, settings: Settings,
             pairs: Pairs) -> Bools:
    """Pairs with a new node, and all of buckets that a new node is in and that are too large for every pair; marks the
    rows of these."""
    mine = [(keys, numbers) for keys, numbers in band_keys_of(gathered, rows, fresh, settings.bands)]
    wanted = distinct(np.concatenate([np.zeros(0, np.uint64), *(keys.reshape(-1) for keys, _ in mine)]))
    touched = np.isin(rows.scopes, rows.scopes[fresh])
    with Spill(scratch_of(gathered, "new"), settings.buffer) as spill:
        for keys, numbers in mine:
            spill.add(keys, numbers)
        del mine
        for met in entries_among(band_keys_of(gathered, rows, heads & ~fresh, settings.bands), wanted):
            spill.add_entries(*met)
        add_scopes(spill, rows, heads & touched & (sizes <= FEW))
        return collect_pairs(spill.ranges(), rows, fresh, settings.floor, pairs)


def _proposed_again(gathered: Gathered, rows: Rows, heads: Bools, left: I64, right: I64, settings: Settings) -> Bools:
    """Which of these pairs all rows of today propose, by any key that their two rows share."""
    named = np.zeros(rows.total, np.bool_)
    named[left] = named[right] = True
    place = np.full(rows.total, -1, np.int64)
    keys = np.empty((int(named.sum()), settings.bands), np.uint64)
    filled = 0
    for some, numbers in band_keys_of(gathered, rows, named, settings.bands):
        keys[filled:filled + len(some)] = some
        place[numbers] = np.arange(filled, filled + len(some))
        filled += len(some)
    shared = [np.zeros(0, np.uint64)]
    for at in range(0, len(left), _SHARES):
        one, two = keys[place[left[at:at + _SHARES]]], keys[place[right[at:at + _SHARES]]]
        shared.append(distinct(one[one == two]))
    wanted = distinct(np.concatenate(shared))
    del keys, shared
    pairs = Pairs(scratch_of(gathered, "again"), rows.total, settings.buffer)
    with Spill(scratch_of(gathered, "again"), settings.buffer) as spill:
        for met in entries_among(band_keys_of(gathered, rows, heads, settings.bands), wanted):
            spill.add_entries(*met)
        collect_pairs(spill.ranges(), rows, heads, settings.floor, pairs)
    codes, again = _codes(left, right), np.zeros(len(left), np.bool_)
    for piece in pairs.chunks():
        again |= np.isin(codes, piece)
    return again


def _codes(left: I64, right: I64) -> U64:
    return (left.astype(np.uint64) << _32) | right.astype(np.uint64)


def known_pairs(rows: Rows, nodes: I64, left: I64, right: I64, jaccard: npt.NDArray[np.float64]) -> Measured | None:
    """Pairs given by the row ids that named their nodes, by today's numbers of the nodes; None where one is unknown."""
    by_id = np.argsort(rows.ids)
    ids = rows.ids[by_id]
    sides = []
    for side in (left, right):
        at = np.minimum(np.searchsorted(ids, side), max(len(ids) - 1, 0))
        if len(side) and (not len(ids) or (ids[at] != side).any()):
            return None
        sides.append(nodes[by_id[at]] if len(side) else np.zeros(0, np.int64))
    return Measured(np.minimum(*sides), np.maximum(*sides), jaccard)


