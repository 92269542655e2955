"""filter.repetition: Gopher's statistics by hand, loops, and limits."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.op import OpContext
from factory.filters.repetition import RepetitionParams, find_tail_loop, repetition

UNIQUE = " ".join(f"{one}{other}" for one in ("red", "blue", "green", "old", "new", "big", "tall")
                  for other in ("cat", "dog", "cow", "fox", "hen", "pig", "bat", "ant", "bee", "owl"))


def score(response: str | None, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response]}, schema={"response": pl.String})
    return repetition(batch, RepetitionParams(**params), OpContext()).row(0, named=True)


def test_text_without_repetition_measures_zero() -> None:
    row = score(UNIQUE)
    assert (row["passed"], row["score"], row["reason_code"]) == (True, 0.0, None)


def test_lines_and_paragraphs_by_hand() -> None:
    row = score("one a\n\none a\n\ntwo b\n}\n}\nthree", min_words=0)
    assert row["dup_line_frac"] == pytest.approx(1 / 4)
    assert row["dup_line_char_frac"] == pytest.approx(5 / 20)
    assert row["dup_para_frac"] == pytest.approx(1 / 3)


def test_top_ngrams_by_hand() -> None:
    row = score("aa bb c aa bb d aa bb", min_words=0)
    assert row["top_2gram"] == pytest.approx(12 / 14)
    assert row["top_3gram"] == 0.0


def test_duplicate_ngrams_count_later_occurrences_once() -> None:
    row = score("a b c d e f x a b c d e f", min_words=0)
    assert row["dup_5gram"] == pytest.approx(6 / 13)
    assert row["dup_6gram"] == pytest.approx(6 / 13)
    assert row["dup_7gram"] == 0.0


LIMITS = [("dup_line_frac", "same line\n" * 3 + UNIQUE), ("dup_para_frac", "same\n\n" * 2 + UNIQUE),
          ("top_2gram", "so it so it so it " + UNIQUE), ("top_3gram", "so it is so it is " + UNIQUE),
          ("dup_5gram", "a b c d e f " * 2 + UNIQUE), ("dup_10gram", "a b c d e f g h i j k " * 2 + UNIQUE),
          ("dup_line_char_frac", "same line\n" * 3 + UNIQUE), ("dup_para_char_frac", "same\n\n" * 2 + UNIQUE)]


@pytest.mark.parametrize(("name", "text"), LIMITS, ids=[name for name, _ in LIMITS])
def test_reason_code_names_the_statistic(name: str, text: str) -> None:
    open_limits = dict.fromkeys([column for column in score(text) if column.endswith(("frac", "gram"))], 1.0)
    row = score(text, **open_limits)
    assert row["passed"] is True
    assert row[name] > 0
    strict = score(text, **(open_limits | {name: row[name] / 2}))
    assert (strict["passed"], strict["reason_code"]) == (False, name)
    assert f"{row[name]:.3f}" in strict["reason"]
    assert strict["score"] == pytest.approx(2.0)


def test_a_generator_that_loops_is_caught_by_its_tail() -> None:
    row = score("<think>" + UNIQUE + " Wait, let me check that again." * 40)
    assert (row["passed"], row["reason_code"]) == (False, "tail_loop")
    assert row["tail_loop"] == 40 * len(" Wait, let me check that again.")
    assert "check that again" in row["reason"]


@pytest.mark.parametrize(("text", "length", "period"), [
    ("", 0, 0), ("a", 0, 0), ("aa", 0, 0), ("aaa", 3, 1), ("xabababab", 8, 2), ("q" + "abc" * 3 + "\n ", 9, 3),
    ("x-a-a-a," * 3, 24, 8), ("bc" + "abc" * 5, 17, 3), ("z" + "0123456789abcdefghijk" * 3, 63, 21),
    ("0123456789abcdefghijk" * 2, 0, 0),
])
def test_tail_loops_by_hand(text: str, length: int, period: int) -> None:
    found, unit = find_tail_loop(text)
    assert (found, len(unit)) == (length, period)


@given(st.text("ab", max_size=90))
@settings(deadline=None)
def test_tail_loop_agrees_with_trying_every_period(text: str) -> None:
    best = 0
    for period in range(1, len(text) // 3 + 1):
        length = period
        while length < len(text) and text[-length - 1] == text[len(text) - length - 1 + period]:
            length += 1
        best = max(best, length if length >= 3 * period else 0)
    assert find_tail_loop(text)[0] == best


def test_answer_may_restate_the_thinking() -> None:
    row = score(f"<think>{UNIQUE}</think>{UNIQUE}")
    assert row["dup_10gram"] == 0.0


def test_short_parts_have_no_statistics() -> None:
    row = score("<think>yes yes yes yes</think>no no no no")
    assert (row["top_2gram"], row["passed"]) == (0.0, True)


def test_null_is_undecided() -> None:
    assert score(None)["passed"] is None


HOSTILE = ["", "x", "\0" * 10_000, "\n" * 10_000, "中" * 10_000, "\u200b" * 10_000, "🙂" * 10_000, "שלום " * 3000,
           "ab" * 30_000, ("q" * 16 + "x" * 50) * 900 + "q" * 16]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_rows_get_a_verdict(text: str) -> None:
    assert score(text)["passed"] in (True, False)


@given(st.lists(st.one_of(st.text(), st.text("ab \n", max_size=300)), min_size=1), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_shares_are_shares(texts: list[str], min_words: int) -> None:
    out = repetition(pl.DataFrame({"response": texts}), RepetitionParams(min_words=min_words), OpContext())
    shares = out.select(pl.col("^(dup|top)_.*$"))
    assert all(column.is_between(0, 1).all() for column in shares)
    assert ((out["score"] > 1) == ~out["passed"]).all()
    assert out["reason"].str.len_chars().max() <= 120
