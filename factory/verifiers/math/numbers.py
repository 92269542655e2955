r"""Numbers as exact fractions, read without a symbolic library: `-1,234.50`, `2\frac12`, `3/4`, `1.5\times10^{-3}`,
`35\%`, `\$18.90`, `12 cm^2`, `7 apples`, `2^{10} - 1`, `\sqrt{16}`.

A number keeps how it was written where that matters: `places`, the digits behind the point of a decimal (None for what
is exact by its form), `percent`, and `unit`. Two numbers are *equal* when

- their values are, or
- one is a decimal with at least four significant digits behind the point and the other rounds to it in all of them
  (`0.3333` for 1/3, `2.6667` for 8/3; never `5.001` for 5), or both differ by less than a float's noise;
- a percentage equals its hundredth, and the bare number of per cents (`35\%` is 0.35, and 35 where per cents are
  asked);
- units count only where both sides have one that is known: what measures the same is converted, other kinds differ,
  and no measure is a percentage;
- `101_2` is the number 5, and `0.333\ldots` is 1/3.

Everything here is bounded: no power, digit string or nesting can make it slow.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from factory.verifiers.math.chinese import leading_scale, read_chinese
from factory.verifiers.math.units import SCALES, Unit, known_unit, read_unit

LONGEST_NUMBER = 400
_PLAIN = re.compile(r"([-+]?)\s*([1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)?(\.\d*)?")
_HAS_DIGIT = re.compile(r"\d")
_TOKEN = re.compile(r"\s*(?:(\\frac|\\sqrt|\\cdot|\\times|[-+*/^(){}])"
                    r"|([1-9]\d{0,2}(?:,\d{3})+(?![\d,])|\d+)?(\.\d+)?)")
_SCIENCE = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(?:[eE]\s*|(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*)"
                      r"(?:\{\s*)?([-+]?\d{1,3})(?:\s*\})?(?=$|[^\d.])")
_MIXED = re.compile(r"([-+]?)\s*(\d+)\s*(?:又?\s*\\frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}"
                    r"|(?:\s|\s*and\s+|\s*又\s*)(\d+)\s*/\s*(\d+))")
_FRAC = re.compile(r"([-+]?)\s*\\frac\{\s*([-+]?\d+)\s*\}\{\s*([-+]?\d+)\s*\}")
_RATIO = re.compile(r"([-+]?\d+)\s*/\s*([-+]?\d+)")
_SUFFIX_PERCENT = re.compile(r"\s*(?:%|\\text\{\s*(?:percent(?:age)?|per cent|%)\s*(?:points?)?\s*\}"
                             r"|(?:percent(?:age)?|per cent)"
                             r"\b(?:\s+points?\b)?)\s*")
_ORDINAL = re.compile(r"^\^?\{?\s*\\text\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?")
_BASE = re.compile(r"([-+]?)\s*\(?\s*(\d[0-9A-Fa-f]{0,80}(?:\.[0-9A-Fa-f]{1,80})?)\s*\)?\s*_\s*\{?\s*(?:\(?(\d{1,2})\)?"
                   r"|\\text\{\s*([a-z]{3,9})\s*\})\s*\}?")
_BASES = {name: base for base, name in enumerate(
    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 2)} | {"sixteen": 16}
_NEGATIVE = re.compile(r"(?:\\text\s*\{\s*(?:negative|minus)\s*\}|(?:negative|minus)\s|负)\s*(?=[\d.]|\\frac)")
_MARKED = re.compile(r"\\text\s*\{([^{}]*)\}")
_CHINESE_TEXT = re.compile(r"^\\text\s*\{\s*([\u4e00-\u9fff]+)\s*\}")
_RECURRING = re.compile(r"([-+]?)\s*(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot)\s*\{?(\d{1,30})\}?")
_GOES_ON = re.compile(r"([-+]?)\s*(\d{0,30})\.(\d{1,60}?)\s*\\ldots")
_REPEATED = re.compile(r"(\d*?)(\d{1,6}?)\2+")
_POWER_LIMIT = 64
_DIGIT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value and how it was written (module docstring)."""

    value: Fraction
    places: int | None = None
    percent: bool = False
    unit: Unit | None = None

    @property
    def digits(self) -> int:
        """Significant digits behind the point."""
        if not self.places:
            return 0
        behind = abs(self.value) * 10**self.places
        whole = abs(self.value) >= 1
        return self.places if whole else len(str(int(behind))) if behind else 0


def read_number(text: str) -> Number | None:
    """A tidy text as a number, with its percent sign or unit; None if it is anything else, or might be."""
    if len(text) > LONGEST_NUMBER:
        return None
    text = _NEGATIVE.sub("-", text.strip(), count=1) if _NEGATIVE.match(text.strip()) else text.strip()
    chinese = read_chinese(text)
    if chinese:
        return Number(chinese[0], percent=chinese[1])
    if not _HAS_DIGIT.search(text):
        return None
    special = _in_base(text) or _without_end(text)
    if special:
        return special
    found = _read_prefix(text)
    if found is None:
        value = _evaluate(text)
        return None if value is None else Number(value)
    number, end = found
    rest = _ORDINAL.sub("", text[end:]).strip()
    if not rest:
        return number
    percent = _SUFFIX_PERCENT.match(rest)
    if percent:
        return replace(number, percent=True) if percent.end() == len(rest) else None
    if rest[0] in "+-*/^(" or rest.startswith((r"\cdot", r"\times", r"\frac", r"\sqrt")):
        value = _evaluate(text)
        return None if value is None else Number(value)
    return _with_unit(number, rest, text[end:end + 1].isspace())


def _with_unit(number: Number, rest: str, apart: bool) -> Number | None:
    rest = _CHINESE_TEXT.sub(r"\1", rest)
    times, end = leading_scale(rest)
    if end:
        number = Number(number.value * times)
        if end == len(rest):
            return number
    unit = read_unit(rest[end:], apart)
    if unit is None:
        return None
    scale = SCALES.get(unit.name)
    return Number(number.value * scale) if scale else replace(number, unit=unit)


def read_measure(text: str) -> Number | None:
    """A number and a known unit, where one letter too is taken for a unit: 10 m."""
    found = _read_prefix(text) if len(text) < 60 and _HAS_DIGIT.match(text.lstrip("-+. ")) else None
    unit = known_unit(_MARKED.sub(r" \1 ", text[found[1]:]).strip(" .")) if found and found[1] < len(text) else None
    return replace(found[0], unit=unit) if found and unit else None


def _in_base(text: str) -> Number | None:
    """`101_2`; None where a digit is none of the base."""
    found = _BASE.fullmatch(text)
    base = (int(found[3]) if found[3] else _BASES.get(found[4], 0)) if found else 0
    if found is None or not 2 <= base <= 36:
        return None
    whole, _, behind = found[2].partition(".")
    try:
        value = Fraction(int(whole + behind, base), base**len(behind))
    except ValueError:
        return None
    return Number(-value if found[1] == "-" else value)


def _without_end(text: str) -> Number | None:
    r"""`0.1\overline{6}` and `0.1666\ldots`, exact; of other digits that go on at least four are a rounded decimal."""
    found = _RECURRING.fullmatch(text)
    if found:
        start, cycle = found[3], found[4]
    else:
        found = _GOES_ON.fullmatch(text)
        if found is None:
            return None
        repeated = _REPEATED.fullmatch(found[3])
        if repeated is None:
            number = Number(Fraction(f"{found[1]}{found[2] or 0}.{found[3]}"), len(found[3]))
            return number if number.digits >= 4 else None
        start, cycle = repeated[1], repeated[2]
    value = Fraction(int((found[2] or "0") + start + cycle) - int((found[2] or "0") + start),
                     10**len(start) * (10**len(cycle) - 1))
    return Number(-value if found[1] == "-" else value)


def equal_numbers(one: Number, other: Number) -> bool:
    """Whether two numbers are equal by the rules of the module docstring."""
    if one.unit and other.unit and one.unit.kind and other.unit.kind:
        if one.unit.kind != other.unit.kind:
            return False
        if one.unit.scale != other.unit.scale:
            return one.value * one.unit.scale == other.value * other.unit.scale
    if one.percent and other.percent:
        return _close(one, other)
    if any(side.percent and against.unit and against.unit.kind for side, against in ((one, other), (other, one))):
        return False
    if one.percent or other.percent:
        cents, plain = (one, other) if one.percent else (other, one)
        hundredth = replace(cents, value=cents.value / 100, places=cents.places + 2 if cents.places else None)
        return _close(replace(cents, percent=False), plain) or _close(hundredth, plain)
    return _close(one, other)


def rounds_to(value: Fraction, decimal: Number) -> bool:
    """Whether a decimal with at least four significant digits behind its point is `value`, rounded."""
    if decimal.digits < 4 or decimal.places is None:
        return False
    gap = abs(value - decimal.value)
    return gap * 10**decimal.places * 2 <= 1 or gap <= abs(value) * Fraction(1, 10**12)


def _close(one: Number, other: Number) -> bool:
    if one.value == other.value:
        return True
    if one.places is None and other.places is None:
        return False
    coarse, fine = sorted((one, other), key=lambda number: math.inf if number.places is None else number.places)
    return rounds_to(fine.value, coarse)


def _read_prefix(text: str) -> tuple[Number, int] | None:
    """The number at the start of a text, and where it ends."""
    for pattern, build in ((_SCIENCE, _science), (_MIXED, _mixed), (_FRAC, _fraction), (_RATIO, _ratio)):
        found = pattern.match(text)
        if found:
            number = build(found)
            return None if number is None else (number, found.end())
    found = _PLAIN.match(text)
    if found is None or (found[2] is None and (found[3] is None or len(found[3]) < 2)):
        return None
    behind = (found[3] or "").removeprefix(".")
    whole = (found[2] or "0").replace(",", "")
    value = Fraction(int(whole + behind), 10**len(behind))
    end = found.end()
    if text[end:end + 1] == ",":
        return None
    return Number(-value if found[1] == "-" else value, len(behind) if behind else None), end


def _science(found: re.Match[str]) -> Number:
    mantissa, exponent = Fraction(found[1]), int(found[2])
    behind = len(found[1].partition(".")[2])
    value = mantissa * (Fraction(10) ** exponent)
    places = behind - exponent
    # Written with a power of ten, a number is rounded at its last digit even where that stands before the point.
    return Number(value, places if behind and places > 0 else None)


def _mixed(found: re.Match[str]) -> Number | None:
    top, bottom = (found[3], found[4]) if found[3] is not None else (found[5], found[6])
    if int(bottom) == 0 or int(top) >= int(bottom):
        return None
    value = int(found[2]) + Fraction(int(top), int(bottom))
    return Number(-value if found[1] == "-" else value)


def _fraction(found: re.Match[str]) -> Number | None:
    if int(found[3]) == 0:
        return None
    value = Fraction(int(found[2]), int(found[3]))
    return Number(-value if found[1] == "-" else value)


def _ratio(found: re.Match[str]) -> Number | None:
    return Number(Fraction(int(found[1]), int(found[2]))) if int(found[2]) else None


def _evaluate(text: str) -> Fraction | None:
    """The value of plain arithmetic; None for everything else and for what grows too large."""
    if len(text) > 120 or ("," in text and "(" in text):
        return None
    tokens = _tokens(text)
    if not tokens:
        return None
    try:
        value, rest = _sum(tokens, 0, 0)
    except (_NotArithmetic, ZeroDivisionError):
        return None
    return value if rest == len(tokens) else None


class _NotArithmetic(Exception):
    """The text is no arithmetic, or too large."""


def _tokens(text: str) -> list[str | Fraction] | None:
    tokens: list[str | Fraction] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.end() == at:
            return None
        if found[1]:
            tokens.append({r"\cdot": "*", r"\times": "*"}.get(found[1], found[1]))
        elif found[2] or found[3]:
            tokens.append(Fraction((found[2] or "0").replace(",", "") + (found[3] or "")))
        elif text[at:].strip():
            return None
        at = found.end()
    return tokens


def _sum(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        right, after = _product(tokens, at + 1, depth)
        value = value + right if tokens[at] == "+" else value - right
        at = after
    return value, at


def _product(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _signed(tokens, at, depth)
    while at < len(tokens) and tokens[at] in ("*", "/"):
        right, after = _signed(tokens, at + 1, depth)
        value = value * right if tokens[at] == "*" else value / right
        at = after
        _bounded(value)
    return value, at


def _signed(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    sign = 1
    while at < len(tokens) and tokens[at] in ("+", "-"):
        sign = -sign if tokens[at] == "-" else sign
        at += 1
    value, at = _power(tokens, at, depth)
    return sign * value, at


def _power(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    base, at = _atom(tokens, at, depth)
    if at < len(tokens) and tokens[at] == "^":
        exponent, at = _signed(tokens, at + 1, depth + 1)
        if exponent.denominator != 1 or abs(exponent) > _POWER_LIMIT or (at < len(tokens) and tokens[at] == "^"):
            raise _NotArithmetic
        if base == 0 and exponent <= 0:
            raise _NotArithmetic
        base = _bounded(base ** int(exponent))
    return base, at


def _atom(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    if at >= len(tokens) or depth > 12:
        raise _NotArithmetic
    token = tokens[at]
    if isinstance(token, Fraction):
        return token, at + 1
    if token in ("(", "{"):
        value, at = _sum(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != {"(": ")", "{": "}"}[token]:
            raise _NotArithmetic
        return value, at + 1
    if token == r"\frac":
        top, at = _braced(tokens, at + 1, depth)
        bottom, at = _braced(tokens, at, depth)
        return _bounded(top / bottom), at
    if token == r"\sqrt":
        inner, at = _braced(tokens, at + 1, depth)
        return _exact_root(inner), at
    raise _NotArithmetic


def _braced(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    if at >= len(tokens) or tokens[at] != "{":
        raise _NotArithmetic
    return _atom(tokens, at, depth)


def _exact_root(value: Fraction) -> Fraction:
    if value < 0:
        raise _NotArithmetic
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root != value:
        raise _NotArithmetic
    return root


def _bounded(value: Fraction) -> Fraction:
    if max(abs(value.numerator).bit_length(), value.denominator.bit_length()) > _DIGIT_LIMIT * 4:
        raise _NotArithmetic
    return value
