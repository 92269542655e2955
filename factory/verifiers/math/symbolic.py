r"""The part of `verify.math` that needs a symbolic library: it runs in a worker process, under a deadline.

Math-Verify reads LaTeX into SymPy and compares. Around it: a reference is *valid* only if it can be read, has a value
and is equal to itself; and three forms that Math-Verify refuses are equal too: lists that agree piece by piece, a value
said beside its names (`y_1 = …, y_2 = …` against two expressions), and a decimal that is the value of the reference
rounded in all of its places (at least four).
"""

from __future__ import annotations

import functools
import re
import time
from fractions import Fraction
from typing import Any, Literal

from factory.verifiers.math.numbers import Number, read_number, rounds_to
from factory.verifiers.math.values import Words, readings
from factory.verifiers.spelling import is_whole, same_text, split_top, squeeze, tidy

Outcome = Literal["equal", "different", "unread", "gold_unparseable", "gold_unequal_to_itself"]

_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_THIN = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|,\\!|~)+(?=\d{3})")
_SYMBOLS = str.maketrans({"−": "-", "–": "-", "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "π": r"\pi ",
                          "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ",
                          "∩": r"\cap ", "∈": r"\in ", "°": r"^\circ ", "±": r"\pm ", "（": "(", "）": ")",
                          "，": ","})
_UNIT_LIKE = re.compile(r"\\(?:text|mathrm|mbox|textrm)|\d\s+[A-Za-z]+")
_LONG_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}(?![A-Za-z])")
# the library takes the greatest common divisor of any two symbols to be 1
_MISREAD = re.compile(r"\\(?:gcd|lcm)(?![a-z])|\\(?:text|operatorname|mathrm)\s*\{\s*(?:gcd|lcm)\s*\}")
_SUBSCRIPT = re.compile(r"_\s*\{\s*\\(?:text\s*\{([A-Za-z0-9]+)\}|(odot|oplus|star|perp|parallel))\s*\}")
_PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_TYPICAL = (r"\frac{1}{2}+\sqrt{3}x^{2}-\pi", r"(-\infty,1)\cup[2,3]", r"\{1,2\}", r"x=2y+1", "a_1<3",
            r"\log(2)\sin(x)",
            r"\begin{pmatrix}1&2\end{pmatrix}", r"2+3i", r"e^{-x}", r"f(2n)=\frac{(2n)!}{n!}", r"[\sqrt{5}a,-10]",
            r"-\frac{a}{8}\log{2}-\cos^{2}(4t)", r"\lim_{n\to\infty}\frac{1}{n}", r"y=\binom{4}{2}", r"|x|")
_MOST_PIECES = 12
_LEFT_SIDE = re.compile(r"^[^=<>]{1,30}(?<![<>!\\])=(?!=)")


def load() -> None:
    """What a worker does once, before its first call."""
    import logging

    # Math-Verify warns that its time limits are off; they are off on purpose.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    for text in _TYPICAL:  # the parser learns its grammar as it goes: the first texts of a kind take long
        parsed = _parse(text, True)
        _equals(parsed, parsed)
    _equals(_parse("x", True), _parse("1/2", True))


def decide(gold: str, gold_bare: bool, answers: tuple[str, ...], bare: bool) -> Outcome:
    """The first answer is compared with the reference; if it differs and there are more, all others must be equal to
    it. Without answers only the reference is checked."""
    fault = gold_fault(gold, gold_bare)
    if fault:
        # What Math-Verify cannot read, a group or a space of functions, is still equal to the same text.
        same = fault == "gold_unparseable" and answers and is_whole(gold) and same_text(gold, answers[0])
        return "equal" if same else fault
    if not answers:
        return "equal"
    first = _compare(gold, gold_bare, answers[0], bare)
    if first == "equal" or len(answers) == 1:
        return first
    return "equal" if all(_compare(gold, gold_bare, one, bare) == "equal" for one in answers[1:]) else "different"


def timed_decision(gold: str, gold_bare: bool, answers: tuple[str, ...], bare: bool) -> tuple[Outcome, float]:
    """`decide`, and the seconds it took."""
    started = time.perf_counter()
    return decide(gold, gold_bare, answers, bare), time.perf_counter() - started


@functools.lru_cache(maxsize=512)
def gold_fault(gold: str, bare: bool) -> Literal["gold_unparseable", "gold_unequal_to_itself"] | None:
    """Why a reference cannot be judged by; None if it can."""
    from sympy import Basic, nan, zoo  # type: ignore[import-untyped]

    if readings(tidy(gold)):
        return None
    if not bare and len(_LONG_WORD.findall(gold)) > 8:
        return "gold_unparseable"  # a sentence: only its text can be compared, and looking into it takes long
    parsed = [item for item in _parse_gold(gold, bare) if not isinstance(item, str)]
    if any(isinstance(item, Basic) and item.has(zoo, nan) for item in parsed):
        return "gold_unequal_to_itself"
    if not parsed:
        return "gold_unparseable"
    return None if _equals(parsed, parsed) else "gold_unequal_to_itself"


@functools.lru_cache(maxsize=512)
def _parse_gold(gold: str, bare: bool) -> list[Any]:
    return _parse(gold, bare)


def _compare(gold: str, gold_bare: bool, answer: str, bare: bool) -> Outcome:
    if same_text(gold, answer):
        return "equal"
    parsed = _parse(answer, bare)
    if not parsed:
        return "unread"
    wanted = _parse_gold(gold, gold_bare)
    if bare and not re.search(r"%|\\text|\d\s+[A-Za-z]", gold + answer) and _apart(wanted, parsed):
        return "different"
    if _equals(wanted, parsed) or _rounded(gold, wanted, answer, parsed) or _by_pieces(gold, answer):
        return "equal"
    if gold_bare and bare and (_UNIT_LIKE.search(gold) or _UNIT_LIKE.search(answer)):
        return "equal" if _equals(_parse_latex(gold, True), _parse_latex(answer, True)) else "different"
    return "different"


def _parse(text: str, bare: bool) -> list[Any]:
    from math_verify import parse

    if not bare or (len(_LONG_WORD.findall(text)) > 5 and "\\" not in text):
        return list(parse(_for_math_verify(text), parsing_timeout=None))
    if _MISREAD.search(text):
        return [squeeze(tidy(text))]
    for units in (False, True) if _UNIT_LIKE.search(text) else (False,):
        found = _parse_latex(text, units)
        if any(not isinstance(item, str) for item in found):
            return found
    plain = _for_math_verify(tidy(text))
    return [plain] if "\\" in plain else list(parse(plain, parsing_timeout=None))


def _parse_latex(text: str, units: bool) -> list[Any]:
    """All of a bare text as LaTeX. Math-Verify's search for any number in what it cannot read as a whole stays off: it
    would find equal fragments in different answers."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    normal = NormalizationConfig(basic_latex=True, units=units, malformed_operators=True, nits=True, boxed="all",
                                 equations=False)
    return list(parse(f"${_for_math_verify(tidy(text))}$", [LatexExtractionConfig(normalization_config=normal)],
                      parsing_timeout=None))


def _equals(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, timeout_seconds=None))


def _rounded(gold: str, wanted: list[Any], answer: str, parsed: list[Any]) -> bool:
    """Whether one side is a decimal and the other an exact value that rounds to it."""
    for decimal, exact in ((read_number(tidy(answer)), wanted), (read_number(tidy(gold)), parsed)):
        value = _value(exact) if isinstance(decimal, Number) and decimal.places else None
        if value is not None and decimal is not None and rounds_to(value, decimal):
            return True
    return False


def _apart(wanted: list[Any], parsed: list[Any]) -> bool:
    """Whether both sides are one expression each, with values that differ at a point where all symbols are positive:
    that is known in a moment, where to look for a way to make them equal takes long."""
    from sympy import Expr, Rational

    sides = [[item for item in side if not isinstance(item, str)] for side in (wanted, parsed)]
    if any(len(side) != 1 or not isinstance(side[0], Expr) for side in sides):
        return False
    symbols = sorted(sides[0][0].free_symbols | sides[1][0].free_symbols, key=str)
    point = {symbol: Rational(7 + 4 * index, 5 + index) for index, symbol in enumerate(symbols)}
    values = [_number(side[0].subs(point), 15) for side in sides]
    if values[0] is None or values[1] is None:
        return False
    return abs(values[0] - values[1]) * 1000 > 1 + abs(values[0]) + abs(values[1])


def _value(parsed: list[Any]) -> Fraction | None:
    from sympy import Expr

    for item in parsed:
        if isinstance(item, Expr) and not item.free_symbols and (value := _number(item, 30)) is not None:
            return value
    return None


def _number(expression: Any, digits: int) -> Fraction | None:
    """The real value of an expression without symbols; None where it has none, or the library fails over it."""
    try:
        found = expression.evalf(digits)
        return Fraction(str(found)) if found.is_Float or found.is_Rational else None
    except Exception:  # what a model wrote finds every gap of the library
        return None


def _by_pieces(gold: str, answer: str) -> bool:
    """Lists without brackets whose pieces agree in some order; names are dropped where only one side has them."""
    golds, answers = (_pieces(text) for text in (gold, answer))
    if not 1 < len(golds) == len(answers) <= _MOST_PIECES:
        return False
    left = list(answers)
    for piece in golds:
        match = next((other for other in left if _equal_pieces(piece, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _pieces(text: str) -> list[str]:
    plain = re.sub(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z])(?:and|or)(?![A-Za-z])", ",", tidy(text))
    if plain[:1] == "⦃" and plain[-1:] == "⦄":
        plain = plain[1:-1]
    parts = [part for part in split_top(plain, ",;") if part]
    return [spread for part in parts for spread in _both_signs(part)]


def _both_signs(text: str) -> list[str]:
    """A text with one ± as the two that it stands for."""
    found = list(_PLUS_MINUS.finditer(text))
    if len(found) != 1:
        return [text]
    return [text[:found[0].start()] + sign + text[found[0].end():] for sign in "+-"]


def _equal_pieces(gold: str, answer: str) -> bool:
    named = [bool(_LEFT_SIDE.match(text)) for text in (gold, answer)]
    if named[0] != named[1]:
        gold, answer = (_LEFT_SIDE.sub("", text) for text in (gold, answer))
    one, other = readings(gold), readings(answer)
    if any(isinstance(value, Words) for value in (*one, *other)):
        return one == other
    return gold == answer or _equals(_parse(gold, True), _parse(answer, True))


def _for_math_verify(text: str) -> str:
    """Put spellings that Math-Verify misreads into LaTeX: Unicode signs, programmers' powers and roots, thousands."""
    text = text.translate(_SYMBOLS).replace("\\$", "").replace("⦃", r"\{").replace("⦄", r"\}")
    if "\\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z(\[{])", r"\\", text)
    text = _SUBSCRIPT.sub(lambda found: f"_{{{found[1] or found[2]}}}", _THIN.sub("", text))
    text = re.sub(r"^\s*(-?\d[\d./]*)\s*=\s*([A-Za-z])\s*$", r"\2=\1", text)
    text = re.sub(r"(^|=)\s*\+(?=\d)", r"\1", text)
    text = _regroup(text.replace("**", "^"), re.compile(r"(?<![\\A-Za-z])sqrt\s*\(|√\("), r"\sqrt{", "}")
    text = _regroup(text, re.compile(r"\^\("), "^{", "}")
    text = re.sub(r"√(\d+|[A-Za-z])", r"\\sqrt{\1}", text)
    if not re.search(r"[\[({]|,\s", text):
        text = _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text)
    return text


def _regroup(text: str, opening: re.Pattern[str], left: str, right: str) -> str:
    """Replace the parentheses that begin with `opening` by other brackets, innermost last."""
    pieces: list[str] = []
    closers: list[str] = []
    at = 0
    while at < len(text):
        match = opening.match(text, at)
        if match:
            pieces.append(left)
            closers.append(right)
            at = match.end()
            continue
        sign = text[at]
        if sign == "(":
            closers.append(")")
        elif sign == ")" and closers:
            sign = closers.pop()
        pieces.append(sign)
        at += 1
    return "".join(pieces) if not closers else text
