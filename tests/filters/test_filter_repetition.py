"""filter.repetition: its statistics by hand, loops, limits, and where the evidence stands."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.op import OpContext
from factory.filters.repetition import STATISTICS, RepetitionParams, repetition

UNIQUE = " ".join(f"{one}{other}" for one in ("red", "blue", "green", "old", "new", "big", "tall")
                  for other in ("cat", "dog", "cow", "fox", "hen", "pig", "bat", "ant", "bee", "owl"))
OPEN = {**dict.fromkeys(STATISTICS, 9.0), "compression": 0.0, "tail_loop": 9_999_999}


def score(response: str | None, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response]}, schema={"response": pl.String})
    return repetition(batch, RepetitionParams(**params), OpContext()).row(0, named=True)


def test_text_without_repetition_passes() -> None:
    row = score(UNIQUE)
    assert (row["passed"], row["reason_code"], row["dup_line_frac"], row["dup_5gram"]) == (True, None, 0.0, 0.0)
    assert row["score"] < 1


def test_lines_and_paragraphs_by_hand() -> None:
    text = "one a\n\none a\n\ntwo b\n}\n}\nthree"
    row = score(f"\n {text}\n", min_words=0)
    assert row["dup_line_frac"] == 2 / 6
    assert row["dup_line_char_frac"] == len("one a}") / len(text)
    assert (row["dup_para_frac"], row["dup_para_char_frac"]) == (1 / 3, len("one a") / len(text))


def test_top_ngrams_by_hand() -> None:
    text = "aa bb c aa bb d aa bb"
    row = score(text, min_words=0)
    assert row["top_2gram"] == 3 * len("aa bb") / len(text)
    assert row["top_3gram"] == len("aa bb c") / len(text)  # datatrove counts an n-gram that stands there once


def test_duplicate_ngrams_are_stepped_over() -> None:
    text = "a b c d e f x a b c d e f"
    row = score(text, min_words=0)
    assert row["dup_5gram"] == len("abcde") / len(text)
    assert row["dup_6gram"] == len("abcdef") / len(text)
    assert row["dup_7gram"] == 0.0


def test_sentences_and_compression() -> None:
    row = score("Let us see about it. Now what? Let us see about it.", min_words=0)
    assert row["dup_sentence_frac"] == 1 / 3
    assert score("abcdefgh " * 200)["compression"] < 0.1 < 0.5 < score(UNIQUE)["compression"]


LIMITS = [("dup_line_frac", "same line\n" * 3 + UNIQUE), ("dup_para_frac", "same\n\n" * 2 + UNIQUE),
          ("top_2gram", "so it so it so it " + UNIQUE), ("top_3gram", "so it is so it is " + UNIQUE),
          ("dup_5gram", "a b c d e f " * 2 + UNIQUE), ("dup_10gram", "a b c d e f g h i j k " * 2 + UNIQUE),
          ("dup_line_char_frac", "same line\n" * 3 + UNIQUE), ("dup_para_char_frac", "same\n\n" * 2 + UNIQUE),
          ("dup_sentence_frac", "We said it. " * 2 + UNIQUE), ("dup_sentence_char_frac", "We said it. " * 2 + UNIQUE)]


@pytest.mark.parametrize(("name", "text"), LIMITS, ids=[name for name, _ in LIMITS])
@pytest.mark.parametrize("side", ["thinking", "answer"])
def test_reason_code_names_the_statistic(name: str, text: str, side: str) -> None:
    response = f"<think>{text}</think>Yes." if side == "thinking" else text
    row = score(response, **OPEN)
    assert row["passed"] is True
    assert row[name] == row[f"{name}_{side}"] > 0
    strict = score(response, **(OPEN | {name: row[name] / 2}))
    assert (strict["passed"], strict["reason_code"], strict["worst"]) == (False, name, name)
    assert f"{row[name]:.3f}" in strict["reason"]
    assert f"in the {side} at {strict['worst_at']}: " in strict["reason"]
    assert strict["score"] == pytest.approx(2.0)
    evidence = response[strict["worst_at"]:strict["worst_end"]]
    assert response.index(evidence) < strict["worst_at"] or name.startswith("top_")


def test_small_compression_is_refused() -> None:
    text = UNIQUE * 9
    row = score(text, **OPEN | {"compression": 0.9})
    assert (row["passed"], row["reason_code"]) == (False, "compression")
    assert row["score"] == pytest.approx(0.9 / row["compression"])


def test_the_answer_may_have_limits_of_its_own() -> None:
    text = "a b c d e f " * 2 + UNIQUE
    own = OPEN | {"answer": {"dup_5gram": 0.001}}
    assert score(f"<think>{text}</think>{UNIQUE}", **own)["passed"] is True
    row = score(f"<think>{UNIQUE}</think>{text}", **own)
    assert (row["passed"], row["reason_code"], row["worst"]) == (False, "dup_5gram", "dup_5gram")


def test_a_generator_that_loops_is_caught_by_its_tail() -> None:
    response = "<think>" + UNIQUE + " Wait, let me check that again." * 40
    row = score(response)
    assert (row["passed"], row["reason_code"], row["tail_loop_times"]) == (False, "tail_loop", 40.0)
    assert row["tail_loop"] == row["tail_loop_thinking"] == 40 * len(" Wait, let me check that again.")
    assert row["tail_loop_answer"] is None
    assert "let me check that again" in row["reason"]
    assert f"from {len('<think>' + UNIQUE)} on" in row["reason"]


@pytest.mark.parametrize(("text", "length"), [
    ("a", 0), ("aa", 0), ("aaa", 3), ("xabababab", 8), ("q" + "abc" * 3 + "\n ", 9), ("x-a-a-a," * 3, 24),
    ("bc" + "abc" * 5, 17), ("z" + "0123456789abcdefghijk" * 3, 63), ("0123456789abcdefghijk" * 2, 0), ("好吗" * 4, 8),
])
def test_tail_loops_by_hand(text: str, length: int) -> None:
    assert score(text)["tail_loop"] == length


def test_answer_may_restate_the_thinking() -> None:
    row = score(f"<think>{UNIQUE}</think>{UNIQUE}")
    assert row["dup_10gram"] == 0.0


def test_the_worse_part_gives_the_column() -> None:
    row = score(f"<think>{UNIQUE} {UNIQUE}</think>{UNIQUE}")
    assert row["compression"] == row["compression_thinking"] < row["compression_answer"]
    assert row["dup_10gram"] == row["dup_10gram_thinking"] > row["dup_10gram_answer"]


def test_short_parts_have_no_statistics() -> None:
    row = score("<think>yes yes yes yes</think>no no no no")
    assert (row["top_2gram"], row["compression"], row["passed"]) == (0.0, None, True)
    alone = score("no no no no")
    assert (alone["top_2gram_thinking"], alone["top_2gram_answer"]) == (None, 0.0)


@given(st.lists(st.one_of(st.text(), st.text("ab \n", max_size=300)), min_size=1), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_score_tells_the_verdict(texts: list[str], min_words: int) -> None:
    out = repetition(pl.DataFrame({"response": texts}), RepetitionParams(min_words=min_words), OpContext())
    assert all(column.is_between(0, 1).all() for column in out.select(pl.col("^dup_.*$")))
    assert ((out["score"] > 1) == ~out["passed"]).all()
    assert out["reason"].str.len_chars().max() <= 120
    assert (out["worst"].is_null() == (out["score"] == 0)).all()
