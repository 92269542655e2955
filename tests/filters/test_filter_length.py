"""filter.length: bounds, parts and truncation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.op import OpContext
from factory.filters.length import LengthParams, length


def score(response: str | None, end: str | None = None, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response], "finish": [end]}, schema={"response": pl.String, "finish": pl.String})
    return length(batch, LengthParams(**params), OpContext()).row(0, named=True)


def test_measures_the_parts_apart() -> None:
    row = score("<think>one two\nthree</think>\n\nfour 五六 ")
    assert (row["thinking_chars"], row["answer_chars"], row["words"]) == (13, 7, 8)
    assert row["chars"] == row["score"] == len("<think>one two\nthree</think>\n\nfour 五六")
    assert (score("plain")["thinking_chars"], score("<think>open")["answer_chars"]) == (None, None)


@pytest.mark.parametrize(("text", "params", "code", "evidence"), [
    ("", {}, "too_short", "0 characters"),
    (" \n\t", {}, "too_short", "0 characters"),
    ("abc", {"min_chars": 4}, "too_short", "3 characters"),
    ("abc", {"max_chars": 2}, "too_long", "3 characters"),
    ("a b", {"min_words": 3}, "too_short", "2 words"),
    ("a b c", {"max_words": 2}, "too_long", "3 words"),
    ("x" * 100_001, {}, "too_long", "100001"),
])
def test_bounds_name_the_measure(text: str, params: dict[str, int], code: str, evidence: str) -> None:
    row = score(text, **params)
    assert (row["passed"], row["reason_code"]) == (False, code)
    assert evidence in row["reason"]


@pytest.mark.parametrize("text", ["x", "x" * 100_000, "\0", "🙂", "\u200b"])
def test_bounds_are_inclusive(text: str) -> None:
    assert score(text)["passed"] is True


def test_truncation_needs_a_finish_reason_and_rejects_only_on_request() -> None:
    assert score("abc", "length")["truncated"] is None
    assert score("abc", "length", finish_reason="finish")["passed"] is True
    strict = {"finish_reason": "finish", "allow_truncated": False}
    cut = score("abc", "length", **strict)
    assert (cut["passed"], cut["reason_code"], cut["truncated"]) == (False, "truncated", True)
    assert score("abc", "stop", **strict)["passed"] is True
    unknown = score("abc", None, **strict)
    assert (unknown["passed"], unknown["truncated"]) == (True, None)


def test_parts_have_bounds_and_columns_of_their_own() -> None:
    row = score("<think>one two\nthree</think>\n\nfour 五六 ", thinking={"max_words": 2})
    assert (row["chars_thinking"], row["chars_answer"], row["words_thinking"], row["words_answer"]) == (13, 7, 3, 3)
    assert (row["passed"], row["reason_code"]) == (False, "too_long")
    assert row["reason"] == "3 words in the thinking, at most 2 wanted"
    assert score("no thinking", thinking={"min_words": 1})["reason"] == "0 words in the thinking, at least 1 wanted"


def test_bands_by_domain() -> None:
    batch = pl.DataFrame({"response": [*["a b c d"] * 4, "a b c d e f"],
                          "domain": ["math", "code", None, "else", "code"]})
    params = LengthParams.model_validate({"max_words": 5, "domain_column": "domain", "bands": {
        "math": {"max_words": 3}, "code": {"answer": {"min_words": 9}}}})
    out = length(batch, params, OpContext())
    assert out["reason_code"].to_list() == ["too_long", "too_short", None, None, "too_long"]
    assert out["reason"].to_list()[:2] == ["4 words, at most 3 wanted for math",
                                           "4 words in the answer, at least 9 wanted for code"]


def test_tokens_of_a_named_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"}')
    params = LengthParams.model_validate({"tokenizer": {"path": str(tmp_path)}, "answer": {"max_tokens": 2}})
    batch = pl.DataFrame({"response": ["<think>a b</think>a a", "a, b", None, "<think>a"]})
    out = length(batch, params, OpContext())
    assert out["tokens_thinking"].to_list() == [2, None, None, 1]
    assert out["tokens_answer"].to_list() == [2, 3, None, None]
    assert out["tokens"].to_list() == [4, 3, None, 1]
    assert out["passed"].to_list() == [True, False, None, True]


def test_null_is_undecided() -> None:
    assert (score(None)["passed"], score(None)["reason_code"]) == (None, "no_text")


@pytest.mark.parametrize("params", [
    {"min_chars": 5, "max_chars": 4}, {"min_words": 2, "max_words": 1}, {"allow_truncated": False},
    {"bands": {"math": {}}}, {"domain_column": "domain"}, {"max_tokens": 3},
    {"thinking": {"min_words": 3, "max_words": 2}},
])
def test_impossible_params_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LengthParams(**params)


@given(st.lists(st.text()))
@settings(deadline=None)
def test_counts_are_sound(texts: list[str]) -> None:
    out = length(pl.DataFrame({"response": texts}, schema={"response": pl.String}), LengthParams(), OpContext())
    assert out["chars"].to_list() == [len(text.strip()) for text in texts]
    assert (out["words"] <= pl.Series([len(text) for text in texts], dtype=pl.Int64)).all()
