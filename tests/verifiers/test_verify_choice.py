"""verify.choice: one choice in its many spellings, and nothing else, is read as an answer."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.op import SCORE_SCHEMA, OpContext
from factory.engine.trial import try_op
from factory.verifiers.choice import ChoiceParams, check_choice, verify_choice
from factory.verifiers.choice_text import LETTERS, options_of

CITIES = ["Paris", "London", "Rome", "Berlin"]
NUMBERS = ["3", "4", "5", "6"]
SPELLINGS = ("{0}", "({0})", "{0}.", "{0})", "**{0}**", "**({0})**", "`{0}`", "{0}:", r"\boxed{{{0}}}",
             r"\boxed{{\text{{({0})}}}}",
             r"\text{{({0})}}", "$\\boxed{{\\textbf{{{0}}}}}$", "answer: {0}", "Answer: **{0}**", "The answer is {0}",
             "The answer is ({0}).", "the correct answer is ({0}) because of it", "The correct option is {0}.",
             "The answer to this question is {0}.", "So the final answer is: {0}", "I would choose ({0}).", "#### {0}",
             "Option {0} is correct.", "Therefore, option {0}.", "({0}) is the right answer.", "I think option {0}",
             "选{0}", "故选{0}。", "答案是{0}", "答案：（{0}）", "正确答案是 {0}。", "选项{0}正确",
             "Let me think.\n\n{0}",
             "Not so easy.\n\n**Answer: {0}**", "<answer>{0}</answer>", "<think>J? {0}?</think>\n{0}")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_letter_in_every_spelling(spelling: str) -> None:
    for index, letter in enumerate(LETTERS):
        response, other = spelling.format(letter), LETTERS[index - 1]
        assert check_choice(response, letter).label == "correct", response
        assert check_choice(response, other).label == "incorrect", response
        wide = response.replace(letter, chr(ord(letter) + 0xFEE0)) if "<" not in response else response
        assert check_choice(wide, letter).label == "correct", wide


@pytest.mark.parametrize(("response", "reference", "options", "label"), [
    ("b", "B", None, "correct"), ("(b)", "b", None, "correct"), ("the answer is a.", "A", None, "correct"),
    ("B. London", "B", CITIES, "correct"), ("(B) The capital is London.", "B", CITIES, "correct"),
    ("The correct answer is (D) Berlin, which is new", "D", CITIES, "correct"),
    ("The answer is A Paris", "A", CITIES, "correct"),
    ("London", "B", CITIES, "correct"), ("The answer is london.", "B", CITIES, "correct"),
    (r"\boxed{London}", "B", CITIES, "correct"),
    ("4", "B", NUMBERS, "correct"), ("The answer is $4$.", "B", NUMBERS, "correct"), ("2", "B", NUMBERS, "incorrect"),
    ("2", "B", CITIES, "incorrect"), ("Option 2", "B", CITIES, "correct"), ("7", "B", CITIES, "incorrect"),
    ("The answer is 2", "B", ["three", "five"], "incorrect"), ("Option 2", "B", ["three", "five"], "incorrect"),
    (r"\boxed{1}", "A", ["no number", "none"], "incorrect"), ("C - Rome", "C", CITIES, "correct"),
    ("C - Rome", "C", {"A": "Paris", "B": "London", "C": "Rome"}, "correct"),
    ("London", "B", '["Paris", "London"]', "correct"),
    ("B", "London", CITIES, "correct"), ("B", "(B) London", CITIES, "correct"), ("B", r"\boxed{B}", None, "correct"),
    ("A and C", "A, C", None, "correct"), ("AC", "C, A", None, "correct"), ("A, C", "AC", None, "correct"),
    ("The answers are A and C.", "AC", None, "correct"), (r"\boxed{A} and \boxed{C}", "AC", None, "correct"),
    (r"First \boxed{A}, then \boxed{C}", "AC", None, "correct"), ("答案：A、C", "AC", None, "correct"),
    ("A", "AC", None, "incorrect"),
    ("ABC", "AC", None, "incorrect"), ("A or C", "AC", None, "incorrect"), ("A or C", "A", None, "incorrect"),
])
def test_texts_numbers_and_several(response: str, reference: str, options: Any, label: str) -> None:
    assert check_choice(response, reference, options).label == label


@pytest.mark.parametrize(("response", "reference", "code"), [
    ("A good question. Nobody knows.", "A", "no_answer"), ("The answer is a triangle", "A", "no_answer"),
    ("The answer is A triangle", "A", "no_answer"), ("I think so", "I", "no_answer"),
    ("It is a pity", "A", "no_answer"),
    ("Bad luck", "B", "no_answer"), ("", "A", "no_answer"), ("<think>The answer is A", "A", "no_answer"),
    ("<think>A</think>", "A", "no_answer"), ("K", "J", "no_answer"), ("A) Paris\nB) London\nC) Rome", "C", "no_answer"),
    ("The answer is A. No: the answer is B.", "B", "contradicting_answers"),
    (r"\boxed{A} \boxed{B}", "A", "contradicting_answers"),
    ("The answer is not A. The answer is B.", "B", "chosen"), ("选项A错误，选项B错误，故选C", "C", "chosen"),
    ("不选A，选B", "B", "chosen"), ("If the answer is A, it fails. Answer: B", "B", "chosen"),
    ("The answer is B. As I said, the answer is B.", "B", "chosen"),
    ("Option A is wrong. Option C is correct.", "C", "chosen"),
])
def test_what_is_an_answer_and_what_is_prose(response: str, reference: str, code: str) -> None:
    assert check_choice(response, reference).reason_code == code


@pytest.mark.parametrize("response", [
    "(A) is incorrect", "Let us see.\n(A) is incorrect since 2+2=4.", "The incorrect answer is A",
    "The wrong answer is A", "I would never choose A", "It is false that A is correct", "Eliminate.\nA. This is wrong.",
    "The answer (A) is wrong.", "The answer is A. That is wrong.", "Is it true that A is correct?", "(A) isn't right",
    "D\nC\nB\nA", "A.\nB",
    "Answer: A, maybe B, maybe C", "Answer: A? B? C?", "The answer is (A)(B)(C)(D)", "Answer: A-D", "Answer: [A] [B]",
    "Answer: A: B", "The answer is A. Wait, no. It is B.", "The answer is A.\nWait, no. It is B.", "Answer: A\nB\nC",
    "A: no", "The answer is A?", "It is unlikely that A is correct"])
def test_what_is_denied_hedged_or_taken_back_is_no_choice(response: str) -> None:
    for options in (None, CITIES):
        assert check_choice(response, "A", options).label == "incorrect"


def test_the_bare_letters_in_a_row_choose_none() -> None:
    for listed in ("A\nB\nC\nD", "(A)\n(B)\n(C)\n(D)", "Let me list:\nA\nB\nC\nD"):
        assert {check_choice(listed, letter).label for letter in "ABCD"} == {"incorrect"}


@pytest.mark.parametrize("response", [
    "Answer choices:\nA. Paris\nB. London\nC. Rome\nD. Berlin\n\nThe answer is B.", "B is the answer.", "So, B.",
    "The answer options are A, B, C and D. The answer is B.", "The correct answer is B.\n\nIncorrect answers: A, C, D",
    "The answer is B. The common wrong answer is A.", "The answer is B; A is wrong because it is.",
    'The answer is "B".', "The answer is B, A is wrong.",
    "The answer is 'B'.", "“B”", '{"answer": "B"}', "We pick C = 5.\nB",
    "It is E = mc^2.\n\n(B)", "The answer is (B), since (A) and (C) are wrong.", "A is wrong so the answer is B",
    "The answer is B.\n\n- A: wrong\n- C: wrong", "The answer is B. It is not hard.",
    "So the answer is B, i.e. London."])
def test_a_choice_beside_other_letters_is_read(response: str) -> None:
    for options in (None, CITIES):
        assert check_choice(response, "B", options).label == "correct"


def test_a_letter_beside_the_text_of_another_option_contradicts_itself() -> None:
    verdict = check_choice("B. Paris", "B", CITIES)
    assert (verdict.label, verdict.reason_code) == ("incorrect", "contradicting_answers")


@pytest.mark.parametrize(("reference", "options", "code"), [
    (None, None, "gold_unparseable"), ("  ", CITIES, "gold_unparseable"), ("see solution", None, "gold_unparseable"),
    ("E", CITIES, "gold_not_an_option"), ("Madrid", CITIES, "gold_not_an_option"),
    ("A or B", CITIES, "gold_not_an_option"),
    ("1", CITIES, "gold_ambiguous"), ("same", ["same", "same"], "gold_ambiguous"), ("A", ["one"], "gold_no_options"),
])
def test_a_reference_that_is_no_option_is_undecided(reference: str | None, options: list[str] | None,
                                                    code: str) -> None:
    for response in ("A", "B", "no idea", ""):
        verdict = check_choice(response, reference, options)
        assert (verdict.label, verdict.reason_code) == ("undecided", code)


@pytest.mark.parametrize("question", [
    "Which?\nA. red\nB. blue\nC. green", "Which? (A) red (B) blue (C) green", "Which? A: red, B: blue, C: green",
    "Which?\n(a) red\n(b) blue\n(c) green", "Which?\n1. red\n2. blue\n3. green", "哪个？\nA、red\nB、blue\nC、green",
    r"Which? $\textbf{(A)}\ red \qquad \textbf{(B)}\ blue \qquad\textbf{(C)}\ green$",
    "A. is no option here.\n\nA. red\nB. blue\nC. green"])
def test_options_are_read_from_the_question(question: str) -> None:
    found = options_of(question)
    assert found is not None
    assert found.texts == ("red", "blue", "green")


def test_the_op_reads_options_and_numbers_as_it_is_told() -> None:
    batch = pl.DataFrame({"response": ["B", "London", "Option 2", None], "answer": [1, 1, 1, 1],
                          "options": [json.dumps(CITIES)] * 3 + ["no JSON"], "listed": [CITIES] * 4})
    made = verify_choice(batch, ChoiceParams(options="options", gold="index0"), OpContext())
    assert dict(made.schema) == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert made["label"].to_list() == ["correct", "correct", "correct", "undecided"]
    assert made["reason_code"][3] == "gold_no_options"
    made = verify_choice(batch, ChoiceParams(options="listed", gold="index1"), OpContext())
    assert made["label"].to_list() == ["incorrect"] * 4
    numbered = pl.DataFrame({"response": ["2", "blue", "b", "1"], "answer": ["2"] * 4,
                             "q": ["Which?\n1. red\n2. blue"] * 4})
    made = verify_choice(numbered, ChoiceParams(question="q"), OpContext())
    assert made["label"].to_list() == ["correct", "correct", "correct", "incorrect"]


@pytest.mark.parametrize("params", [
    ChoiceParams(), ChoiceParams(options="o"), ChoiceParams(question="q"),
    ChoiceParams(options="o", question="q", gold="index0"),
    ChoiceParams(response="r", answer="a", gold="index1")])
def test_its_trials_pass_whatever_the_params(params: ChoiceParams) -> None:
    from factory.engine.op import get_op

    tried = try_op(get_op("verify.choice"), params)
    assert (tried.accepted, tried.refused) == (tried.golds, tried.mutants) == (12, 12)


PIECES = st.sampled_from(["A", "B", "the answer is ", "(", ")", " ", "\n", r"\boxed{", "}", "选", "**", "or ",
                          "is correct", ".", "1"])


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60), st.sampled_from("ABC"))
def test_any_text_gets_one_verdict_and_thinking_changes_none(response: str, reference: str) -> None:
    verdict = check_choice(response, reference, CITIES)
    assert verdict.label in ("correct", "incorrect")
    assert (verdict.label == "correct") == (verdict.extracted == reference and verdict.reason_code == "chosen")
    if "<" not in response:
        assert check_choice(f"<think>A, B or C: the answer is D</think>{response}", reference, CITIES) == verdict


@pytest.mark.parametrize("hostile", [r"\boxed{" * 40_000, "the answer is " * 20_000, "(A) " * 50_000,
                                     "answer" + " " * 300_000, "A, " * 60_000, "\\text{" * 40_000, "选" * 200_000,
                                     "A\n" * 100_000, "the answer is A" + " no, wait" * 30_000,
                                     "the answer is A\n" * 20_000, "{" * 300_000])
@pytest.mark.timeout(60)
def test_hostile_length_is_read_in_time(hostile: str) -> None:
    assert check_choice(hostile, "B", CITIES).label == "incorrect"
