"""filter.structure: whole responses, and what is none."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from factory.engine.op import OpContext
from factory.filters.structure import StructureParams, structure

PROMPT = "Janet has 16 eggs and eats three for breakfast. How many are left?"


def score(response: str | None, prompt: Any = PROMPT, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": pl.Series([response], dtype=pl.String), "prompt": [prompt]})
    return structure(batch, StructureParams(**params), OpContext()).row(0, named=True)


@pytest.mark.parametrize(("response", "code", "said"), [
    ("<think>and so", "no_answer", "never ends"),
    ("<think>a</think> \n", "empty_answer", "no text"),
    ("", "empty_answer", "no text"),
    ("Well. <think>a</think>b", "text_before_thinking", "6 characters"),
    ("<think>a</think>b<think>c</think>d", "more_tags", "4 tags"),
    ("<think>a</think><answer>b", "more_tags", "1 that open and 0"),
    ("13</s></s>", "control_token", "2 control tokens, first at 2: '</s></s>'"),
    ("13<|im_end|>\n<|im_start|>user", "control_token", "2 control tokens, first at 2"),
    ("<think>é[INST]</think>b", "control_token", "first at 8: '[INST]"),
    (f"\n{PROMPT}\n13", "prompt_copied", "1.00 of the prompt at 1: 'Janet"),
    ("<think>You are a helpful assistant. So</think>13", "system_prompt", "at 7"),
    ("<think>a</think>I’m sorry, but I can’t help with that.", "refusal", "a refusal at 16"),
    ("抱歉，我无法满足您的请求。", "refusal", "at 0"),
    ("Sorry, I cannot assist with this request.", "refusal", "at 0"),
])
def test_what_is_no_whole_response(response: str, code: str, said: str) -> None:
    row = score(response)
    assert (row["passed"], row["reason_code"], row["score"]) == (False, code, 0.0)
    assert said in row["reason"]


@pytest.mark.parametrize("response", [
    "13", "<think>16 - 3</think>13", "16 - 3</think>13", "<think></think>13", "<think>a</think><answer>13</answer>",
    "Sorry, I made a mistake: it is 13.", "I can't see why not: 13.",
    f"def solve():\n    '''{PROMPT}'''\n    return 13",
    "A <s>struck</s> word", "The token `</s>` ends it.", "a[<|x|>] |> b", "The set [THINK] of lists", "13,",
    "We cannot have 14 eggs.", "Unfortunately, 14 does not divide 3.", "对不起，前面算错了：答案是 13。",
    "The system of equations prompts us to 13.", "So it is. " * 40 + "That is what the system prompt wants.",
])
def test_whole_responses_pass(response: str) -> None:
    row = score(response)
    assert (row["passed"], row["reason_code"], row["score"]) == (True, None, 1.0), row["reason"]


@pytest.mark.parametrize(("response", "allowed"), [
    ("Well. <think>a</think>b", "allow_text_before_thinking"),
    ("<think>a</think>b<think>c</think>d", "allow_more_tags"), ("13</s>", "allow_control_tokens"),
    ("System prompt: be brief. 13", "allow_system_prompt"),
    ("I cannot help with that.", "allow_refusal"),
])
def test_each_rule_can_be_lifted(response: str, allowed: str) -> None:
    assert score(response)["passed"] is False
    assert score(response, **{allowed: True})["passed"] is True


def test_thinking_can_be_wanted() -> None:
    assert score("13", need_thinking=True)["reason_code"] == "no_thinking"
    assert score("<think>\n</think>13", need_thinking=True)["reason_code"] == "empty_thinking"
    assert score("<think>and so", need_answer=False)["passed"] is True
    assert score("It ends with,", allow_open_end=False)["reason_code"] == "open_end"


def test_a_quoted_prompt_is_measured() -> None:
    response = f"# {PROMPT}\nprint(13)"
    row = score(response)
    assert (row["prompt_copied_share"], row["prompt_copied_at"], row["opens_with_prompt"]) == (1.0, 2, False)
    assert row["prompt_copied_chars"] == len(PROMPT)
    assert score(response, prompt_column=None)["prompt_copied_chars"] == 0


def test_a_prompt_may_be_messages() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert score(PROMPT + " 13", prompt=messages)["reason_code"] == "prompt_copied"
    assert score(PROMPT + " 13", prompt=None)["passed"] is True
