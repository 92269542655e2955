"""Answers that say more than one value, or that a value is not the answer: `5 or more`, `at most 5`, `(A)(B)`, `6 = 5`.

Such a text is no other value, whatever number stands in it: it equals the same text only.
"""

from __future__ import annotations

import re
from fractions import Fraction

from factory.verifiers.extraction import BOUND
from factory.verifiers.math.numbers import Number, equal_numbers, read_number
from factory.verifiers.math.probe import value

_MARKED = re.compile(r"\\text\s*\{[^{}]*\b(?:not|wrong|false|incorrect|but|maybe|perhaps|than|more|least|most)\b"
                     r"[^{}]*\}|\\text\s*\{\s*(?:squared|cubed|factorial|doubled|tripled|plus|minus|times|divided|half"
                     r"|halves)\b", re.IGNORECASE)
_MAYBE = re.compile(r"(?i)\b(?:maybe|perhaps|possibly)\b|可能|或许|也许")
_NUMBER_AND_MORE = re.compile(r"(?:[-+]?[\d.,]*\d(?:\s*/\s*\d+)?|[-+]?\\frac\{\d+\}\{\d+\})\s*"
                              r"(?:\\text\s*\{[^{}]{2,}\}|\\text\s*\{\s*[A-Z]\s*\}$|\s(?:to|or|is)\b"
                              r"|\s*[A-Za-z]{3,}|\s*[\u4e00-\u9fff]).*", re.DOTALL)
_LETTER_AND_MORE = re.compile(r"(?i)\(?[A-J]\)?\s*\\text\s*\{[^{}]*\b(?:or|and|nor|maybe|perhaps|but|not|is)\b")
_UNSAID = re.compile(r"(?:!=|\\neq(?![a-z])).*|[-+\d.\s]+[?|][-+\d.\s]+")
_FUNCTION = re.compile(r"[-+\d./\s]*(?:sqrt|sin|cos|tan|log|exp|mod|pi)")
_SUBSCRIPT = re.compile(r"(?<![\w^}_\\])\d+\s*_|\d+(?:'+|\s*\^\s*\{?\s*[-+*]\s*\}?$)|\(.*\)'+$", re.DOTALL)
_TRUNCATED = re.compile(r"[-+]?\d*\.\d+\s*\\ldots")
_OPTION = re.compile(r"(?:\\text\s*\{\s*)?(?:\(([A-J])\)\s*\}?(?P<a>.+)|([A-J])\s*[).:]\s+(?P<b>.+)"
                     r"|\(([a-j])\)\s+(?P<c>(?:[A-Za-z]{3}|[{⦃\d]).*))")
_MORE_OPTIONS = re.compile(r"\(\s*[A-Ja-j]\s*\)|(?<![A-Za-z])[A-J]\s*[.)]|^[\s,;}]*(?:or|and|but|is|not|maybe|isn)\b"
                           r"|^\s*(?:或|不|和|也|\\approx|\\text\s*\{\s*(?:or|and|but|is|not|maybe))")


def spoilt(text: str) -> bool:
    """Whether a tidy text that has no other reading is a number, or an option, and words that make it another."""
    if BOUND.match(text) and re.search(r"\d", text):
        return True
    if _MARKED.search(text) or (_MAYBE.search(text) and re.search(r"\d", text)) or _TRUNCATED.fullmatch(text):
        return True
    if _LETTER_AND_MORE.match(text) or _UNSAID.fullmatch(text):
        return True
    option = read_option(text)
    if option is not None and not option[0]:
        return True
    found = _NUMBER_AND_MORE.fullmatch(text)
    return bool(_SUBSCRIPT.match(text) or (found and not _FUNCTION.match(text) and "=" not in text))


def read_option(text: str) -> tuple[str, str] | None:
    """The letter of an option and the text behind it; no letter where that denies it or holds other options; None for
    a text that is no option."""
    found = _OPTION.fullmatch(text)
    if found is None:
        return None
    rest = found["a"] or found["b"] or found["c"]
    if _MORE_OPTIONS.search(rest) or ((found[1] or found[3]) and re.fullmatch("[A-J]", rest.strip())):
        return "", rest
    return found[1] or found[3] or found[5], rest.strip(" .}")


def agree(sides: list[str]) -> bool | None:
    """Whether all sides of a chain of equations or approximations have one value, rounded to the coarsest of them;
    None where a side has no value that can be known here."""
    numbers = [read_number(side) or _probed(side) for side in sides]
    known = [number for number in numbers if number is not None]
    if any(not _near(one, other) for one in known for other in known[:1]):
        return False
    return True if len(known) == len(numbers) else None


def _probed(side: str) -> Number | None:
    found = value(side, 0)
    return Number(Fraction(found)) if found is not None and found == value(side, 1) else None


def _near(one: Number, other: Number) -> bool:
    if equal_numbers(one, other):
        return True
    if (one.unit and other.unit and one.unit.name != other.unit.name) or one.percent != other.percent:
        return False
    gap = abs(one.value - other.value)
    whole = [0 for number in (one, other) if number.places is None and number.value.denominator == 1]
    places = [number.places for number in (one, other) if number.places is not None] + whole
    return gap <= abs(one.value) / 10**9 or (bool(places) and gap * 2 * 10**min(places) <= 1)
