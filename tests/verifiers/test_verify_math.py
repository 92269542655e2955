"""verify.math at its edge: which answers count, when it refuses to judge, and what hostile text costs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.op import SCORE_SCHEMA, OpContext
from factory.verifiers.extraction import take_answer
from factory.verifiers.math import MathParams, check_math, verify_math

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def _score(rows: list[tuple[str | None, str | None]], **params: float) -> pl.DataFrame:
    batch = pl.DataFrame(rows, schema={"response": pl.String, "answer": pl.String}, orient="row")
    return verify_math(batch, MathParams(**params), OpContext())


@pytest.mark.parametrize(("response", "gold"), [
    (r"<think>41?</think> So it is \boxed{42}.", "42"),
    ("<think>a</think><answer>42</answer>", "6*7 = 42\n#### 42"),
    ("The answer is $1,234.00.", "#### 1,234"),
    ("The final answer is: **73**", "73"),
    ("…so\nTotal: 18 apples", "18"),
    ("A: 18", "18"),
    (r"\boxed{1} and \boxed{2}", "$\\{1,2\\}$"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("-1 + sqrt(3)", r"\sqrt{3} - 1"),
    ("\\boxed{2**(1/4)}", r"\sqrt{\sqrt{2}}"),
    (r"\boxed{74°}", r"74^\circ"),
    (r"\boxed{10\text{ cm}}", "10"),
    (r"\boxed{\text{Monday}}", "monday"),
    ("The answer is Monday.", "Monday"),
    (r"\boxed{12:30}", "12:30"),
    (r"\boxed{5}", "x=5"),
    (r"\boxed{\$18.90}", r"\$18.90"),
    (r"\begin{pmatrix}1 & 2\end{pmatrix}", r"\begin{bmatrix}1 & 2\end{bmatrix}"),
])
def test_equal_answers_in_other_forms_are_correct(response: str, gold: str) -> None:
    verdict = check_math(response, gold, 60)
    assert (verdict.label, verdict.reason_code) == ("correct", "equal")
    assert verdict.score == 1.0


@pytest.mark.parametrize(("response", "gold", "code"), [
    (r"\boxed{41}", "42", "wrong_answer"),
    (r"<think>\boxed{42}</think> It is \boxed{41}.", "42", "wrong_answer"),
    (r"<think>\boxed{42}", "42", "no_answer"),
    (r"<think>\boxed{42}</think>   ", "42", "no_answer"),
    ("", "42", "no_answer"),
    (None, "42", "no_answer"),
    ("I do not know.", "42", "no_answer"),
    (r"\boxed{41} or \boxed{42}", "42", "wrong_answer"),
    (r"\boxed{12345678901}", "12345678902", "wrong_answer"),
    (r"\boxed{100000000000000000000}", "100000000001000000000", "wrong_answer"),
    (r"\boxed{1:00}", "12:00", "wrong_answer"),
    (r"\boxed{solution on}", "no solution", "wrong_answer"),
    ("-1 + sqrt(3)", "-1", "wrong_answer"),
    (r"\boxed{[0,9)}", "$(0,9)$", "wrong_answer"),
    (r"\boxed{2021}", r"$\pm 2021$", None),
    (r"\boxed{" + "1+" * 50_000 + "1}", "42", "answer_too_long"),
])
def test_other_answers_are_not_correct(response: str | None, gold: str, code: str | None) -> None:
    verdict = check_math(response, gold, 60)
    assert verdict.label != "correct"
    assert code in (None, verdict.reason_code)


@pytest.mark.parametrize("gold", [None, "", "   ", r"\frac{", "$$", "!!!", r"\boxed{}", "((("])
def test_a_reference_that_cannot_be_read_is_never_correct(gold: str | None) -> None:
    for response in (rf"\boxed{{{gold}}}", gold, r"\boxed{0}", "", "<think>"):
        verdict = check_math(response, gold, 60)
        assert (verdict.label, verdict.reason_code) == ("undecided", "gold_unparseable")


def test_the_answer_is_taken_from_where_it_was_given() -> None:
    taken = [take_answer(text) for text in (
        r"\boxed{1} then \boxed{\frac{1}{\sqrt{2}}} done", r"\boxed{7}, \text{ and } \boxed{8}",
        r"\boxed{5} $=$ \boxed{5}", r"\boxed{3 \boxed{4} 5}", r"\boxed{6} and \boxed{9", "#### 72\n",
        "<answer> 5 </answer> 6", "Answer:\n**12**.")]
    assert [answer.text if answer else None for answer in taken] == [
        r"\frac{1}{\sqrt{2}}", "7, 8", "5", r"3 \boxed{4} 5", "6", "72", "5", "12"]


def test_the_table_has_the_contracts_columns_and_one_row_per_input() -> None:
    table = _score([(r"\boxed{4}", "4"), (r"\boxed{5}", "4"), (r"\boxed{5}", None)])
    assert dict(table.schema) == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert table["passed"].to_list() == [True, False, None]
    assert table["label"].to_list() == ["correct", "incorrect", "undecided"]
    assert table["extracted"].to_list() == ["4", "5", None]
    assert _score([]).height == 0


def test_columns_have_names_of_the_users_choice_and_may_be_numbers() -> None:
    batch = pl.DataFrame({"text": [r"\boxed{4.0}", r"\boxed{5}"], "gold": [4, 4]})
    table = verify_math(batch, MathParams(response="text", answer="gold"), OpContext())
    assert table["passed"].to_list() == [True, False]


@pytest.mark.parametrize("hostile", ["10^{10^{10}}", "9^{9^{9^9}}", "100000000!", r"\binom{10^9}{5*10^8}"])
def test_a_hang_fails_its_own_row_and_nothing_else(hostile: str) -> None:
    check_math("x+1", "1+x", 60)
    before = len(psutil.Process().children(recursive=True))
    ctx = OpContext()
    rows = {"response": [r"\boxed{x+1}", rf"\boxed{{{hostile}}}", r"\boxed{1+x}"], "answer": ["x+1", "42", "x+1"]}
    table = verify_math(pl.DataFrame(rows), MathParams(deadline=2), ctx)
    assert [bool(failed) for failed in table["_failed"]] == [False, True, False]
    assert table["_failed"][1].startswith("timeout: ")
    assert table["passed"].to_list() == [True, None, True]
    assert table["label"][1] is None
    assert ctx.counters["timeouts"] == 1
    assert len(psutil.Process().children(recursive=True)) == before


@pytest.mark.parametrize("hostile", [
    "{" * 1_000_000, "}" * 1_000_000, "{" * 500_000 + "}" * 500_000, r"\boxed{" * 100_000, "(" * 100_000, "$" * 100_000,
    r"\frac{1}{" * 2000 + "1" + "}" * 2000, "answer is " * 100_000, "1" * 100_000, "\x00\ufffe", "**" * 50_000])
def test_megabytes_of_nonsense_are_never_correct(hostile: str) -> None:
    for response in (hostile, rf"\boxed{{{hostile}}}"):
        assert check_math(response, "42", 3).label != "correct"
    assert check_math(r"\boxed{42}", hostile, 3).label != "correct"
    assert check_math(r"\boxed{x+1}", "1+x", 60).label == "correct"


def test_text_is_never_run_as_code(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    code = f"__import__('pathlib').Path('{mark}').touch()"
    for response in (code, rf"\boxed{{{code}}}", f"The answer is {code}"):
        check_math(response, "42", 60)
    check_math(r"\boxed{42}", code, 60)
    assert not mark.exists()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gets_a_verdict(response: str, gold: str) -> None:
    verdict = check_math(response, gold, 30)
    assert verdict.label in ("correct", "incorrect", "undecided")
    if not gold.strip():
        assert verdict.label == "undecided"


@settings(max_examples=200, deadline=None)
@given(st.integers(-10**30, 10**30), st.integers(-10**30, 10**30))
def test_integers_are_equal_exactly_when_they_are(one: int, other: int) -> None:
    assert check_math(rf"\boxed{{{one:,}}}", str(one)).label == "correct"
    assert (check_math(rf"\boxed{{{one}}}", f"#### {other:,}").label == "correct") == (one == other)


def test_gsm8k_references_accept_themselves_and_refuse_a_changed_one() -> None:
    path = DATA / "gsm8k" / "test.jsonl"
    if not path.exists():
        pytest.skip("needs the GSM8K test set in the sibling folder shared/data/gsm8k")
    golds = [json.loads(line)["answer"] for line in path.read_text("utf-8").split("\n") if line]
    for gold in random.Random(0).sample(golds, 300):
        value = gold.rsplit("####")[-1].strip()
        assert check_math(gold, gold).label == "correct"
        assert check_math(f"The answer is {value}.", gold).label == "correct"
        assert check_math(f"The answer is {value}1.", gold).label == "incorrect"


def test_it_agrees_with_the_published_grading_examples() -> None:
    path = DATA / "math_pairs" / "dev.jsonl"
    if not path.exists():
        pytest.skip("needs the graded pairs in the sibling folder shared/data/math_pairs")
    pairs = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    agree = [(check_math(pair["prediction"], pair["gold"], 60).label == "correct") == pair["expected"]
             for pair in pairs]
    agreed_on = [good for good, pair in zip(agree, pairs, strict=True) if pair["consensus"]]
    wrongly_correct = [pair for good, pair in zip(agree, pairs, strict=True)
                       if pair["consensus"] and not good and not pair["expected"]]
    assert sum(agree) / len(agree) >= 0.90
    assert sum(agreed_on) / len(agreed_on) >= 0.97
    assert not wrongly_correct
