"""dedup.minhash: known similarities, nodes, scopes, recall, and independence of sharding."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from dedup_rows import WORDS, corpus, crowd, gather, jaccard, rows_of, text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.dedup.minhash import MinHashDedup, MinHashParams, choose_bands

Tables = tuple[dict[int, int], list[tuple[int, int, float]]]


def run(rows: pl.DataFrame, cuts: list[pl.DataFrame] | None = None, **params: Any) -> Tables:
    tables = gather(MinHashDedup, MinHashParams(**params), [rows] if cuts is None else cuts)
    assert tables["nodes"].schema == {"row_id": pl.Int64, "node": pl.Int64}
    assert tables["pairs"].schema == {"left": pl.Int64, "right": pl.Int64, "jaccard": pl.Float64}
    return dict(tables["nodes"].iter_rows()), tables["pairs"].rows()


def test_jaccard_is_exact() -> None:
    # 96 shingles each, of which 76 are common: 76 / 116 with floor 0.6; the last word changed costs one shingle.
    nodes, pairs = run(rows_of([text_of(0, 100), text_of(20, 120)]), floor=0.6)
    assert pairs == [(0, 1, 76 / 116)]
    assert nodes == {0: 0, 1: 1}
    assert run(rows_of([text_of(0, 100), text_of(0, 99) + " else"]))[1] == [(0, 1, 95 / 97)]


def test_pairs_below_the_floor_are_not_stored() -> None:
    assert run(rows_of([text_of(0, 100), text_of(20, 120)])) == ({}, [])


def test_case_and_punctuation_do_not_matter_and_copies_are_one_node() -> None:
    nodes, pairs = run(rows_of(["One two three, four five six!", "one two three four five six", "other"]))
    assert (nodes, pairs) == ({0: 0, 1: 0}, [])


def test_copies_add_no_pairs() -> None:
    nodes, pairs = run(rows_of([text_of(0, 100)] * 30 + [text_of(1, 101)] * 30))
    assert pairs == [(0, 30, 95 / 97)]
    assert set(nodes.values()) == {0, 30}
    assert len(nodes) == 60


def test_node_is_named_by_the_smallest_row_key() -> None:
    rows = rows_of(["a b", "a b", "a b"]).with_columns(row_key=pl.Series([b"c" * 16, b"a" * 16, b"b" * 16]))
    assert run(rows)[0] == {0: 1, 1: 1, 2: 1}


def test_short_texts_are_compared_whole() -> None:
    nodes, pairs = run(rows_of(["Yes.", "yes", "no", "...", "!!!", "...", "", " ", None, None]))
    assert pairs == []
    assert nodes == {0: 0, 1: 0, 3: 3, 5: 3, 6: 6, 7: 6}


def test_chinese_is_compared_by_characters() -> None:
    text = "首先我们计算篮子里苹果的总数然后把结果除以孩子的人数得到每个孩子的苹果数量"
    pairs = run(rows_of([text, text[:-1] + "目"]))[1]
    shingles = len(text) - 4
    assert pairs == [(0, 1, (shingles - 1) / (shingles + 1))]


def test_scope_bounds_the_comparison() -> None:
    rows = rows_of([text_of(0, 100), text_of(1, 101), text_of(0, 100)], ["a", "a", "b"])
    assert run(rows, scope="prompt") == ({0: 0, 1: 1}, [(0, 1, 95 / 97)])
    assert run(rows)[0] == {0: 0, 1: 1, 2: 0}


def test_nearly_every_pair_above_the_floor_is_found() -> None:
    rng = random.Random(3)
    texts: list[str | None] = []
    for _ in range(200):
        words = rng.choices(WORDS, k=120)
        at = rng.randint(2, 14)
        texts += [" ".join(words), " ".join(words[at:] + rng.choices(WORDS, k=at))]
    found = len(run(rows_of(texts))[1])
    assert found >= 190, f"{found} of 200 pairs with similarity 0.77 to 0.97 found"


@pytest.mark.parametrize("floor", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_propose_at_least_95_percent_at_the_floor(floor: float) -> None:
    bands, rows = choose_bands(floor, 128)
    assert bands * rows <= 128
    assert bands >= 2
    assert 1 - (1 - floor ** rows) ** bands >= 0.95


@pytest.mark.parametrize("params", [
    {"floor": 0.9, "threshold": 0.8}, {"floor": 0.1, "num_perm": 16}, {"ngram": 0}, {"floor": 0},
])
def test_impossible_params_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MinHashParams(**params)


def test_default_threshold() -> None:
    assert MinHashDedup.threshold(MinHashParams(threshold=0.85)) == 0.85


@pytest.mark.parametrize("text", [
    "\0" * 999, "\u200b", "🙂" * 50, "שלום עולם " * 50, "x" * 200_000, "a b " * 60_000, "中" * 20_000,
])
def test_hostile_rows_survive(text: str) -> None:
    assert run(rows_of([text, text, "other"]))[0] == {0: 0, 1: 0}


SPANS = st.tuples(st.integers(0, 12), st.integers(20, 60)).map(lambda span: text_of(*span))


@given(st.lists(st.one_of(SPANS, st.sampled_from(["a", "", None])), max_size=40), st.integers(1, 9), st.randoms())
@settings(deadline=None, max_examples=40)
def test_any_sharding_and_order_give_the_same_tables(texts: list[str | None], width: int, rng: random.Random) -> None:
    rows = rows_of(texts)
    nodes, pairs = run(rows)
    order = list(range(rows.height))
    rng.shuffle(order)
    shuffled = rows[order]
    assert run(rows, [shuffled[at:at + width] for at in range(0, rows.height, width)]) == (nodes, pairs)
    assert all(left < right and 0.7 <= similarity < 1 for left, right, similarity in pairs)
    assert all(nodes[node] == node for left, right, _ in pairs for node in (left, right))
    doubles = {row for row, node in nodes.items() if row != node} | {right for _, right, _ in pairs}
    assert run(rows.filter(~pl.col("row_id").is_in(list(doubles)))) == ({}, [])


def test_every_pair_is_found_and_its_figure_is_right() -> None:
    texts = list(dict.fromkeys(corpus(5, 8, 9)))
    pairs = run(rows_of(texts))[1]
    want = {(right, left): jaccard(texts[left], texts[right]) for left in range(len(texts)) for right in range(left)}
    assert len(pairs) > 30
    assert all(want[left, right] == near for left, right, near in pairs)
    assert {pair for pair, near in want.items() if 0.8 <= near < 1} <= {pair[:2] for pair in pairs}


def test_datasketch_signatures_find_the_same_pairs() -> None:
    texts = corpus(6, 40, 5)
    found = [{pair for pair in run(rows_of(texts), signature=scheme)[1] if pair[2] >= 0.85}
             for scheme in ("own", "datasketch")]
    assert found[0] == found[1]
    assert len(found[0]) > 20


def test_little_memory_gives_the_same() -> None:
    rows, params = rows_of(corpus(7, 60, 5)), MinHashParams()
    little, much = (gather(MinHashDedup, params, [rows], memory=memory) for memory in (0, 512))
    assert all(little[name].equals(much[name]) for name in much)


CROWD = crowd(11, 90) + crowd(12, 300) + corpus(13, 20, 3)
"""A family too small and one too large for every pair of a bucket, and small ones."""


@pytest.mark.parametrize("prompts", [1, 2, 40])
@pytest.mark.parametrize("first", [250, 380])
def test_what_grew_is_what_it_would_be_at_once(first: int, prompts: int) -> None:
    """Also where buckets and scopes outgrow the size up to which every pair is compared, and nodes change names."""
    rng = random.Random(first)
    keys = rng.sample(range(10_000), len(CROWD) + 40)
    texts = [*CROWD, *rng.sample(CROWD, 40)]
    names = [str(rng.randrange(prompts)) for _ in texts]
    parts = [rows_of(texts[at:to], names[at:to], at, keys[at:to])
             for at, to in ((0, 100), (100, first), (first, len(texts)))]
    params, counters = MinHashParams(scope="prompt"), dict[str, int]()
    before = gather(MinHashDedup, params, parts[:2])
    whole = gather(MinHashDedup, params, parts, counters=counters)
    assert prompts > 1 or counters["pairs_left_out_of_large_buckets"] > 0
    grown = gather(MinHashDedup, params, parts, settled=2, base=before)
    assert whole["pairs"].height > 500
    assert all(grown[name].equals(whole[name]) for name in whole)


@given(st.integers(0, 99), st.sets(st.integers(0, 3), max_size=4))
@settings(deadline=None, max_examples=15)
def test_any_part_may_come_first(seed: int, known: set[int]) -> None:
    texts = corpus(seed, 6, 5)
    parts = [rows_of(texts[at:at + 8], first=at) for at in range(0, 30, 8)]
    parts = [parts[at] for at in [*sorted(known), *sorted(set(range(4)) - known)]]
    before = gather(MinHashDedup, MinHashParams(), parts[:len(known)])
    whole = gather(MinHashDedup, MinHashParams(), parts)
    grown = gather(MinHashDedup, MinHashParams(), parts, settled=len(known), base=before)
    assert all(grown[name].equals(whole[name]) for name in whole)
