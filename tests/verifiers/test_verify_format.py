"""verify.format: every fault has its code, and only the exact form passes."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.op import SCORE_SCHEMA, OpContext, get_op
from factory.engine.trial import try_op
from factory.verifiers.format import Form, FormatParams, check_format, verify_format

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
TOKEN = "|special_token|"
PLAIN = st.text(st.characters(exclude_characters="<>"), max_size=20)


@pytest.mark.parametrize(("form", "response", "code"), [
    ("r1_zero", "<think>a</think><answer>b</answer>", "well_formed"),
    ("r1_zero", "\n<think>\na\n</think>\n\n<answer> b </answer>\n", "well_formed"),
    ("r1_zero", "<think>a < b > c</think><answer>1 < 2</answer>", "well_formed"),
    ("r1_zero", "", "empty_response"),
    ("r1_zero", "42", "missing_think"),
    ("r1_zero", "<answer>42</answer>", "missing_think"),
    ("r1_zero", "a</think><answer>b</answer>", "unopened_think"),
    ("r1_zero", "<think>a", "unclosed_think"),
    ("r1_zero", "<think>a</think><think>a</think><answer>b</answer>", "repeated_think"),
    ("r1_zero", "<think>a</think></think><answer>b</answer>", "repeated_think"),
    ("r1_zero", "<think>a</think>b", "missing_answer"),
    ("r1_zero", "<think>a</think><answer>b", "unclosed_answer"),
    ("r1_zero", "<think>a</think>b</answer>", "unopened_answer"),
    ("r1_zero", "<think>a</think><answer>b</answer><answer>c</answer>", "repeated_answer"),
    ("r1_zero", "<answer>b</answer><think>a</think>", "wrong_order"),
    ("r1_zero", "<think><answer>b</answer></think>", "wrong_order"),
    ("r1_zero", "</think>a<think><answer>b</answer>", "wrong_order"),
    ("r1_zero", "Well: <think>a</think><answer>b</answer>", "text_outside"),
    ("r1_zero", "<think>a</think> so <answer>b</answer>", "text_outside"),
    ("r1_zero", "<think>a</think><answer>b</answer>!", "text_outside"),
    ("r1_zero", "<think> \n</think><answer>b</answer>", "empty_thinking"),
    ("r1_zero", "<think>a</think><answer> </answer>", "empty_answer"),
    ("r1", "<think>a</think>\n\n**b**", "well_formed"),
    ("r1", "<think>a</think>\n", "empty_answer"),
    ("r1", "<think></think>b", "empty_thinking"),
    ("r1", "Hm <think>a</think>b", "text_outside"),
    ("r1", "b", "missing_think"),
    ("cold_start", f"{TOKEN}a{TOKEN}b", "well_formed"),
    ("cold_start", f"\n{TOKEN}\na\n{TOKEN}\n**b**\n", "well_formed"),
    ("cold_start", " ", "empty_response"),
    ("cold_start", "<think>a</think>b", "missing_token"),
    ("cold_start", f"{TOKEN}a", "single_token"),
    ("cold_start", f"{TOKEN}a{TOKEN}b{TOKEN}", "repeated_token"),
    ("cold_start", f"a{TOKEN}b{TOKEN}c", "text_outside"),
    ("cold_start", f"{TOKEN} {TOKEN}b", "empty_thinking"),
    ("cold_start", f"{TOKEN}a{TOKEN}\n", "empty_summary"),
    ("none", "b", "well_formed"),
    ("none", " ", "empty_response"),
])
def test_each_fault_has_its_code(form: Form, response: str, code: str) -> None:
    verdict = check_format(response, form)
    assert verdict.reason_code == code
    assert verdict.label == ("correct" if code == "well_formed" else "incorrect")


def test_the_table_has_one_row_per_response_and_a_null_is_a_blank() -> None:
    batch = pl.DataFrame({"text": ["<think>a</think>b", None]})
    table = verify_format(batch, FormatParams(form="r1", response="text"), OpContext())
    assert dict(table.schema) == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert table["passed"].to_list() == [True, False]
    assert table["reason_code"].to_list() == ["well_formed", "empty_response"]


@given(PLAIN, PLAIN)
def test_the_template_filled_in_passes_unless_a_part_is_blank(thinking: str, answer: str) -> None:
    verdict = check_format(f"<think>{thinking}</think> <answer>{answer}</answer>")
    assert (verdict.label == "correct") == bool(thinking.strip() and answer.strip())


@given(st.lists(st.sampled_from([*TAGS, "a", " "]), max_size=9))
def test_no_other_order_of_tags_passes(pieces: list[str]) -> None:
    verdict = check_format("".join(pieces))
    if verdict.label == "correct":
        assert [piece for piece in pieces if piece in TAGS] == list(TAGS)
        inside = "".join(pieces).split("</think>")
        assert inside[0].strip().startswith("<think>")
        assert inside[1].strip().startswith("<answer>")


@given(st.lists(st.sampled_from([TOKEN, "|special_token", "a", " ", "\n"]), max_size=7))
def test_cold_start_is_two_tokens_and_two_parts(pieces: list[str]) -> None:
    text = "".join(pieces)
    parts = text.split(TOKEN)
    well = len(parts) == 3 and not parts[0].strip() and all(part.strip() for part in parts[1:])
    assert (check_format(text, "cold_start").label == "correct") == well


def test_the_token_is_a_param_and_no_identity_of_other_forms() -> None:
    assert check_format("<S>a<S>b", "cold_start", "<S>").label == "correct"
    batch = pl.DataFrame({"response": ["<S>a<S>b", f"{TOKEN}a{TOKEN}b"]})
    made = verify_format(batch, FormatParams(form="cold_start", special_token="<S>"), OpContext())
    assert made["passed"].to_list() == [True, False]
    assert FormatParams(form="r1").model_dump(mode="json") == {"form": "r1", "response": "response"}
    told = FormatParams(form="cold_start", special_token="<S>").model_dump()
    assert FormatParams.model_validate(told).special_token == "<S>"


@pytest.mark.parametrize("form", ["r1_zero", "r1", "cold_start", "none"])
def test_its_trials_pass(form: Form) -> None:
    tried = try_op(get_op("verify.format"), FormatParams(form=form, response="text", special_token="[[S]]"))
    assert (tried.accepted, tried.refused) == (tried.golds, tried.mutants)
    assert tried.mutants >= 2
