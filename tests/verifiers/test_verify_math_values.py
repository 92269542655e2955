"""The comparison without a symbolic library: equal to exact arithmetic where it decides, silent where not certain."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.verifiers.math.probe import differ
from factory.verifiers.math.same import any_same
from factory.verifiers.math.values import readings
from factory.verifiers.spelling import tidy

NUMBERS = st.fractions(max_denominator=60).map(lambda value: value.limit_denominator(60))


def _same(gold: str, answer: str) -> bool | None:
    return any_same(readings(tidy(gold)), readings(tidy(answer)))


def _spellings(value: Fraction) -> list[str]:
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    spelt = [rf"{sign}\frac{{{top}}}{{{bottom}}}", rf"{sign}\dfrac{{{2 * top}}}{{{2 * bottom}}}",
    f"{sign}{top}/{bottom}",
             rf"\left( {sign}\tfrac{{{top}}}{{{bottom}}} \right)", f"$x = {sign}{top}/{bottom}$"]
    if top > bottom > 1:
        spelt.append(rf"{sign}{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}")
    if bottom == 1:
        spelt += [f"{sign}{top}", f"{sign}{top:,}", f"{sign}{top}.0", rf"{sign}{top}\text{{ cm}}",
        f"{sign}{top} apples"]
    return spelt


@settings(max_examples=300, deadline=None)
@given(NUMBERS, NUMBERS)
def test_numbers_are_equal_exactly_when_their_values_are(one: Fraction, other: Fraction) -> None:
    for gold in _spellings(one)[:4]:
        for answer in _spellings(other):
            assert _same(gold, answer) is (one == other), (gold, answer)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.permutations(range(6)))
def test_sets_have_no_order_and_tuples_have_one(items: list[int], order: list[int]) -> None:
    turned = [items[index] for index in order if index < len(items)]
    listed, other = (", ".join(map(str, some)) for some in (items, turned))
    assert _same(rf"\{{{listed}\}}", other) is True
    assert _same(listed, rf"$\left\{{{other}\right\}}$") is True
    assert _same(f"({listed})", f"({other})") is (items == turned)
    assert _same(rf"\{{{listed}\}}", f"{other}, 100") is False
    assert _same(listed, f"({other})") is None


@settings(max_examples=200, deadline=None)
@given(st.decimals(-1000, 1000, allow_nan=False, places=6))
def test_a_decimal_of_four_places_is_what_rounds_to_it(value: object) -> None:
    exact = Fraction(str(value))
    short = f"{float(round(exact, 5)):.5f}"
    behind = short.partition(".")[2].lstrip("0") if abs(exact) < 1 else short.partition(".")[2]
    if len(behind) >= 4:
        assert _same(f"{exact.numerator}/{exact.denominator}", short) is True
    assert _same(f"{exact.numerator}/{exact.denominator}", f"{float(exact) + 0.01:.5f}") is False


@pytest.mark.parametrize(("gold", "answer", "expected"), [
    ("12,345,678", "12345678", True), ("0,111", "0.111", True), ("1000", r"1 \times 10^3", True), ("28\\%",
    "0.28", True),
    ("28\\%", "28 percent", True), ("0.5", "5\\%", False), ("100", "1 m", None), (r"1\text{ m}",
    r"100\text{ cm}", True),
    (r"2\text{ kg}", r"2\text{ hours}", False), ("0.75 dollars", "75 cents", True), ("18", "18小包", True), ("0.64N",
    "0.64", None),
    ("3x", "3", None), ("12 m", "12", None), ("[0,9)", "(0,9)", False), ("(1,2)", "[1,2]", None), ("\\pm 5",
    "5, -5", True),
    ("\\pm 5", "5", False), ("(p,q)=(3,2)", "(3,2)", True), ("p=5,q=2;p=7,q=2", "(5,2),(7,2)", None),
    ("x=2, y=3", "2, 3", True), ("x=2, y=3", "3, 2", False), ("x=2, x=-3", "-3, 2", True), ("x=5", "y=5", None),
    ("2=x", "2", True), ("Monday", r"\text{monday}", True), ("no solution", "solution on", False), ("12:00",
    "1:00", False),
    ("True", "Yes", True), ("three", "3", True), ("C", "(C)", True), ("C", "D", False), ("d", r"\text{E}", False),
    ("E", "e", None),
    (r"(-\infty,1)\cup(2,3]", r"(2,3]\cup(-\infty,1)", True), (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)", None),
    (r"\begin{pmatrix}1&0\\0&\frac12\end{pmatrix}", r"\begin{bmatrix} 1 & 0 \\ 0 & 0.5 \end{bmatrix}", True),
    ("10,000, 20,000", "20000 and 10000", True), ("1,234", "1, 234", True), ("2^{10}", "1024", True), (r"\sqrt{16}",
    "4", True),
    ("10^{10^{10}}", "10", None), ("2^{9999}", "2", None), ("1/0", "1/0", None), ("(1+2)*3", "9", True), ("٣",
    "3", True),
])
def test_known_pairs(gold: str, answer: str, expected: bool | None) -> None:
    assert _same(gold, answer) is expected


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="0123456789.,-+/*^()[]{}⦃⦄\\fracsqtexpmdotin %:;=_xN ", max_size=40))
def test_reading_never_fails_and_tidying_twice_changes_nothing(text: str) -> None:
    once = tidy(text)
    readings(once)
    assert tidy(tidy(once)) == tidy(once)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_what_can_be_read_equals_itself(text: str) -> None:
    assert _same(text, text) is not False


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["x", "y_1", r"\pi", "2", r"\sqrt{3}", r"\frac{1}{x}",
r"\ln(y)"]), min_size=3, max_size=3))
def test_a_probe_never_tells_equal_expressions_apart(parts: list[str]) -> None:
    one, other, third = parts
    assert not differ(f"({one})({other}+{third})", rf"({one})\cdot({other}) + ({third})*({one})")
    assert not differ(rf"\frac{{{one}}}{{{other}}}", f"({one})*({other})^{{-1}}")
    assert differ(f"({one})({other}+{third})", rf"({one})\cdot({other}) + ({third})*({one}) + 1")


@pytest.mark.parametrize(("gold", "answer"), [
    ("1/2x", "x/2"), ("f(x)", "3"), ("12", "12 m"), (r"4\sqrt{2}", r"4\sqrt{2}cm"), ("2", "i"), (r"\sqrt{-x}", "2"),
    (r"\log(2)", r"\ln(2)"), ("|x|", "-x"), ("3", "1\\frac{1}{2}x"), ("10^{10^{10}}", "2"), ("9^{9^{9^9}}", "2")])
def test_what_has_two_readings_is_not_told_apart(gold: str, answer: str) -> None:
    assert not differ(gold, answer)
