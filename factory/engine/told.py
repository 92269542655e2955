"""What is said of a step that ended, in a few words, and which steps are told as one.

A report such as `check` is made of steps named after it (`check.greedy`, `check.greedy.correct`): they are its parts.
What a run prints tells the report alone, with the time and the answers of all; a part that failed speaks for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from warehouse.records import StepReport, Usage


def span(seconds: float) -> str:
    """A time as people say it: 0.3s, 12s, 3m05s, 2h40m."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f}s"
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def about(seconds: float, spread: float) -> str:
    """A time with how far off it may be, in units that the spread allows: 12m ±2m, 3m05s ±12s, 14.5h ±1.2h."""
    if spread >= 3600:
        return f"{seconds / 3600:,.1f}h ±{spread / 3600:,.1f}h"
    if spread >= 60 or seconds >= 3600:
        whole = round(seconds / 60)
        shown = f"{whole}m" if whole < 60 else f"{whole // 60}h{whole % 60:02d}m"
        return f"{shown} ±{max(round(spread / 60), 1)}m"
    whole = max(round(seconds), 1)
    return f"{span(whole) if whole >= 10 else f'{whole}s'} ±{max(round(spread), 1)}s"


_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


def money(value: float, currency: str) -> str:
    """An amount: $1.23, 0.00420 CHF, without a sign where the currency is not known. Cents from 1 on, three digits
    below, none from 1,000 on."""
    size = abs(value)
    shown = f"{value:,.0f}" if size >= 1000 or not size else f"{value:,.2f}" if size >= 1 else _small(value)
    return _signed(shown, currency)


def roughly(value: float, currency: str) -> str:
    """An amount of which two digits are known: $14, $0.0021."""
    digits = 1 - math.floor(math.log10(value)) if value > 0 else 0
    shown = f"{round(value, digits):,.{max(digits, 0)}f}"
    return _signed(shown, currency)


def _signed(shown: str, currency: str) -> str:
    return f"{_SIGNS[currency]}{shown}" if currency in _SIGNS else f"{shown} {currency}".rstrip()


def _small(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def describe(report: StepReport) -> str:
    """What became of a step, without its name and time."""
    counts = report.counts
    if report.status == "blocked":
        return "blocked: a step it needs did not finish"
    if report.status == "failed":
        return f"failed: {(report.error or '').splitlines()[0] if report.error else ''}"
    if report.status != "done":
        return ", ".join([report.status, *_asked(report), "kept for the next run"]) if report.usage.requested else (
            report.status)
    if report.kind in ("checkpoint", "report"):
        return figures(report.facts["metrics"], 2).removesuffix(", …")
    if report.kind == "gate":
        return f"{'passed' if report.facts['passed'] else 'not passed'}: {report.facts['reason']}"
    shown = f"{counts.kept:,} of {counts.owed:,} kept" if counts.rejected or counts.failed else f"{counts.kept:,} rows"
    extra = [f"{counts.failed:,} failed" if counts.failed else ""]
    if not report.reused and report.usage.requested + report.usage.reused:
        extra += _asked(report)
    return ", ".join(part for part in (shown, *extra) if part)


def _asked(report: StepReport) -> list[str]:
    """What this run asked for, took over and paid."""
    usage, currency = report.usage, report.facts.get("currency")
    return [f"{usage.requested:,} asked", *([f"{usage.reused:,} reused"] if usage.reused else []),
            *([money(usage.cost, currency)] if currency and usage.cost else [])]


def figures(metrics: Mapping[str, float], most: int = 6) -> str:
    """Metrics in one line: steps, what a training began and ended with, then the others; not time and rows, which have
    columns of their own, nor rows left out when there are none."""
    rest = {name: value for name, value in metrics.items()
            if name not in ("seconds", "rows") and (value or not name.startswith("rows_"))}
    told = [f"{rest.pop('steps'):,.0f} steps"] if "steps" in rest else []
    for name in [name.removesuffix("_first") for name in metrics if name.endswith("_first")]:
        if f"{name}_last" in rest:
            told.append(f"{name} {figure(rest.pop(f'{name}_first'))} → {figure(rest.pop(f'{name}_last'))}")
    told += [f"{name} {figure(value)}" for name, value in rest.items()]
    return ", ".join(told[:most]) + (", …" if len(told) > most else "")


def figure(value: float) -> str:
    """A measured number: counts whole, shares with three decimals, small ones with three digits."""
    if float(value).is_integer() and abs(value) > 1:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"


def took(report: StepReport) -> str:
    """How long a step took, or that it was there."""
    return "" if report.status != "done" else "reused" if report.reused else span(report.seconds)


def parts_of(kinds: Mapping[str, str]) -> dict[str, str]:
    """The steps that belong to a report, by their names, with its name: `check.greedy.correct` to `check`."""
    reports = sorted((name for name, kind in kinds.items() if kind == "report"), key=len)
    found = {}
    for name in kinds:
        whole = next((one for one in reports if name.startswith(f"{one}.")), None)
        if whole is not None:
            found[name] = whole
    return found


def fold(reports: Iterable[StepReport], parts: Mapping[str, str]) -> list[StepReport]:
    """A report and the steps it is made of as one: the time of all, reused when all were. Parts that failed stay."""
    shown: list[StepReport] = []
    taken: dict[str, list[StepReport]] = {}
    for report in reports:
        if report.step in parts:
            taken.setdefault(parts[report.step], []).append(report)
            if report.status == "failed":
                shown.append(report)
        else:
            shown.append(joined(report, taken.get(report.step, [])))
    return shown


def joined(report: StepReport, parts: Sequence[StepReport]) -> StepReport:
    """A report with the time of its parts, and with the answers of those that were made now."""
    return report.model_copy(update={
        "seconds": report.seconds + sum(part.seconds for part in parts),
        "reused": report.reused and all(part.reused for part in parts),
        "usage": sum((part.usage for part in (report, *parts) if not part.reused), Usage()),
        "facts": {**next((part.facts for part in parts if "currency" in part.facts), {}), **report.facts}})


class Counter:
    """Which step of how many this is, with the parts of a report counted as one."""

    def __init__(self, steps: Sequence[str], parts: Mapping[str, str]):
        self.parts, whole = parts, [step for step in steps if step not in parts]
        self.total, self.width = len(whole), max(map(len, whole), default=0)
        self.number = self.never = 0
        self._waiting: dict[str, list[StepReport]] = {}

    def ended(self, report: StepReport) -> StepReport | None:
        """What there is to tell of a step that ended; None for one that was not begun, or a part that went well."""
        if report.step in self.parts:
            self._waiting.setdefault(self.parts[report.step], []).append(report)
            return report if report.status == "failed" else None
        self.number += 1
        if report.status in ("skipped", "blocked"):
            self.never += 1
            return None
        return joined(report, self._waiting.get(report.step, []))
