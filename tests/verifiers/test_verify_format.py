"""verify.format: every fault has its code, and only the exact form passes."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.op import SCORE_SCHEMA, OpContext
from factory.verifiers.format import Form, FormatParams, check_format, verify_format

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
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
