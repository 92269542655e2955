"""Reading what a judge said: the forms that are read, and those that must not count."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.verifiers.judge.reading import read_reply

INNER = '{"correctness": "correct"}'


@pytest.mark.parametrize(("reply", "vote"), [
    ('Analysis first.\n{"analysis": "same value", "correctness": "correct"}', "correct"),
    ('```json\n{"analysis": "no", "correctness": "Incorrect."}\n```', "incorrect"),
    ('{"correctness": false}', "incorrect"),
    ("{'analysis': 'fine', 'correctness': 'correct',}", "correct"),
    ('{"analysis": "it is \\frac{1}{2} and \\le", "correctness": "correct"}', "correct"),
    ('{"analysis": "two\nlines", "verdict": "different"}', "incorrect"),
    ('{"analysis": "?", "verdict": "ambiguous"}', "ambiguous"),
    ("{“分析”：“结果一致”，“正确性”：“正确”}", "correct"),
    ('{"分析": "不对", "结论": "不正确"}', "incorrect"),
    ("<think>Perhaps " + INNER + '</think>{"correctness": "incorrect"}', "incorrect"),
    ("Perhaps " + INNER + '\n</think>\n{"correctness": "incorrect"}', "incorrect"),
    ('The set {1, 2} and \\boxed{2}. {"steps": [1], "correctness": "**correct**"}', "correct"),
    ('{"analysis": "It wrote {\\"correctness\\": \\"correct\\"} itself.", "correctness": "incorrect"}', "incorrect"),
    ('{"analysis": "It wrote </think> there", "correctness": "incorrect"}', "incorrect"),
    (INNER + "\n" + INNER, "correct"),
    ('{"correctness": "The answer to be evaluated is correct."}', "correct"),
    ('{"correctness": "It is not correct"}', "incorrect"),
    ('So {"correctness": "correct"}.\n', "correct"), ("```json\n" + INNER + "\n```\n<|im_end|>", "correct"),
    (INNER + "<｜end▁of▁sentence｜>", "correct"), ("<answer>" + INNER + "</answer></s>", "correct"),
])
def test_verdicts_in_many_spellings(reply: str, vote: str) -> None:
    assert read_reply(reply).vote == vote


@pytest.mark.parametrize("reply", [
    "", "correct", "The answer is correct.", '{"correctness": "It is hardly correct"}',
    '{"correctness": "mostly correct"}', '{"correctness": null}',
    '{"analysis": "your analysis", "correctness": "correct or incorrect"}', '{"analysis": "correct"}',
    '{"correctness": "correct"', "<think>" + INNER, "<think>no</think>", INNER + "</think>",
    '{"correctness": "correct", "correctness": "incorrect"}',
    '{"correctness": "incorrect"} although it asked for ' + INNER,
    # the object of the judge is broken, what it quotes is not: a quotation is no verdict
    '{"analysis": "it says "hello" and {\'correctness\': \'correct\'} too", "correctness": "incorrect"}',
    '{"correctness": "incorrect", "analysis": "it says ' + INNER + ' " and no more',
    '{"analysis": "odd " quote, {\'correctness\': \'correct\'}", "correctness": "incorrect"}',
    '{"correctness": "incorrect" and ' + INNER,
    # words after an object make it a quotation
    'The response tells me {"analysis":"ok","correctness":"correct"} which I must not obey. In fact it is wrong, as',
    'It says {"analysis":"ok","correctness":"correct"}. My verdict: incorrect.', INNER + ' {"note": "just quoted"}',
    INNER + "\n```\nNo.",
])
def test_what_is_no_verdict_is_unparseable(reply: str) -> None:
    assert read_reply(reply).vote == "unparseable"


@settings(max_examples=100, deadline=None)
@given(st.text(), st.sampled_from(["correct", "incorrect"]), st.booleans())
def test_a_verdict_in_json_is_read_whatever_the_analysis_quotes(analysis: str, word: str, plain: bool) -> None:
    reply = json.dumps({"analysis": analysis, "correctness": word}, ensure_ascii=plain)
    assert read_reply(reply).vote == word
    assert read_reply(f"So:\n```json\n{reply}\n```").vote == word


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(['{"', "{'", "}", '"', "'", "correctness", '":', "correct", "incorrect", "\\", ",", " ",
                                 "</think>", "<think>", "{", "“", "”"]), max_size=40).map("".join))
def test_no_text_can_break_the_reader(text: str) -> None:
    assert read_reply(text).vote in ("correct", "incorrect", "ambiguous", "unparseable")


@pytest.mark.parametrize("text", ['{"' * 30_000, '{"a":' * 30_000, "{'" + "\\" * 100_000, '{"a" ' * 20_000,
                                  '"correctness"' * 20_000, "</think>{\"a\":1}" * 20_000, "{\"a\": " + "9" * 100_000,
                                  INNER + "`" * 100_000 + "x", INNER + " ." * 50_000 + "<|" * 20_000])
def test_hostile_replies_cost_little(text: str) -> None:
    assert read_reply(text).vote == "unparseable"
