"""`where`: the ordered list of rules a select step applies. Parsed here, applied by `factory.engine.kinds.select`.

An entry is a scored step (its default rule) or `{step: {column: {ge|gt|le|lt|eq|in: value}}}`. No entry is evaluated as
code. `{step: {undecided: keep}}` keeps rows on which the step is undecided; otherwise undecided rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

OPERATORS = ("ge", "gt", "le", "lt", "eq", "in")


@dataclass(frozen=True, slots=True)
class Condition:
    """`column operator value`."""

    column: str
    operator: str
    value: Any

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `where`: a scored step, conditions on its columns (none: its default rule), what undecided means."""

    step: str
    conditions: tuple[Condition, ...] = ()
    keep_undecided: bool = False

    def identity(self, role: int) -> dict[str, Any]:
        """What of the rule enters the fingerprint; steps enter as input numbers, so renaming one changes nothing."""
        return {"input": role, "keep_undecided": self.keep_undecided,
                "conditions": [[c.column, c.operator, c.value] for c in self.conditions]}


def parse_where(entries: Sequence[str | Mapping[str, Mapping[str, Any]]],
                fail: Callable[[str, int], Exception]) -> list[Rule]:
    """Parse the entries; `fail(message, index)` makes the exception for a wrong one."""
    rules = []
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            rules.append(Rule(entry))
            continue
        if len(entry) != 1:
            raise fail("an entry names one step: {step: {column: {ge: value}}}", index)
        ((step, body),) = entry.items()
        rules.append(_parse_body(step, body, lambda message, i=index: fail(message, i)))  # type: ignore[misc]
    return rules


def _parse_body(step: str, body: Mapping[str, Any], fail: Callable[[str], Exception]) -> Rule:
    conditions, keep = [], False
    for column, tests in body.items():
        if column == "undecided":
            if tests not in ("keep", "reject"):
                raise fail(f"{step}.undecided must be keep or reject, got {tests!r}")
            keep = tests == "keep"
            continue
        if not isinstance(tests, Mapping) or not tests:
            raise fail(f"{step}.{column} needs a comparison such as {{ge: 0.9}}, got {tests!r}")
        for operator, value in tests.items():
            if operator not in OPERATORS:
                raise fail(f"{step}.{column}: {operator!r} is no comparison; use one of {', '.join(OPERATORS)}")
            if operator == "in" and not isinstance(value, list):
                raise fail(f"{step}.{column}: `in` needs a list, got {value!r}")
            conditions.append(Condition(column, operator, value))
    return Rule(step, tuple(conditions), keep)


def misfit(condition: Condition, dtype: pl.DataType) -> str:
    """What a column of this dtype can be compared with, where the condition's value is something else; else ''."""
    values = condition.value if condition.operator == "in" else [condition.value]
    if dtype.is_numeric():
        fits = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        return "" if fits else "a number"
    if dtype == pl.Boolean:
        fits = condition.operator in ("eq", "in") and all(isinstance(value, bool) for value in values)
        return "" if fits else "`eq` true or false"
    fits = dtype != pl.String or all(isinstance(value, str) for value in values)
    return "" if fits else "text"


def dedup_rule(rule: Rule, default: float) -> tuple[float, bool]:
    """A rule on a dedup step as (threshold, strict): rows are twins at Jaccard >= threshold (> when strict).

    Raises ValueError for a comparison that says nothing about twins.
    """
    if not rule.conditions:
        return default, False
    for condition in rule.conditions:
        if condition.operator not in ("lt", "le") or not isinstance(condition.value, int | float):
            raise ValueError(f"{rule.step}.{condition.column}: rows are kept when jaccard is lt or le a number, "
                             f"got {condition.operator} {condition.value!r}")
    condition = min(rule.conditions, key=lambda c: (c.value, c.operator == "le"))
    return float(condition.value), condition.operator == "le"
