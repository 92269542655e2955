"""Exact, digit-stripped and near matches of whole prompts equal their plain definitions."""

from __future__ import annotations

import re
import unicodedata

import polars as pl
import pytest
from decontaminate_texts import any_text, make_items, plain, series, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.decontaminate.exact import HEAD, index_forms, match_forms
from factory.dedup.decontaminate.forms import SAME, ZERO_WIDTH
from factory.dedup.decontaminate.judge import find_hits, open_benchmarks
from factory.dedup.decontaminate.near import index_prompts, match_near
from factory.dedup.decontaminate.schemas import FOUND
from factory.text.buffers import text_buffers
from factory.text.tables import load_tables
from factory.text.words import word_counts


def slow_form(text: str, digits: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    text = "".join(chr(ord(c) - 0xFEE0) if 0xFF01 <= ord(c) <= 0xFF5E else SAME.get(c, c) for c in text
                   if c not in ZERO_WIDTH)
    if digits:
        text = re.sub(r"\d+(?:[.,]?\d+)*", "\ue000", text)
    return " ".join("".join(chr(load_tables().lower[ord(c)]) for c in text).split())


maths = st.lists(st.sampled_from(["x", "X", "+", "-", "−", "1", "12", "3.5", "1,000", ".", ",", " ", "\n", "$",
                                  "\\frac", "²", "’", "'", "é", "e\u0301", "\u200b", "１", "٣"]),
                 max_size=12).map("".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(maths, any_text), min_size=1, max_size=6), st.lists(maths, min_size=1, max_size=6),
       st.booleans())
def test_forms_match_where_the_plain_forms_are_equal(rows, prompts, digits):
    found = match_forms(series(rows), index_forms(series(prompts), digits), digits)
    known = [slow_form(prompt, digits) for prompt in prompts]
    for row, number in zip(rows, found.tolist(), strict=True):
        form = slow_form(row, digits)
        assert number == (known.index(form) if form and form in known else -1)


@pytest.mark.parametrize(("one", "other", "exact", "template"), [
    ("What is $2+3$?", "what  is\n$2+3$?", True, True),
    ("What is $2+3$?", "What is $2-3$?", False, False),
    ("What is $2+3$?", "What is $2+4$?", False, True),
    ("x = -1", "x = 1", False, False),
    ("x = −1", "x = -1", True, True),
    ("1,000 men", "2.5 men", False, True),
    ("end 3.", "end 4", False, False),
    ("Janet’s ducks", "Janet's ducks", True, True),
    ("x²", "x2", False, False),
    ("", "", False, False),
])
def test_signs_tell_problems_apart_and_numbers_only_in_exact_mode(one, other, exact, template):
    for digits, expected in ((False, exact), (True, template)):
        found = match_forms(series([one]), index_forms(series([other]), digits), digits)
        assert found.tolist() == [0 if expected else -1]


@settings(deadline=None, max_examples=40)
@given(st.integers(HEAD - 3, HEAD + 2), st.lists(st.sampled_from(
    ["", "e\u0301", "\u00e9", "\u0301", "\u1112\u1161\u11ab", "\ud55c", " ", "1,", "2.", "\u200b", "\u212b", "\u00c5"]),
    min_size=2, max_size=6), st.booleans())
def test_forms_match_whatever_stands_where_the_head_ends(length, tails, digits):
    rows = ["a" * length + tail + rest for tail in tails for rest in ("", "x", tails[0])]
    found = match_forms(series(rows), index_forms(series(rows[:3]), digits), digits)
    forms = [slow_form(row, digits) for row in rows]
    assert found.tolist() == [forms.index(form) if form in forms[:3] else -1 for form in forms]


def slow_jaccard(one: str, other: str, n: int) -> float:
    sets = []
    for words in (plain.words_of(one), plain.words_of(other)):
        sets.append({tuple(words[at:at + n]) for at in range(max(len(words) - n, 0) + 1)} if words else set())
    return len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(any_text, min_size=1, max_size=5), st.lists(texts, min_size=1, max_size=5), st.integers(1, 4),
       st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_near_prompts_have_the_exact_jaccard(rows, prompts, n, floor):
    given = text_buffers(series(rows))
    found, similarity = match_near(given, word_counts(given), index_prompts(series(prompts), n), n, floor)
    for row, number, value in zip(rows, found.tolist(), similarity.tolist(), strict=True):
        every = [slow_jaccard(row, prompt, n) for prompt in prompts]
        best = max(every)
        if best >= floor:
            assert value == pytest.approx(best)
            assert number == every.index(best)
        else:
            assert (number, value) == (-1, 0.0)


def test_hits_of_all_modes_stand_together_and_do_not_depend_on_the_batch(monkeypatch):
    problems = ["If Tom has 12 apples and eats 5 of them, how many apples are left for Ann and Bob to share?",
                "Find the sum of all the even numbers between 10 and 100 that are not multiples of 3."]
    opened = open_benchmarks(make_items(problems), 8)
    rows = pl.DataFrame({"prompt": [problems[0], problems[0].replace("12", "90"), None, "nothing alike here at all"],
                         "trace": [None, "x", f"… {problems[1]} …", "y"]})
    parts = {"prompt": "prompt", "trace": "trace"}
    hits = find_hits(rows, parts, opened, 0.4)
    assert hits.schema == FOUND
    said = set(hits.select("row", "part", "mode").iter_rows())
    assert said >= {(0, "prompt", "exact"), (0, "prompt", "ngram"), (0, "prompt", "near"), (1, "prompt", "digits"),
                    (1, "prompt", "ngram"), (2, "trace", "ngram")}
    assert not [row for row, _, _ in said if row == 3]
    quote = hits.filter(pl.col("row") == 2).row(0, named=True)
    assert rows["trace"][2][quote["begin"]:quote["end"]] == problems[1].rstrip(".")
    monkeypatch.setattr("factory.dedup.decontaminate.judge._SLICE_BYTES", 1)
    assert find_hits(rows, parts, opened, 0.4).equals(hits)
