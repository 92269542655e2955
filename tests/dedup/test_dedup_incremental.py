"""dedup.incremental: the verdicts are those of one greedy pass, in whatever increments the rows came."""

from __future__ import annotations

import itertools
from typing import Any

import polars as pl
import pytest
from dedup_rows import Tables, corpus, crowd, gather, jaccard, rows_of, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.incremental import Incremental, IncrementalParams
from factory.engine.op import OpContext

SPACE = 1 << 40


def judge(parts: list[pl.DataFrame], waves: list[int], settled: int = 0, base: Tables | None = None,
          **params: Any) -> tuple[pl.DataFrame, Tables]:
    """Verdicts on the rows of all parts but those of wave -1, and the tables."""
    given_params = IncrementalParams(**params)
    tables = gather(Incremental, given_params, parts, waves, settled, base)
    judged = pl.concat([part for part, wave in zip(parts, waves, strict=True) if wave >= 0])
    return Incremental.decide(judged, tables, given_params, OpContext()), tables


def in_waves(texts: list[str], cuts: list[int]) -> list[pl.DataFrame]:
    """Texts as the rows of increments; their keys are in the order given."""
    edges = sorted({0, len(texts), *cuts})
    return [rows_of(texts[begin:end], None, number * SPACE, range(begin, end))
            for number, (begin, end) in enumerate(itertools.pairwise(edges))]


def greedy(texts: list[str], threshold: float) -> list[bool]:
    kept: list[bool] = []
    for row, text in enumerate(texts):
        kept.append(not any(kept[other] and jaccard(texts[other], text) >= threshold for other in range(row)))
    return kept


@given(st.integers(0, 50), st.lists(st.integers(1, 59), max_size=4), st.sampled_from([0.8, 0.9, 1.0]))
@settings(max_examples=12, deadline=None)
def test_waves_are_one_greedy_pass(seed: int, cuts: list[int], threshold: float) -> None:
    texts = corpus(seed, 10, 6)
    texts[5], texts[50] = "", ""
    parts = in_waves(texts, cuts)
    want, base = greedy(texts, threshold), None
    for count in range(1, len(parts) + 1):
        verdicts, tables = judge(parts[:count], list(range(count)), max(count - 1, 0), base, threshold=threshold)
        assert verdicts["passed"].to_list() == want[:verdicts.height]
        base = tables
    at_once, tables = judge(parts, list(range(len(parts))), threshold=threshold)
    assert at_once.equals(verdicts)
    assert all(tables[name].equals(base[name]) for name in tables)


def test_common_keys_do_not_depend_on_how_rows_came() -> None:
    texts = [*crowd(3, 400), *corpus(4, 2, 80)]
    parts = in_waves(texts, [200, 420])
    base = judge(parts[:2], [0, 1])[1]
    grown, tables = judge(parts, [0, 1, 2], 2, base)
    whole = judge(parts, [0, 1, 2])
    assert grown.equals(whole[0])
    assert all(tables[name].equals(whole[1][name]) for name in tables)


def test_what_stays_all_stays() -> None:
    texts = corpus(9, 10, 6)
    passed = judge(in_waves(texts, []), [0])[0]["passed"].to_list()
    kept = [text for text, stays in zip(texts, passed, strict=True) if stays]
    assert 10 <= len(kept) < 60
    assert all(judge(in_waves(kept, [7]), [0, 1])[0]["passed"])


def test_a_verdict_names_the_row_that_stays() -> None:
    old, new = text_of(0, 60), text_of(0, 59) + " other"
    waves = in_waves([old, "fresh text of its own", new, old.upper(), new, None], [2])
    verdicts = judge(waves, [0, 1])[0]
    assert verdicts["passed"].to_list() == [True, True, False, False, False, None]
    assert verdicts["reason_code"].to_list() == [None, None, "duplicate", "duplicate", "duplicate", "no_text"]
    assert verdicts["duplicate_of"].to_list() == [None, None, *[f"{0:032x}"] * 3, None]
    assert verdicts["jaccard"].to_list() == [None, None, 55 / 57, 1.0, 55 / 57, None]
    assert verdicts["score"].to_list() == verdicts["jaccard"].to_list()
    assert verdicts["wave"].to_list() == [0, 0, 1, 1, 1, 1]
    assert "resembles that of the row 0000" in verdicts["reason"][2]


def test_rows_to_compare_with_always_stay_and_only_what_stays_counts() -> None:
    # Each text resembles the next one, and the first does not resemble the third.
    chain = [text_of(at, at + 60) for at in (0, 4, 8)]
    assert [jaccard(chain[0], other) >= 0.8 for other in chain] == [True, True, False]
    assert judge(in_waves(chain, []), [0])[0]["passed"].to_list() == [True, False, True]
    committed = rows_of([chain[1]], None, 9 * SPACE, [7])
    verdicts = judge([committed, *in_waves(chain, [])], [-1, 0])[0]
    assert verdicts["passed"].to_list() == [False, False, False]
    assert verdicts["duplicate_of"].unique().to_list() == [f"{7:032x}"]


def test_a_row_that_is_compared_with_passes() -> None:
    rows = in_waves([text_of(0, 60), text_of(0, 60)], [])[0]
    verdicts = judge([rows, rows[1:]], [0, -1])[0]
    assert verdicts["passed"].to_list() == [False, True]


def test_scope_bounds_the_comparison() -> None:
    rows = rows_of([text_of(0, 60)] * 3, ["a", "b", "a"])
    assert judge([rows], [0], scope="prompt")[0]["passed"].to_list() == [True, True, False]


@pytest.mark.parametrize("change", ["a row less", "was compared with", "other rows"])
def test_a_base_of_other_waves_is_not_used(change: str) -> None:
    texts = corpus(1, 6, 4)
    parts = in_waves(texts, [12])
    waves = [-1, 0] if change == "was compared with" else [0, 1]
    then = {"a row less": in_waves(texts, [12])[0][:-1], "was compared with": parts[0],
            "other rows": in_waves(texts[::-1], [12])[0].with_columns(
                row_key=pl.Series([(99 + at).to_bytes(16, "big") for at in range(12)]))}[change]
    base = judge([then], [0])[1]
    assert judge(parts, waves, 1, base)[0].equals(judge(parts, waves)[0])


def test_nothing_is_judged_by_nothing() -> None:
    assert judge([rows_of([])], [0])[0].is_empty()
    assert judge([rows_of(["", None, "\0"])], [0])[0]["passed"].to_list() == [True, None, True]
