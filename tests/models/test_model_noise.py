"""Token choice: the softmax is sampled, top_k and top_p cut as defined, and only seed and position count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.models.base import Sampling
from factory.models.noise import choose, gumbel, support

FIVE = np.array([0.5, 0.25, 0.15, 0.08, 0.02])
LOGITS = np.log(FIVE)
logit_rows = st.lists(st.floats(-30, 30), min_size=1, max_size=40).map(np.array)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float((((counts - expected) ** 2) / expected).sum())


@pytest.mark.parametrize("by", ["seed", "position"])
def test_samples_follow_the_softmax_over_seeds_and_over_positions(by: str) -> None:
    draws = 20_000
    picked = [choose(LOGITS, Sampling(1.0), *((index, 3) if by == "seed" else (9, index))) for index in range(draws)]
    # 4 degrees of freedom: beyond 23.5 with probability 1e-4.
    assert chi_square(np.bincount(picked, minlength=5), FIVE * draws) < 23.5


def test_temperature_sharpens_as_the_softmax_of_divided_logits() -> None:
    draws = 20_000
    picked = [choose(LOGITS, Sampling(0.5), seed, 0) for seed in range(draws)]
    expected = FIVE**2 / (FIVE**2).sum()
    assert chi_square(np.bincount(picked, minlength=5), expected * draws) < 23.5


def test_truncated_sampling_renormalises_over_the_support() -> None:
    draws = 20_000
    picked = [choose(LOGITS, Sampling(1.0, top_k=3), seed, 0) for seed in range(draws)]
    counts = np.bincount(picked, minlength=5)
    assert counts[3:].sum() == 0
    # 2 degrees of freedom: beyond 18.4 with probability 1e-4.
    assert chi_square(counts[:3], FIVE[:3] / FIVE[:3].sum() * draws) < 18.4


def test_noise_is_standard_gumbel_and_differs_between_positions_and_seeds() -> None:
    noise = gumbel(7, 0, 50_000)
    assert abs(noise.mean() - np.euler_gamma) < 0.03
    assert abs(noise.std() - np.pi / np.sqrt(6)) < 0.03
    assert np.isfinite(noise).all()
    # No value returns at the next position: the counter ranges of two positions do not overlap.
    assert not np.isin(noise, gumbel(7, 1, 50_000)).any()
    assert not np.isin(noise, gumbel(8, 0, 50_000)).any()


def test_noise_is_pinned_so_that_samples_survive_upgrades() -> None:
    # Answers already paid for must come out again with any later release: these values may never change.
    paid_for = [2.8850203336334075, 1.0120580066182079, -0.812240801967224]
    assert gumbel(1, 2, 3).tolist() == pytest.approx(paid_for, abs=1e-12)


@given(size=st.integers(1, 200), seed=st.integers(0, 2**130), position=st.integers(0, 2**40), data=st.data())
def test_noise_for_some_ids_is_that_part_of_the_noise_for_all(size: int, seed: int, position: int,
                                                              data: st.DataObject) -> None:
    ids = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, unique=True)))
    assert gumbel(seed, position, size, ids).tolist() == gumbel(seed, position, size)[ids].tolist()


@pytest.mark.parametrize(("top_k", "top_p", "expected"), [
    (2, 1.0, {0, 1}), (0, 0.5, {0}), (0, 0.51, {0, 1}), (0, 0.9, {0, 1, 2}), (0, 0.91, {0, 1, 2, 3}),
    (3, 0.8, {0, 1}), (9, 0.999, {0, 1, 2, 3, 4}), (1, 0.01, {0})])
def test_support_sets_of_a_known_distribution(top_k: int, top_p: float, expected: set[int]) -> None:
    # 0.8 of the best three (0.9 in all) is 0.72, which two tokens reach.
    kept = support(LOGITS + 1e-9 * np.arange(5, 0, -1), top_k, top_p)
    assert kept is not None
    assert set(kept.tolist()) == expected


def test_nothing_is_cut_when_both_are_off() -> None:
    assert support(LOGITS, 0, 1.0) is None
    assert support(LOGITS, 5, 1.0) is None


@settings(max_examples=200)
@given(row=logit_rows, top_p=st.floats(0.01, 0.999), top_k=st.integers(0, 50))
def test_nucleus_is_the_smallest_set_of_best_tokens_that_reaches_p(row: np.ndarray, top_p: float, top_k: int) -> None:
    kept = support(row, top_k, top_p)
    assert kept is not None
    pool = support(row, top_k, 1.0)
    pool = np.arange(row.size) if pool is None else pool
    weights = np.exp(row - row[pool].max())
    share = weights[kept].sum() / weights[pool].sum()
    assert len(set(kept.tolist())) == kept.size
    assert share >= top_p - 1e-9
    assert share - weights[kept].min() / weights[pool].sum() < top_p + 1e-9
    left_out = np.setdiff1d(pool, kept)
    assert left_out.size == 0 or weights[left_out].max() <= weights[kept].min()


def test_a_wide_nucleus_over_a_large_vocabulary_is_found_whole() -> None:
    flat = np.zeros(6000)
    kept = support(flat, 0, 0.75)
    assert kept is not None
    assert sorted(kept.tolist()) == list(range(4500))


@given(row=logit_rows, seed=st.integers(0, 2**64 - 1), position=st.integers(0, 10_000))
def test_greedy_ignores_the_seed_and_a_cold_sample_agrees_with_it(row: np.ndarray, seed: int, position: int) -> None:
    best = choose(row, Sampling(0.0), seed, position)
    assert best == int(np.argmax(row))
    assert row[choose(row, Sampling(1e-9), seed, position)] == pytest.approx(row[best], abs=1e-6)
