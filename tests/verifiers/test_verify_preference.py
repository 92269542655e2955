"""verify.preference at its edge: both orders, the scale, and judges that look at the place and not at the answer."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.op import SCORE_SCHEMA, Ask, OpContext, PlanContext, get_op
from factory.models.base import Completion
from factory.verifiers.preference import (
    PREFERENCE_OUT,
    Preference,
    PreferenceParams,
    check_preference,
    read_label,
    vote_orders,
)

Answerer = Callable[[str, str, str], str]


def fenced(ask: Ask) -> tuple[str, str, str]:
    """Question, first and second answer as a request shows them."""
    assert ask.messages is not None
    text = ask.messages[-1]["content"]
    mark = re.search(r"carry the mark ([0-9a-f]{12})\.", text)
    assert mark is not None
    parts = [piece.split(f"\n[end {mark[1]}]")[0] for piece in text.split(f"[begin {mark[1]}]\n")[1:]]
    return parts[0], parts[1], parts[2]


def batch_of(rows: Sequence[tuple[str | None, str | None, str | None]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, orient="row",
                         schema={"prompt": pl.String, "response_a": pl.String, "response_b": pl.String})
    keys = [hashlib.sha256(repr(row).encode()).digest()[:16] for row in rows]
    return frame.with_columns(pl.Series("row_key", keys, dtype=pl.Binary))


def compare(rows: Sequence[tuple[str | None, str | None, str | None]], answer: Answerer, seed: int = 1,
            **given: Any) -> tuple[pl.DataFrame, list[Ask], OpContext]:
    params = PreferenceParams(**given)
    identity = get_op("verify.preference").identity
    assert identity is not None
    ctx = OpContext(step="pref", seed=seed, identity=identity(params, PlanContext(Path())))
    batch = batch_of(rows)
    asks = Preference().requests(batch, params, ctx)
    replies = [Completion("", answer(*fenced(ask))) for ask in asks]
    made = Preference().collect(batch, asks, replies, params, ctx)
    assert dict(made.schema) == {**SCORE_SCHEMA, **PREFERENCE_OUT}
    assert made.height == batch.height
    return made, asks, ctx


def likes_paris(question: str, first: str, second: str) -> str:
    if ("Paris" in first) == ("Paris" in second):
        return "Equal.\n[[A=B]]"
    return "My own answer: Paris.\n" + ("[[A>>B]]" if "Paris" in first else "[[B>>A]]")


PAIR = ("What is the capital of France?", "Paris, on the Seine.", "<think>Hm</think>It is Lyon, I believe so.")


def test_the_better_response_wins_wherever_it_stands() -> None:
    made, asks, _ = compare([PAIR, (PAIR[0], PAIR[2], PAIR[1])], likes_paris)
    assert made["label"].to_list() == ["correct", "correct"]
    assert made["preferred"].to_list() == made["extracted"].to_list() == ["a", "b"]
    assert made["margin"].to_list() == made["score"].to_list() == [2.0, -2.0]
    assert made["votes"].to_list() == [["a>>b"] * 4, ["b>>a"] * 4]
    assert made["chosen_chars"].to_list() == [20, 20]
    assert made["rejected_chars"].to_list() == [25, 25]
    assert made["length_ratio"].to_list() == [0.8, 0.8]
    assert Counter(fenced(ask)[1] for ask in asks if ask.row == 0) == {PAIR[1]: 2, "It is Lyon, I believe so.": 2}


@pytest.mark.parametrize("reply", ["[[A>>B]]", "[[B>A]]"])
def test_a_judge_that_names_the_same_place_every_time_decides_nothing(reply: str) -> None:
    made, _, ctx = compare([PAIR], lambda *_: f"Well. {reply}")
    assert made.select("label", "reason_code", "margin", "preferred").row(0) == ("undecided", "close", 0.0, None)
    assert ctx.counters["first_place" if reply == "[[A>>B]]" else "second_place"] == 4


def test_slightly_better_in_every_vote_is_not_above_1() -> None:
    def mild(question: str, first: str, second: str) -> str:
        return likes_paris(question, first, second).replace(">>", ">")

    made, _, _ = compare([PAIR], mild)
    assert made.select("reason_code", "margin").row(0) == ("close", 1.0)
    made, _, _ = compare([PAIR], mild, margin=0.5)
    assert made.select("reason_code", "margin").row(0) == ("a_preferred", 1.0)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**63), st.integers(1, 8).map(lambda half: 2 * half))
def test_half_of_the_votes_see_the_pair_swapped(key: bytes, seed: int, votes: int) -> None:
    orders = vote_orders(key, seed, votes)
    assert (len(orders), sum(orders)) == (votes, votes // 2)
    assert orders == vote_orders(key, seed, votes)


def test_which_half_follows_from_the_row_and_the_seed() -> None:
    keys = [number.to_bytes(16, "big") for number in range(40)]
    assert len({tuple(vote_orders(key, 1, 4)) for key in keys}) == 6
    assert [vote_orders(key, 1, 4) for key in keys] != [vote_orders(key, 2, 4) for key in keys]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a>>b", "a>b", "a=b", "b>a", "b>>a", None]), st.booleans()), max_size=8))
def test_swapping_the_two_responses_turns_the_margin_round(votes: list[tuple[str | None, bool]]) -> None:
    turn = {"a>>b": "b>>a", "a>b": "b>a", "a=b": "a=b", "b>a": "a>b", "b>>a": "a>>b", None: None}
    one, other = check_preference(votes), check_preference([(turn[label], not swapped) for label, swapped in votes])
    assert one.label == other.label
    assert one.score == (None if other.score is None else -other.score)
    assert one.label == "correct" if one.score is not None and abs(one.score) > 1 else one.label == "undecided"


def test_unread_votes_do_not_bend_the_margin_to_one_order() -> None:
    first_place = [("a>>b", False), ("a>>b", False), ("b>>a", True), (None, True)]
    assert check_preference(first_place).score == 0
    assert check_preference([("a>>b", False), ("a>>b", False), (None, True), (None, True)]).reason_code == "unparseable"
    assert check_preference([("a>>b", False), (None, False), (None, False), (None, True), ("a>>b", True),
                             (None, True)]).reason_code == "unparseable"


@pytest.mark.parametrize(("reply", "label"), [
    ("so [[A>>B]]", "a>>b"), ("[[ b > a ]]", "b>a"), ("[[A=B]]", "a=b"), ("[[B=A]]", "a=b"), ("[[A<<B]]", "b>>a"),
    ("[[A>B]] … my final verdict is [[A>B]]", "a>b"), ("<think>[[A>>B]]</think>[[B>A]]", "b>a"),
    ("I pick A", None), ("[[A>B]] or [[B>A]]", None), ("[[A>A]]", None), ("<think>[[A>>B]]", None), ("", None),
    ("[[C>A]]", None), ("[A>B]", None)])
def test_labels_are_read_strictly(reply: str, label: str | None) -> None:
    assert read_label(reply) == label


@pytest.mark.parametrize(("row", "code"), [
    ((PAIR[0], "", "Lyon is it."), "empty"), ((PAIR[0], "Paris it is", None), "empty"),
    ((PAIR[0], "Paris it is", "<think>never ends"), "unfinished"), ((PAIR[0], "??!", "Lyon"), "degenerate"),
    ((PAIR[0], "Paris", "<think>x</think> Paris"), "same_responses"), (("", "Paris", "Lyon"), "question_missing")])
def test_pairs_that_teach_nothing_are_not_asked(row: tuple[str | None, str | None, str | None], code: str) -> None:
    made, asks, _ = compare([row], likes_paris)
    assert not asks
    assert made.select("label", "reason_code", "margin").row(0) == ("undecided", code, None)


def test_settings_that_cannot_mean_anything_are_refused() -> None:
    for wrong in ({"votes": 3}, {"votes": 4, "temperature": 0}, {"margin": 2}):
        with pytest.raises(ValidationError):
            PreferenceParams(**wrong)  # type: ignore[arg-type]
