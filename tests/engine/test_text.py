"""Where a response's thinking ends and its answer begins."""

from __future__ import annotations

import time

import pytest

from factory.engine.text import split_response
from factory.verifiers.math import check_math


@pytest.mark.parametrize(("response", "thinking", "answer"), [
    ("5", None, "5"), ("", None, ""), ("<answer>5</answer> so", None, "5"), ("<think>a", "a", None),
    (" <think>a</think>5", "a", "5"), ("a</think>5", "a", "5"), ("So <think>a</think> 5", "So <think>a", " 5"),
    ("<think>a</think> <answer>5</answer>", "a", "5"), ("<think>a</think> the tag </think>", "a", " the tag </think>"),
    # thinking that begins late, begins again or stands in the answer
    ("Hi <think> x", " x", "Hi "), ("<answer>5</answer> <think>x", "x", "5"),
    ("<think>a</think> <think>b", "a</think> <think>b", None),
    ("<think>a</think>\n<think>b</think> 5", "a</think>\n<think>b", " 5"),
    ("<think>a</think> 5 <think>b</think> 6 <think>c", "a", " 5  6 "),
    ("<think>a</think><answer><think>b</think></answer>", "a", ""),
    ("<think>a</think>So <think><answer>6</answer></think><answer>5</answer>", "a", "5"),
])
def test_no_thinking_is_part_of_the_answer(response: str, thinking: str | None, answer: str | None) -> None:
    parts = split_response(response)
    assert parts[:2] == (thinking, answer)
    assert response.startswith(thinking or "", parts.thinking_at)
    assert response.startswith((answer or "")[:3], parts.answer_at)


@pytest.mark.parametrize("response", [
    r"Hi <think> x is \boxed{5}", r"<think>a</think> <think>\boxed{5}", "<think>a</think>\n<think>\\boxed{5}</think>",
    r"<think>a</think><answer><think>\boxed{5}</think></answer>"])
def test_no_verifier_takes_an_answer_from_thinking(response: str) -> None:
    assert check_math(response, "5").label != "correct"


@pytest.mark.parametrize("unit", ["<think>", "</think>", "<think>a</think>", "x<think>a</think>", "<answer><think>"])
def test_many_tags_cost_little(unit: str) -> None:
    began = time.process_time()
    split_response("<think>a</think>" + unit * 50_000)
    assert time.process_time() - began < 2
