"""The pieces of the search against plain Python: sorting and pairs beyond memory, verification, components, greed."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dedup_rows import corpus
from dedup_rows import jaccard as similarity
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.near.candidates import Pairs, collect_pairs
from factory.dedup.near.components import find_roots, judge_greedily
from factory.dedup.near.rows import Rows
from factory.dedup.near.shingle import shingle_texts
from factory.dedup.near.spill import Spill, sort_entries
from factory.dedup.near.verify import verify_pairs
from factory.text.buffers import text_buffers

EDGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40)


def test_large_buckets_stay_one_component_when_rows_go(tmp_path: Path) -> None:
    keys, rows = np.arange(3, dtype=np.uint64).reshape(1, 3).repeat(1000, axis=0), np.arange(1000, dtype=np.uint32)
    hashes = np.random.default_rng(1).integers(0, 2**64, (1000, 2), np.uint64)
    pairs = Pairs(tmp_path, 1000, 5000)
    with Spill(tmp_path, 64) as spill:
        spill.add(keys, rows)
        every = Rows(np.arange(1000), hashes, hashes[:, 0], hashes, np.full(1000, 9, np.uint32),
                     np.zeros((1000, 4), np.uint64), np.zeros(1000, np.int32), np.zeros(1000, np.bool_), [],
                     (np.zeros(0, np.int64), hashes[:0]))
        crowded = collect_pairs(spill.ranges(), every, np.ones(1000, np.bool_), 0.7, pairs, 4)
    assert crowded.all()
    assert pairs.named.all()
    found = np.concatenate(list(pairs.chunks()))
    assert 11_900 < len(found) <= 12_000
    assert pairs.skipped == 3 * (1000 * 999 // 2 - 4000)
    left, right = (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)
    alive = (left % 3 > 0) & (right % 3 > 0)
    roots = find_roots(1000, left[alive], right[alive])
    assert not find_roots(1000, left, right).any()
    assert len(set(roots[np.arange(1000) % 3 > 0].tolist())) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), max_size=30), max_size=8), st.integers(1, 60))
def test_pairs_outgrow_memory(tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], limit: int) -> None:
    pairs = Pairs(tmp_path_factory.mktemp("pairs"), 51, limit)
    for part in parts:
        pairs.add(np.array(part, np.uint64))
    chunks = list(pairs.chunks())
    assert [one for chunk in chunks for one in chunk.tolist()] == sorted({one for part in parts for one in part})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 2000), st.sampled_from([0.1, 0.5, 0.7, 1.0]))
def test_verified_are_exactly_those_at_the_floor(seed: int, budget: int, floor: float) -> None:
    texts = ["", "a", *corpus(seed, 3, 4)]
    truth = {(one, two): similarity(texts[one], texts[two]) for one, two in combinations(range(len(texts)), 2)}
    pairs = np.array([one << 32 | two for one, two in sorted(truth)], np.uint64)
    shingles = shingle_texts(text_buffers(pl.Series(texts)))

    def fetch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        some = shingle_texts(text_buffers(pl.Series([texts[row] for row in rows])))
        return some.flat, some.offsets

    got = verify_pairs(pairs, shingles.counts.astype(np.uint32), fetch, floor, budget)
    measured = dict(zip(zip(got.left.tolist(), got.right.tolist(), strict=True), got.jaccard.tolist(), strict=True))
    assert measured == {pair: value for pair, value in truth.items() if value >= floor}


@settings(max_examples=60, deadline=None)
@given(EDGES, st.randoms())
def test_components_do_not_depend_on_order(edges: list[tuple[int, int]], draw: random.Random) -> None:
    want = list(range(31))
    for _ in want:
        for a, b in edges:
            want[a] = want[b] = min(want[a], want[b])
    draw.shuffle(edges)
    left, right = (np.array([edge[at] for edge in edges], np.int64) for at in (0, 1))
    assert find_roots(31, left, right).tolist() == want


@settings(max_examples=60, deadline=None)
@given(EDGES, st.lists(st.booleans(), min_size=10, max_size=10), st.randoms())
def test_the_greedy_pass(edges: list[tuple[int, int]], before: list[bool], draw: random.Random) -> None:
    pairs = {(min(edge), max(edge)): draw.choice([0.8, 0.9, 1.0]) for edge in edges if max(edge) > max(9, min(edge))}
    kept, partners = list(before), []
    for row in range(10, 31):
        ties = [(-near, one) for (one, two), near in pairs.items() if two == row and kept[one]]
        kept.append(not ties)
        partners.append(min(ties)[1] if ties else -1)
    given_kept = np.array(before + [True] * 21)
    left, right = (np.array([pair[at] for pair in pairs], np.int64) for at in (0, 1))
    partner, nearest = judge_greedily(given_kept, 10, left, right, np.array(list(pairs.values()), float))
    assert given_kept.tolist() == kept
    assert partner.tolist() == partners
    assert [near > 0 for near in nearest] == [one >= 0 for one in partners]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=60),
       st.integers(0, 255))
def test_entries_are_sorted_by_the_whole_key(entries: list[tuple[int, int, int]], part: int) -> None:
    keys = np.array([part << 56 | high << 40 | low for high, low, _ in entries], np.uint64)
    rows = np.array([row for *_, row in entries], np.uint32)
    order = np.argsort(keys, kind="stable")
    got = sort_entries(keys, rows)
    assert got[0].tolist() == keys[order].tolist()
    assert got[1].tolist() == rows[order].tolist()
