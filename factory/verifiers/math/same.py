"""Whether two readings of answers are the same: True, False, or None where that is not certain (see `math.values`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from factory.verifiers.math.numbers import Number, equal_numbers
from factory.verifiers.math.values import Group, Infinity, Letter, Matrix, Named, Value, Verbatim, Words

_UNORDERED = frozenset({"set", "list"})


def any_same(golds: Sequence[Value], answers: Sequence[Value]) -> bool | None:
    """Whether any readings of two texts are the same; None without readings, or if one pair is not certain."""
    if not golds or not answers:
        return None
    options = [[value for value in side if isinstance(value, Letter)] for side in (golds, answers)]
    if all(options) and max(len(golds), len(answers)) > 1:
        golds, answers = options  # (A) 5 against (B) 5: the letters tell them apart
    found = [same(gold, answer) for gold in golds for answer in answers]
    return True if True in found else None if None in found else False


def same(gold: Value, answer: Value) -> bool | None:
    """Compare two readings. Not symmetric: a reference that has a name for its value does not ask for the name."""
    if isinstance(gold, Verbatim) or isinstance(answer, Verbatim):
        return gold == answer
    if isinstance(gold, Named) or isinstance(answer, Named):
        return _same_named(gold, answer)
    if isinstance(gold, Number) and isinstance(answer, Number):
        return equal_numbers(gold, answer)
    if isinstance(gold, Words) and isinstance(answer, Words):
        return gold.text == answer.text
    if isinstance(gold, Letter) and isinstance(answer, Letter):
        if gold.letter == answer.letter:
            return True
        return None if gold.letter.lower() == answer.letter.lower() else False
    if isinstance(gold, Infinity) and isinstance(answer, Infinity):
        return gold.sign == answer.sign
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _same_groups(gold, answer)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return _same_matrices(gold, answer)
    if isinstance(gold, Group) or isinstance(answer, Group):
        return _group_and_single(gold, answer)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return None
    # A letter may be the name of a number; words and infinities are no numbers, and no letters.
    if isinstance(gold, Letter):
        return False if isinstance(answer, Words | Number) and gold.letter not in "eEiI" else None
    # an option is no number, but e and i are
    return None if isinstance(answer, Letter) and answer.letter in "eEiI" else False


def _same_named(gold: Value, answer: Value) -> bool | None:
    if isinstance(gold, Named) and isinstance(answer, Named):
        equal = same(gold.value, answer.value)
        return equal if gold.name == answer.name or not equal else None
    named, plain = (gold, answer) if isinstance(gold, Named) else (answer, gold)
    assert isinstance(named, Named)
    if isinstance(plain, Group) and not isinstance(named.value, Group):
        return None
    return same(gold.value if isinstance(gold, Named) else gold, answer.value if isinstance(answer, Named) else answer)


def _same_groups(gold: Group, answer: Group) -> bool | None:
    names = [{item.name for item in group.items if isinstance(item, Named)} for group in (gold, answer)]
    if min(map(len, names)) == 0 and max(map(len, names)) > 1:
        # x=2, y=3 against 2, 3: the order says which is which
        pairs = len(gold.items) == len(answer.items) and all_same(map(same, gold.items, answer.items))
        each_once = len(names[0]) == len(gold.items) and not any(isinstance(item, Group) for item in answer.items)
        return pairs if each_once else pairs or None
    if gold.kind in _UNORDERED and answer.kind in _UNORDERED:
        covered = _same_sets(gold.items, answer.items)
        if not covered or gold.kind != "list" or answer.kind != "list":
            return covered
        # What the reference says twice is asked twice; what only the answer repeats counts once.
        repeats = len(gold.items) >= len(answer.items) or any(
            same(one, other) for index, one in enumerate(gold.items) for other in gold.items[:index])
        return not repeats or _paired(gold.items, answer.items)
    if gold.kind == "union" and answer.kind == "union":
        return True if _same_sets(gold.items, answer.items) else None
    if "union" in (gold.kind, answer.kind):
        return None
    ordered = gold.kind not in _UNORDERED and answer.kind not in _UNORDERED
    if not ordered:
        return None
    if len(gold.items) != len(answer.items):
        return False
    items = all_same(same(one, other) for one, other in zip(gold.items, answer.items, strict=True))
    if gold.kind == answer.kind or items is False:
        return items
    half_open = {"[)", "(]"} & {gold.kind, answer.kind}
    # Brackets tell intervals apart; (1,2) and [1,2] may both be points.
    return False if half_open and items is not None else None


def _same_matrices(gold: Matrix, answer: Matrix) -> bool | None:
    if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
        return None
    return all_same(same(one, other) for left, right in zip(gold.rows, answer.rows, strict=True)
                    for one, other in zip(left, right, strict=True))


def _same_sets(golds: Sequence[Value], answers: Sequence[Value]) -> bool | None:
    table = [[same(gold, answer) for answer in answers] for gold in golds]
    rows = [*table, *(list(column) for column in zip(*table, strict=True))]
    if all(True in row for row in rows):
        return True
    return False if any(all(cell is False for cell in row) for row in rows) else None


def _paired(golds: Sequence[Value], answers: Sequence[Value]) -> bool:
    """Whether each item has its own partner: in a list 1, 1, 2 is not 1, 2, 2."""
    left = list(answers)
    for gold in golds:
        partner = next((answer for answer in left if same(gold, answer)), None)
        if partner is None:
            return False
        left.remove(partner)
    return not left


def _group_and_single(gold: Value, answer: Value) -> bool | None:
    group, single = (gold, answer) if isinstance(gold, Group) else (answer, gold)
    assert isinstance(group, Group)
    if group.kind in _UNORDERED:
        return _same_sets([single], group.items) if gold is single else _same_sets(group.items, [single])
    return False if isinstance(single, Number | Words | Letter) and group.kind != "union" else None


def all_same(found: Iterable[bool | None]) -> bool | None:
    """False if any pair differs, None if any is not certain, else True."""
    seen = set(found)
    return False if False in seen else None if None in seen else True
