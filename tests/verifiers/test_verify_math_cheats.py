"""verify.math against answers that say more than they may, and right ones in rarer forms: a case for every class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factory.verifiers.math import check_many

WRONG: dict[str, dict[str, tuple[str, ...]]] = {
    "approximations": {
        "5": (r"5 \approx 6", r"6 \approx 5"),
        "6": (r"x = 5 \approx 6", r"!The answer is $5 \approx 6$.", "!<answer>5 ≈ 6</answer>"),
        "B": (r"A \approx B",),
        r"\text{Sunday}": (r"\text{Monday} \approx \text{Sunday}",),
        "(1,2)": (r"(1,2)\approx(2,1)",),
        "7": (r"1,2,3 \approx 7", r"\pi \approx 7"),
    },
    "chains": {
        "5": ("6 = 5",),
        "6": ("x=5=6",),
        "x^2+1": ("x^2-1 = x^2+1",),
    },
    "options": {
        "A": ("(A)(B)(C)(D)", "(A) or (B)", "A. or B. or C.", "(A),(B)", "(A) foo (B) bar (C) baz", "(A) is wrong",
            "(A) B", r"A \text{ (or B)}", r"A\text{ maybe}"),
        "B": ("(B) but maybe (A)", "B. C."),
    },
    "words behind a number": {
        "5": (r"5\text{ or more}", r"5\text{ or six}", r"5\text{ is wrong}", r"5\text{ but not positive}",
            r"5\text{ and a half}", r"5\text{ plus two}", r"5\text{ squared}", "5 cubed", r"5\text{ factorial}",
            r"5\text{ negative}", r"5\text{ tenths}", r"5\text{ lakh}", r"5\text{ divided by 2}",
            r"5\text{ to the power 2}", r"5\text{ upwards}", r"5\text{ or}", r"5\text{M}", r"5\text{ millions}",
            "5^{-}"),
        "1": (r"1\text{ third}",),
        "3": ("3 halves", "3 quarters"),
        "2": (r"2\text{x}", r"2\mathrm{x}", r"2\text{ pi}", r"2\text{ times x}"),
        r"\frac{1}{2}": (r"\frac12\text{ squared}", r"\frac12\text{ of }3"),
        r"\sqrt{2}": (r"\sqrt2\text{ squared}",),
    },
    "chinese behind a number": {
        "5": ("5万元", "5百万", "5十亿", "5千", "5百", "5分之一", "5的平方", "5的倍数", "5又1/2", "5以上", "5到6",
            "5不对", "5次方", "5除以2", "5之外"),
    },
    "measures": {
        r"5\text{ cm}": (r"5\text{ cm}^2", r"5\text{ cm}^3"),
        "5米": ("5平方米",),
        r"5\text{ m/s}": (r"5\text{ km/h}",),
        r"5\text{ MB}": (r"5\text{ GB}",),
        r"5\text{ W}": (r"5\text{ kW}",),
        "5元": ("5角",),
        r"5\text{ rad}": (r"5^\circ",),
        r"\$50": (r"50\text{ cents}", "€50", "£50", r"50\%", r"!\boxed{50}\text{ cents}"),
        "10 cm": ("10 m",),
        "10 m": ("10 cm",),
        r"5\text{ m}^2": (r"5\text{ cm}^2",),
    },
    "bases": {
        "101_3": ("101_2",),
        "1010": ("1010_2",),
        "101": (r"!\boxed{101}_2",),
        "0.0011_2": ("0.0011_{12}",),
        "5": ("5'", "5''"),
    },
    "order and number": {
        "x=1,y=2": ("2,1",),
        "x=1, y=3": ("(3,1)",),
        "2,2,1": ("1,1,2",),
    },
    "bounds and denials": {
        "5": ("!The answer is not 5.", "!The answer is negative 5.", "!The answer is minus 5.",
            "!The answer is less than 5.", "!The answer is more than 5.", "!The answer is at most 5.",
            "!The answer is half of 5.", "!The answer is not $5$.", "!The answer is minus $5$.", "!答案不是5",
            "!答案不为5", "!答案是大于5", "!答案是小于5的数", "!答案是至少5个", "!It is not 5.", "!It is not $5$.",
            "!x is less than 5.", "!So the result is minus 5.", "!There are more than 5 apples.", "!答案并不是5。",
            "!答案大于5", "!因此x不为5。", "!The answer is ~~5~~.", "!We get x > 5.", "!所以x≠5",
            "!So x cannot equal 5.", "!The answer is 5. No, 6."),
    },
    "several in prose": {
        "5": ("!The answer is 5, or maybe 6", "!The answer is either 5 or 6.", "!The answer is 5 apples and 6 pears",
            "!The answer is 5, but it might be 6.", "!The answer is approximately 5-6.", "!The answer is 5 times 2.",
            "!The answer is 5 less than 11.", "!The answer is $5$ to $6$.", "!The answer is $5$ or more.",
            "!The answer is $5$ squared.", "!答案是5到6之间", "!Answer: 5 hours 30 minutes", "!Answer: $5 million",
            "!The answer is 5 multiplied by 2.", "!答案是$5$或$6$。"),
    },
    "finals that contradict": {
        "5": ("!\\boxed{5}\n#### 6", "!#### 5\nThe answer is 6", r"!\boxed{5} is wrong; the right answer is 6.",
            "!<answer>5</answer><answer>6</answer>", r'!\boxed{6} {"answer": "5"}', r"!\boxed{5}，答案是6。"),
    },
}
"""Class -> reference -> answers wrong for it: in a box, or the whole response where they begin with `!`."""
RIGHT: dict[str, dict[str, tuple[str, ...]]] = {
    "intervals": {
        "(1,2)": ("1<x<2",),
        r"(-\infty,1)\cup(2,\infty)": (r"x>2 \text{ or } x<1",),
        "[1,2)": (r"1\leq x<2",),
    },
    "decimals that go on": {
        "1/3": (r"0.\overline{3}", "0.333...", r"0.\bar{3}", r"0.333\ldots"),
    },
    "words": {
        "i": (r"\sqrt{-1}",),
        "no solution": (r"\emptyset", r"\text{no solutions}", r"\{\}"),
        "ellipse": (r"\text{an ellipse}",),
        r"\sqrt{-1}": ("i",),
    },
    "bases": {
        "12_8": ("10", "(12)_8"),
        "10": ("12_8",),
    },
    "measures": {
        "10 m": (r"1000\text{ cm}",),
        "10 cm": ("0.1 m",),
        r"\$0.50": (r"50\text{ cents}", "50¢"),
        "60 km/h": ("1 km/min",),
    },
    "chinese": {
        "B": ("!答案选B。", "!所以选择B选项。", "!正确选项为B", "!故本题选 B。", "!【答案】B\n【解析】因为 3+2=5"),
        "5": ("!答案是五。", "五"),
        "25": ("!答案是二十五",),
        "105": ("一百零五",),
        "1/3": ("!答案是三分之一",),
        r"5\%": ("!答案:百分之五",),
        "11/2": ("5又1/2", "五又二分之一", "五点五"),
        "50000": ("5万元", r"5\text{万元}"),
        "-5": ("!答案是负5。",),
    },
    "prose": {
        "-5": ("!The answer is negative 5.", "!So the result is minus 5.", r"\text{negative }5"),
        "11": ("!She has 11 dollars left out of 50.", "!The answer is not 12 but 11.", "!✅ **11**",
            "!The answer is 11, as 5+6=11."),
        "5": (r"!\boxed{\textbf{(A)}\ 5}", "!所以有5个，不是6个。"),
        "B": ("!The answer is B because A is wrong.", "!The correct option is B.", "!Option B", "!Answer: B) 5"),
        "0.05": (r"!\boxed{5}\%",),
        "9:30": (r"9\!:\!30",),
        "5000000": ("!He earned $5 million.",),
        "x>5": ("!We get x > 5.",),
        "6": ("!The answer is 5. No, 6.",),
    },
    "rounded": {
        r"\pi": ("3.1416",),
    },
}
"""Class -> reference -> answers that are right."""


def _responses(answers: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for gold, texts in answers.items():
        for text in texts:
            yield text[1:] if text.startswith("!") else rf"So \boxed{{{text}}}.", gold


@pytest.mark.parametrize(("answers", "label"), [
    *(pytest.param(answers, "incorrect", id=f"wrong: {name}") for name, answers in WRONG.items()),
    *(pytest.param(answers, "correct", id=f"right: {name}") for name, answers in RIGHT.items())])
def test_every_answer_of_a_class_is_judged_for_what_it_says(answers: dict[str, tuple[str, ...]], label: str) -> None:
    pairs = list(_responses(answers))
    verdicts = check_many(pairs, 60)
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.label != label] == []


@pytest.mark.parametrize("gold", [
    "5k", "a_{12}", "A_1", "2k", "5'", r"5 \text{ or more}", r"x \neq 5", r"5 \pm 1", "10 m", "3m", "2h", "5A", "x+y=2",
    r"\text{at least }5", "101_2", "0.0011_2", "€5", r"\$5", "9:30", "(A) 5", "五万", "-5", r"0.\overline{3}", "x>2"])
def test_a_reference_in_a_rare_form_accepts_itself(gold: str) -> None:
    assert check_many([(rf"\boxed{{{gold}}}", gold)], 60)[0].label == "correct"


@pytest.mark.parametrize("response", [
    "So he must buy at least 5 buses.", "She is not happy, so she has 5 apples.", "He ran more than Bob: 5 miles.",
    "They are not 12 but 5 years old.", "He could buy 5 or more, so the answer is 5.", "Either way, he has 5.",
    "There were 10 - 5 = 5 boys.", "Between 3 and 8 there are 5 numbers, so the answer is 5.", "答：至少需要5辆车。",
    "因此，不等式的最大整数解是5。", "因此非负整数解共有5个", "她不但有钱，还有5个苹果",
    r"\boxed{5\text{ one-dollar bills}}",
    r"\boxed{5\text{ more apples}}", r"\boxed{\approx 5}", r"\boxed{5\text{ in}^2}",
    r"\boxed{5\text{ miles per hour}}"])
def test_words_that_deny_something_else_deny_no_answer(response: str) -> None:
    assert check_many([(response, "5")], 60)[0].label == "correct"
