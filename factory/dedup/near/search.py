"""All similar rows among those measured: propose by band keys, dismiss by size and sketch, verify exactly.

Rows with one and the same shingle set and scope are one node; nodes are compared. In a scope of few nodes every pair is
a candidate: the scope serves as one more key. Nothing enters but content, so any sharding and order of the rows
gives the same pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from factory.dedup.near.candidates import WIDTH, Pairs, collect_pairs
from factory.dedup.near.rows import I64, Rows, band_keys_of, order_of
from factory.dedup.near.shelf import Shelf
from factory.dedup.near.spill import Spill
from factory.dedup.near.verify import Measured, verify_pairs
from factory.engine.gathered import Gathered

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
FEW = 2 * WIDTH + 1
"""Nodes of a scope, or rows of a bucket, of which every pair is a candidate."""


class Settings(NamedTuple):
    """What a search needs to know. `buffer` entries (24 bytes each, and as many pairs) and `budget` shingles (16 bytes)
    bound its memory; the rest goes to the scratch folder."""

    column: str
    floor: float
    bands: int
    ngram: int
    buffer: int
    budget: int

    @classmethod
    def within(cls, column: str, floor: float, bands: int, ngram: int, megabytes: int) -> Settings:
        """Settings for about so much memory, beside the rows' own."""
        return cls(column, floor, bands, ngram, max(1000, megabytes * 8000), max(1000, megabytes * 32_000))


def find_nodes(rows: Rows) -> I64:
    """For each row the first row of its node."""
    columns = [rows.set_hash[:, 0], rows.set_hash[:, 1], rows.scopes]
    order = order_of(*columns)
    new = np.ones(len(order), np.bool_)
    if len(order):
        new[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in columns], axis=0)
    nodes = np.empty(len(order), np.int64)
    nodes[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return nodes


def scope_sizes(rows: Rows, heads: Bools) -> I64:
    """For each row the number of marked rows in its scope."""
    order = np.argsort(rows.scopes, kind="stable")
    scopes = rows.scopes[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = scopes[1:] != scopes[:-1]
    group = np.cumsum(begins) - 1
    counts = np.bincount(group, weights=heads[order]).astype(np.int64) if len(order) else np.zeros(0, np.int64)
    sizes = np.empty(len(order), np.int64)
    sizes[order] = counts[group]
    return sizes


def find_pairs(gathered: Gathered, rows: Rows, nodes: I64, settings: Settings) -> tuple[Measured, Pairs]:
    """All pairs of nodes at the floor or above, and what was proposed."""
    heads = nodes == np.arange(rows.total)
    few = heads & (scope_sizes(rows, heads) <= FEW)
    pairs = Pairs(gathered.scratch, rows.total, settings.buffer)
    with Spill(gathered.scratch, settings.buffer) as spill:
        for keys, numbers in band_keys_of(gathered, rows, heads, settings.bands):
            spill.add(keys, numbers)
        add_scopes(spill, rows, few)
        collect_pairs(spill.ranges(), rows, heads, settings.floor, pairs)
    return measure_pairs(gathered, rows, pairs, settings), pairs


def add_scopes(spill: Spill, rows: Rows, wanted: Bools) -> None:
    """Make candidates of every two rows of one scope among the wanted."""
    numbers = np.flatnonzero(wanted)
    spill.add_entries(rows.scopes[numbers], numbers.astype(np.uint32))


def measure_pairs(gathered: Gathered, rows: Rows, pairs: Pairs, settings: Settings,
                  known: U64 | None = None) -> Measured:
    """The Jaccard index of what was proposed and isn't `known`."""
    measured = [Measured(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    if pairs.named.any():
        shelf = Shelf(gathered, rows, pairs.named, settings.column, settings.ngram, settings.budget)
        for piece in pairs.chunks():
            left = piece if known is None else piece[~np.isin(piece, known, assume_unique=True)]
            measured.append(verify_pairs(left, rows.sizes, shelf.fetch, settings.floor, settings.budget))
    return Measured._make(np.concatenate(one) for one in zip(*measured, strict=True))


def scratch_of(gathered: Gathered, name: str) -> Path:
    """A folder of its own below the scratch folder."""
    folder = gathered.scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
