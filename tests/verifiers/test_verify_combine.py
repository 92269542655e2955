"""`verify.combine`: what each policy makes of what several verifiers say."""

from __future__ import annotations

from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.errors import OpError
from factory.engine.op import OpContext
from factory.verifiers.combine import CombineParams, Policy, check_combine, verify_combine
from factory.verifiers.verdict import Label

LABELS = st.sampled_from(get_args(Label))
SAID = st.lists(LABELS, min_size=1, max_size=6)
POLICIES = st.sampled_from(get_args(Policy))
SWAPPED = {"correct": "incorrect", "incorrect": "correct", "undecided": "undecided"}


def label(said: list[Any], policy: Any, **more: Any) -> str:
    """The label alone."""
    return check_combine([f"s{number}" for number in range(len(said))], said, policy, **more)[0].label


@given(said=SAID, policy=POLICIES)
def test_what_all_say_is_the_verdict(said: list[Any], policy: Any) -> None:
    assert label(said[:1] * len(said), policy) == said[0]


@given(said=SAID, data=st.data())
def test_order_matters_to_rules_then_judge_alone(said: list[Any], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(said))
    for policy in ("any", "all", "majority"):
        assert label(said, policy) == label(shuffled, policy)


@given(said=SAID)
def test_any_and_all_mirror_each_other(said: list[Any]) -> None:
    mirrored = [SWAPPED[one] for one in said]
    assert label(said, "any") == SWAPPED[label(mirrored, "all")]
    assert label(said, "majority") == SWAPPED[label(mirrored, "majority")]


@given(said=SAID)
def test_any_needs_one_and_majority_more_than_half_of_all(said: list[Any]) -> None:
    assert (label(said, "any") == "correct") == ("correct" in said)
    assert (label(said, "all") == "incorrect") == ("incorrect" in said)
    assert (label(said, "majority") == "correct") == (2 * said.count("correct") > len(said))


@given(said=SAID, overturn=st.sets(st.sampled_from(["undecided", "incorrect"]), min_size=1))
def test_the_first_that_decides_stands_unless_it_may_be_overturned(said: list[Any], overturn: set[Any]) -> None:
    found = label(said, "rules_then_judge", overturn=tuple(overturn))
    first = next((one for one in said if one != "undecided"), "undecided")
    if overturn == {"undecided", "incorrect"}:
        assert found == ("correct" if "correct" in said else first)
    if overturn == {"undecided"}:
        assert found == first


@given(said=SAID, policy=POLICIES)
def test_the_step_that_decided_said_so(said: list[Any], policy: Any) -> None:
    steps = [f"s{number}" for number in range(len(said))]
    verdict, by = check_combine(steps, said, policy)
    assert (by is None) == (verdict.label == "undecided")
    assert by is None or said[steps.index(by)] == verdict.label
    assert verdict.score == said.count("correct") / len(said)


def test_filters_failures_and_extracted_answers() -> None:
    batch = pl.DataFrame({
        "row_id": [0, 1, 2, 3],
        "short.label": pl.Series([None, None, None, None], dtype=pl.String), "short.passed": [True, False, None, False],
        "judge.label": ["incorrect", "correct", "correct", None], "judge.passed": [False, True, True, None],
        "judge.extracted": ["a", "b", "c", None]})
    made = verify_combine(batch, CombineParams(), OpContext())
    assert made["label"].to_list() == ["correct", "correct", "correct", "incorrect"]
    assert made["reason_code"].to_list() == ["first", "overturned", "later", "first"]
    assert made["decided_by"].to_list() == ["short", "judge", "judge", "short"]
    assert made["extracted"].to_list() == [None, "b", "c", None]
    assert made["disagree"].to_list() == [True, True, False, False]
    assert verify_combine(batch.head(0), CombineParams(), OpContext()).height == 0


def test_without_verdicts_the_next_act_is_named() -> None:
    with pytest.raises(OpError, match="add `verdicts"):
        verify_combine(pl.DataFrame({"row_id": [1]}), CombineParams(), OpContext())


def test_one_word_is_a_list_of_one() -> None:
    assert CombineParams.model_validate({"overturn": "undecided"}).overturn == ("undecided",)
    with pytest.raises(ValidationError, match="overturn"):
        CombineParams.model_validate({"overturn": "correct"})
