r"""Answers read without a symbolic library.

`readings` says what a tidy text may mean. A reading is a number, an infinity, words, an option's letter, a group
(tuple, interval, set, list, union) or a matrix of readings, or a named value (`x=5`). A text that says more than
one value, or denies one, equals itself only (`Verbatim`). A text that says anything else, or only part of which is
understood, has no reading. `factory.verifiers.math.same` compares readings.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from factory.verifiers.math.hedges import agree, read_option, spoilt
from factory.verifiers.math.numbers import Number, read_number
from factory.verifiers.math.units import Unit
from factory.verifiers.spelling import split_top, squeeze, tidy, whole_bracket

MOST_ITEMS = 40
_TEXTS = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_][^\W\d_'\-]*(?:[ ,'’\-]+[^\W\d_][^\W\d_'\-]*)*")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
_LETTER = re.compile(r"(?:(?:option|choice|选项|选|故选)\s*[:：]?\s*)?\(?\s*(?:\\text\s*\{\s*\(?)?([A-Ja-j])\)?\s*\}?"
                     r"\s*\)?\s*(?:选?项)?", re.IGNORECASE)
_CURRENCY = re.compile(r"[\s$(\\]*?(?:(?P<dollar>\\\$|\$(?=[^$]*$))|(?P<euro>€)|(?P<sterling>£)|(?P<yuan>[¥￥]))"
                       r"\s*-?[\d.,]+\D{0,4}")
_INEQUALITY = re.compile(r"(?:(?P<low>.+?)\s*(?P<left><|\\leq(?![a-z]))\s*)?(?P<name>[A-Za-z](?:_\w)?)\s*"
                         r"(?P<right><|\\leq(?![a-z])|>|\\geq(?![a-z]))\s*(?P<high>[^<>]+?)")
_INFINITY = re.compile(r"([-+]?)\s*(?:\\infty|oo|inf(?:inity)?)")
_NAME = re.compile(r"(?:[A-Za-z]|\\(?!text|frac|sqrt|pm|begin|infty|pi)[A-Za-z]+(?:\s[A-Z]+)?)"
                   r"(?:_(?:[A-Za-z0-9]+|\{[^{}]*\}))?'{0,3}(?:\s*\([A-Za-z0-9]{1,3}(?:\s*,\s*[A-Za-z0-9]{1,3})*\))?"
                   r"|[A-Z]{2,4}|\|[A-Za-z]{1,3}\|"
                   r"|\\(?:overline|vec|angle|text|measuredangle|triangle)\s*(?:\{[^{}]*\}|[A-Z]+)"
                   r"|m?\\angle\s*[A-Z]+|\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])+\s*\)"
                   r"|[A-Z][A-Za-z_{}0-9]*\s*:\s*[A-Z][A-Za-z_{}0-9]*")
_CALL = re.compile(r"[A-Z]\w?\s*\([^()]*\)")
_MEMBER = re.compile(r"[A-Za-z](?:_\w)?\s*\\in(?![a-z])\s*")
_RELATION = re.compile(r"(?<![<>!\\=])=(?!=)")
_APPROX = re.compile(r"\\approx(?![a-z])|\\simeq(?![a-z])|≈")
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|或|和")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_DECIMAL_COMMA = re.compile(r"([-+]?)(\d+),(\d+)")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!\d)")
# in a list with spaces behind its commas, 12,000 is one number
_LOOSE_THOUSANDS = re.compile(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?=,\s|[;)\]\s]|$)")
_FUNCTIONS = frozenset((
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "mod", "max", "min", "gcd", "lcm", "alpha", "beta",
    "gamma", "delta", "theta", "lambda", "sigma", "infinity", "arctan", "arcsin", "arccos", "sinh", "cosh", "tanh",
    "frac"))
_PLUS_MINUS = re.compile(r"(?:(.*?)\s*)?\\pm(?![a-z])\s*(.+)")
_NUMBER_WORDS = {word: value for value, word in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])}
_EITHER = re.compile(r"(?i)either\s+(?=.*\bor\b)")
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=[^\W\d_]{3})")
_NOTHING = "no solution"
_SYNONYMS = {"no solutions": _NOTHING, "no real solution": _NOTHING, "no real solutions": _NOTHING,
             "empty set": _NOTHING, "无解": _NOTHING, "yes": "true", "correct": "true",
             "no": "false", "incorrect": "false",
             "none of these": "none of the above"}


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, in one form."""

    text: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter: an option, or a variable."""

    letter: str


@dataclass(frozen=True, slots=True)
class Infinity:
    """Plus or minus infinity."""

    sign: int


@dataclass(frozen=True, slots=True)
class Named:
    """A value with the name it is given: x=5."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Group:
    """Several values. `kind` is the pair of brackets of an ordered one, `set`, `list` (unordered, no brackets) or
    `union`."""

    kind: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A text that equals itself only (`math.hedges`)."""

    text: str


Value = Number | Words | Letter | Infinity | Named | Group | Matrix | Verbatim


@functools.lru_cache(maxsize=8192)
def readings(text: str) -> tuple[Value, ...]:
    """All readings of a tidy text; none where it, or a part of it, is not understood."""
    return read(text)


def answer_readings(raw: str) -> tuple[Value, ...]:
    """The readings of an answer as it was written: a sign of currency before a number is its unit."""
    found = readings(tidy(raw))
    sign = _CURRENCY.match(raw) if len(raw) < 100 else None
    if sign is None or len(found) != 1 or not isinstance(found[0], Number) or found[0].unit:
        return found
    kind = sign.lastgroup or ""
    return (replace(found[0], unit=Unit(kind, kind)),)


def read(text: str, depth: int = 0) -> tuple[Value, ...]:
    """`readings` of a part, at a depth of brackets."""
    if not text or depth > 6 or len(text) > 2000:
        return ()
    text = _MEMBER.sub("", text, count=1) if _MEMBER.match(text) else text
    plain = _read_plain(text)
    if plain:
        return plain
    parts = _APPROX.split(text)
    if len(parts) > 1 and len(split_top(text, ",;")) == 1:
        return _read_approximation([part.strip() for part in parts], text)
    found = _read_structure(_EITHER.sub("", text, count=1), depth)
    return found or ((Verbatim(squeeze(text)),) if spoilt(text) else ())


def _read_approximation(parts: list[str], text: str) -> tuple[Value, ...]:
    """An exact value and its approximation are one answer said twice; two values that are not near are none."""
    sides = [side.strip() for part in parts for side in _RELATION.split(part)]
    if not sides[0]:  # ≈5
        return read(sides[1]) if len(sides) == 2 else (Verbatim(squeeze(text)),)
    name = sides[0] if (_NAME.fullmatch(sides[0]) or _CALL.fullmatch(sides[0])) and sides[0] != "e" else ""
    sides = sides[1:] if name else sides
    near = agree(sides)
    if near is not True and not (near is None and len(sides) == 1 and not read(sides[0])):
        return (Verbatim(squeeze(text)),)
    numbers = tuple(number for side in sides if (number := read_number(side)))
    return tuple(Named(re.sub(r"[\s{}]", "", name), number) for number in numbers) if name else numbers


def _read_plain(text: str) -> tuple[Value, ...]:
    number = read_number(text)
    if number is not None:
        if _THOUSANDS.fullmatch(text) and "." not in text:
            # 100,200 may be one number or two
            return number, Group("list", tuple(Number(Fraction(part)) for part in text.split(",")))
        return (number,)
    comma = _DECIMAL_COMMA.fullmatch(text)
    if comma:
        decimal = read_number(f"{comma[1]}{comma[2]}.{comma[3]}")
        pair = (read_number(comma[1] + comma[2]), read_number(comma[3]))
        assert decimal is not None
        assert pair[0] is not None
        assert pair[1] is not None
        return decimal, Group("list", (pair[0], pair[1]))
    infinite = _INFINITY.fullmatch(text)
    if infinite:
        return (Infinity(-1 if infinite[1] == "-" else 1),)
    if text in (r"\varnothing", "⦃⦄", "⦃ ⦄"):
        return (Words(_NOTHING),)
    letter = _LETTER.fullmatch(text)
    if letter:
        return (Letter(letter[1]),)
    words = read_words(text)
    return (words,) if words is not None else ()


def read_words(text: str) -> Value | None:
    """An answer in words or a time of day: "Monday", "no solution". Without a `\\text`, one word has at least four
    letters, since `xyz` may be a product; counting words are numbers."""
    plain = " ".join(_TEXTS.sub(r" \1 ", text).split())
    marked = r"\text" in text
    plain = plain.strip("\"'*.()[] ") if not _CLOCK.fullmatch(plain) else plain
    clock = _CLOCK.fullmatch(plain)
    if clock:
        return Words(f"{int(clock[1])}:{clock[2]}{(clock[3] or '').lower()}")
    low = plain.lower()
    if not _WORDS.fullmatch(plain) or not _FUNCTIONS.isdisjoint(low.split()):
        return None
    if low in _NUMBER_WORDS:
        return Number(Fraction(_NUMBER_WORDS[low]))
    if low in _SYNONYMS or low in ("true", "false"):
        return Words(_SYNONYMS.get(low, low))
    low = _ARTICLE.sub("", low)
    if marked and len(plain) > 1:
        return Words(low)
    return Words(low) if re.search(r"[^\W\d_]{4}", plain) or plain[0] > "\u4e00" else None


def _read_structure(text: str, depth: int) -> tuple[Value, ...]:
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        return _read_matrix(matrix[2], depth)
    option = read_option(text)
    if option and option[0] and not _RELATION.search(text) and not whole_bracket(text):
        number = read_number(option[1])
        return (Letter(option[0]), number) if number else (Letter(option[0]),)
    unions = text.split(r"\cup")
    if len(unions) > 1:
        return _group("union", unions, depth)
    if whole_bracket(text):
        inner = text[1:-1]
        pair = text[0] + text[-1]
        parts = split_top(_without_thousands(inner), ",;")
        if _THOUSANDS.fullmatch(inner.strip()) and pair != "⦃⦄":
            return (*read(inner.strip(), depth + 1), *_group(pair, parts, depth))
        if len(parts) == 1:
            return read(inner.strip(), depth + 1) if pair in ("()", "{}", "[]") else _group("set", parts, depth)
        return _group("set" if pair in ("⦃⦄", "{}") else pair, parts, depth)
    listed = split_top(_AND.sub(", ", _without_thousands(text)), ",;")
    if len(listed) > 1:
        parts = [part for part in listed if part]
        kind = "union" if "or" in text or "或" in text else "list"
        if len(parts) > 1 and all(_INEQUALITY.fullmatch(part) for part in parts):
            return _group("union", parts, depth) if kind == "union" else ()
        if len(parts) < 2:  # "5 or", "and 5": something is missing
            return read(parts[0], depth + 1) if parts and not _AND.search(text) else ()
        return _group("list", parts, depth)
    sides = _RELATION.split(text)
    if len(sides) > 1:
        return _read_equation(sides, depth)
    bounds = _INEQUALITY.fullmatch(text)
    if bounds:
        return _read_inequality(bounds)
    both = _PLUS_MINUS.fullmatch(text)
    return _read_plus_minus(both) if both else ()


def _read_inequality(found: re.Match[str]) -> tuple[Value, ...]:
    """`1<x<2` and `x>2` as intervals."""
    upward = found["right"] in (">", r"\geq")
    if found["low"] and upward:
        return ()
    low, high = (found["high"], r"\infty") if upward else (found["low"] or r"-\infty", found["high"])
    ends = [value for text in (low, high) for value in _read_plain(text.strip())]
    if len(ends) != 2 or not all(isinstance(end, Number | Infinity) for end in ends):
        return ()
    left = "[" if (found["right"] if upward else found["left"] or "<") in (r"\leq", r"\geq") else "("
    right = "]" if not upward and found["right"] == r"\leq" else ")"
    return (Named(found["name"], Group(left + right, tuple(ends))),)


def _read_equation(sides: list[str], depth: int) -> tuple[Value, ...]:
    left = sides[0].strip()
    if len(sides) == 2:
        if _NAME.fullmatch(left):
            return tuple(Named(re.sub(r"[\s{}]", "", left), value) for value in read(sides[1].strip(), depth + 1))
        if _NAME.fullmatch(sides[1].strip()) and read_number(left):
            return tuple(Named(re.sub(r"[\s{}]", "", sides[1]), value) for value in read(left, depth + 1))
    named = bool(_NAME.fullmatch(left))
    values = [side.strip() for side in sides[named:]]
    near = agree(values)
    if near is None or not near:
        return () if near is None else (Verbatim(squeeze("=".join(sides))),)
    last = read_number(values[-1])
    return () if last is None else (Named(re.sub(r"[\s{}]", "", left), last) if named else last,)


def _read_matrix(body: str, depth: int) -> tuple[Value, ...]:
    rows = []
    for line in body.removesuffix(r"\\").split(r"\\"):
        cells = [read(cell.strip(), depth + 1) for cell in line.split("&")]
        if not all(len(cell) == 1 for cell in cells) or len(cells) > MOST_ITEMS:
            return ()
        rows.append(tuple(cell[0] for cell in cells))
    return (Matrix(tuple(rows)),) if len(rows) <= MOST_ITEMS else ()


def _read_plus_minus(found: re.Match[str]) -> tuple[Value, ...]:
    middle = read_number(found[1]) if found[1] else Number(Fraction(0))
    reach = read_number(found[2])
    if middle is None or reach is None or middle.unit or reach.percent:
        return ()
    return (Group("set", (Number(middle.value - reach.value), Number(middle.value + reach.value))),)


def _group(kind: str, parts: list[str], depth: int) -> tuple[Value, ...]:
    if len(parts) > MOST_ITEMS:
        return ()
    items: list[Value] = []
    for part in parts:
        readings = read(part.strip(), depth + 1)
        if len(readings) != 1:
            return ()
        # ±2 among others is two of them.
        spread = readings[0].items if isinstance(readings[0], Group) and r"\pm" in part and kind == "list" else readings
        items.extend(spread)
    names = [item.name for item in items if isinstance(item, Named)]
    if kind in ("list", "union") and len(names) == len(items) and len(set(names)) == 1:
        items = [item.value for item in items if isinstance(item, Named)]
    return (Group(kind, tuple(items)),)


def _without_thousands(text: str) -> str:
    return _LOOSE_THOUSANDS.sub(lambda found: found[0].replace(",", ""), text) if ", " in text else text
