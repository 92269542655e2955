"""The comparison that needs no worker: an outcome where it is certain, else the task for a worker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from factory.verifiers.extraction import Taken, find_numbers
from factory.verifiers.math.numbers import Number, equal_numbers, read_measure, read_number
from factory.verifiers.math.probe import differ, readable, value
from factory.verifiers.math.same import all_same, any_same
from factory.verifiers.math.symbolic import Outcome
from factory.verifiers.math.values import Group, Letter, Named, Value, Verbatim, Words, answer_readings, readings
from factory.verifiers.spelling import is_whole, same_text, split_top, tidy, whole_bracket

Task = tuple[str, bool, tuple[str, ...], bool]
"""Arguments of `symbolic.decide`."""

_CHAIN = re.compile(r"(?<![<>!\\=])=(?!=)")
_COMMAND = re.compile(r"\\[A-Za-z]+|(?:sqrt|log|sin|cos|tan|ln)(?![A-Za-z])")
_PROSE = re.compile(r"[A-Za-z]{3,}\s+[A-Za-z]{3,}")
_LEAD = re.compile(r"(?:[A-Za-z](?:_\w|\(\w+\))?\s*=\s*)?(-?[\d.,]+(?:\s*(?:\\times|x)\s*10\s*\^\s*\{?-?\d+\}?)?)\s*"
                   r"[A-Za-z\u00b5\u03a9][A-Za-z\u00b5\u03a9/()^ ⋅]{0,40}(?:(?<=[A-Za-z^])\d)?")
_NAMED = re.compile(r"[A-Za-z](?:_\w|\(\w+\))?")
_HEDGED = re.compile(r"(?i)\b(?:or|either|maybe|perhaps|possibly|might|could|alternatively|choose|mod"
                     r"|(?:multiplied|increased|decreased|reduced)\s+by|to\s+the\s+power|short\s+of)\b|或|分之"
                     r"|\d\s*(?:to|through|plus|minus|times|less than|more than|fewer than|divided by|over)\s+\d"
                     r"|\d\s*(?:到|至|[-~～–])\s*\d"
                     r"|\d\s*(?:hours?|h|feet|foot|ft|pounds?|lbs?|years?|days?|minutes?|min|dollars?)\s*(?:and\s+)?\d+\s*"
                     r"(?:minutes?|min|seconds?|sec|s|inch(?:es)?|in|ounces?|oz|months?|hours?|cents?)\b")
_UNIT_LIKE = re.compile(r"\\text|\d\s+[A-Za-z]|°|%")
_SAID = re.compile(r"(?:\b(?:is|are|be|was|answer|therefore|thus|so)\b|[:：*])\W*$")


def quick(reference: Taken, taken: Taken | None) -> tuple[Outcome | None, Task]:
    """Compare a taken answer with the reference in this process; None where only a worker can know."""
    golds = answer_readings(reference.text)
    if taken is None:
        return ("unread" if golds else None), (reference.text, reference.bare, (), False)
    texts = (taken.text, *taken.finals)
    if taken.prose and golds and not any(_like_number(gold) for gold in golds):
        ends = any_same(golds, readings(tidy(taken.text))) or _ends_with(golds, taken.prose)
        if ends is not None:
            return ("equal" if ends else "different"), (reference.text, reference.bare, texts, taken.bare)
    task = (reference.text, reference.bare, texts, taken.bare)
    measured = _other_measure(reference, taken)
    if measured is not None:
        return _outcome(measured), task
    if not golds:
        if taken.bare and not taken.finals and same_text(reference.text, taken.text) and readable(tidy(reference.text)):
            return "equal", task
        said = answer_readings(taken.text) if taken.bare else ()
        if any(isinstance(value, Verbatim) for value in said) and not taken.finals:
            return "different" if reference.bare else None, task
        if taken.bare and not taken.finals and _no_identity(tidy(reference.text), tidy(taken.text)):
            return "different", task
        # what may be the reference rounded is left to the library
        rounded = any(isinstance(value, Number) and value.digits >= 4 for value in said)
        apart = (taken.bare and reference.bare and not taken.finals
                 and _apart(reference.text, taken.text, 1e-3 if rounded else 1e-6))
        return ("different" if apart and value(reference.text, 0) is not None else None), task
    if all(isinstance(gold, Words) for gold in golds) and not taken.bare:
        return ("equal" if _ends_with(golds, taken.text) else "different"), task
    if not taken.text or (not taken.bare and not re.search(r"[\d\\]", taken.text)):
        return "unread", task
    numbers = all(isinstance(gold, Number) for gold in golds)
    if taken.bare and not taken.prose and not is_whole(taken.text):
        return "unread", task
    if numbers and not taken.bare and "\\" not in taken.text:
        return _outcome(_number_in_prose(golds, taken.text)), task
    first = _compare(golds, reference.text, taken.text, taken.bare)
    if not taken.finals:
        return _outcome(first), task
    if first:
        return "equal", task
    each = all_same(_compare(golds, reference.text, final, True) for final in taken.finals)
    # No set with another value in it is one number; of a reference with several values only a worker knows.
    return _outcome(each if each or numbers or first is False else None), task


def _other_measure(reference: Taken, taken: Taken) -> bool | None:
    """Whether two measures in different units are one, where a unit of a single letter might be an unknown."""
    if not taken.bare or taken.finals or max(len(reference.text), len(taken.text)) > 60:
        return None
    gold, said = read_measure(tidy(reference.text)), read_measure(tidy(taken.text))
    if not gold or not said or not gold.unit or not said.unit:
        return None
    same_unit = (gold.unit.kind, gold.unit.scale) == (said.unit.kind, said.unit.scale)
    return None if same_unit else equal_numbers(gold, said)


def _outcome(same: bool | None) -> Outcome | None:
    return None if same is None else "equal" if same else "different"


def _compare(golds: Sequence[Value], gold: str, answer: str, bare: bool) -> bool | None:
    if not bare:
        return None
    text = tidy(answer)
    found = any_same(golds, answer_readings(answer))
    if found is not None:
        return found
    if "=" in text and not _CHAIN.search(gold):
        # The end of a chain of equal values is the value, if no unknown stands before it.
        left, _, last = text.rpartition("=")
        if not re.search(r"[A-Za-z<>]", _COMMAND.sub("", left)) and "," not in text and ";" not in text:
            return any_same(golds, readings(last.strip()))
    if all(isinstance(gold, Words) for gold in golds) and not readings(text):
        return False
    if whole_bracket(text) and text[0] in "([" and len(golds) == 1:
        return False if _other_items(golds[0], split_top(text[1:-1], ",;")) else None
    if all(isinstance(gold, Number) for gold in golds):
        return _number_and_more(golds[0], text)
    return None


def _no_identity(gold: str, answer: str) -> bool:
    """Whether an answer equates two expressions in the same unknowns that differ, where one expression is asked."""
    sides = [side.strip() for side in _CHAIN.split(answer)]
    if len(sides) < 2 or _CHAIN.search(gold) or _NAMED.fullmatch(sides[0]):
        return False
    unknown = [set(re.findall(r"[A-Za-z]", _COMMAND.sub("", side))) for side in (sides[0], sides[-1])]
    return bool(unknown[0]) and unknown[0] == unknown[1] and _apart(sides[0], sides[-1])


def _other_items(gold: Value, parts: Sequence[str]) -> bool:
    """Whether a tuple or an interval, not all of whose items can be read, is certainly not the reference."""
    if isinstance(gold, Number):
        return len(parts) > 1
    if not isinstance(gold, Group) or gold.kind[0] not in "([":
        return False
    return len(parts) != len(gold.items) or any(
        any_same([item], readings(part)) is False or (isinstance(item, Number) and not item.places
                                                      and _apart(str(item.value), part))
        for item, part in zip(gold.items, parts, strict=True))


def _number_and_more(gold: Value, text: str) -> bool | None:
    """A number against a text that is no number: an expression, or a number within words."""
    assert isinstance(gold, Number)
    if _PROSE.search(_COMMAND.sub(" ", text)):
        return _number_in_prose([gold], text)
    lead = _LEAD.fullmatch(text)
    number = read_number(lead[1]) if lead else None
    if number is not None:
        return None if equal_numbers(gold, number) else False
    margin = 1e-2 if gold.places else 1e-6
    exact = str(gold.value) if not gold.percent else ""
    parts = [part.strip() for part in _CHAIN.split(text)]
    said = [part for part in parts[-2:] if len(parts) == 1 or not _NAMED.fullmatch(part)]
    apart = exact and not gold.unit and said and all(_apart(exact, part, margin) for part in said)
    return False if apart else None


def _number_in_prose(golds: Sequence[Value], text: str) -> bool | None:
    """Whether the one number of a sentence is the reference; False where no number of it is."""
    said = [value for found in find_numbers(text) for value in readings(tidy(found)) if isinstance(value, Number)]
    near = [number for number in said for gold in golds if isinstance(gold, Number) and equal_numbers(gold, number)]
    if re.search(r"[\\^/*=√]", text):
        return False if not near and len(text.split()) > 7 and "\\" not in text else None
    if len(said) > 1 and _HEDGED.search(text):
        return False
    return False if not near else True if len(said) == 1 else None


def _apart(gold: str, answer: str, margin: float = 1e-6) -> bool:
    if _UNIT_LIKE.search(answer) or _UNIT_LIKE.search(gold):
        return False
    return differ(gold, answer, margin)


def _like_number(gold: Value) -> bool:
    return isinstance(gold, Number) or (isinstance(gold, Named) and isinstance(gold.value, Number))


def _ends_with(golds: Sequence[Value], prose: str) -> bool | None:
    """Whether a sentence says the reference's words at its end; None where the reference is no words."""
    words = [gold for gold in golds if isinstance(gold, Words | Letter)]
    if not words:
        return None
    sentence = prose.strip().rstrip(" .*!\"'。)$`").lstrip("$* ")
    for gold in words:
        said = gold.text if isinstance(gold, Words) else gold.letter
        cut = len(sentence) - len(said)
        tail = sentence[cut:] if cut >= 0 else ""
        same = tail.lower() == said if isinstance(gold, Words) else tail == said
        if same and (cut == 0 or _SAID.search(sentence[max(cut - 30, 0):cut].lower().rstrip("(\"' "))):
            return True
    return False
