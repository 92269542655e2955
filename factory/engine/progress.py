"""What a run tells while it goes: step, shard, tokens/s, accepted/s, ETA.

In a terminal this is one live block; elsewhere one plain line per finished step, so logs stay readable and parseable.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from warehouse.records import StepReport


class Progress(Protocol):
    """What the driver tells."""

    def step_started(self, step: str, op: str, units: int, unit: str) -> None: ...
    def event(self, event: dict[str, Any]) -> None: ...
    def step_ended(self, report: StepReport) -> None: ...
    def note(self, message: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Says nothing."""

    def step_started(self, step: str, op: str, units: int, unit: str) -> None:
        """See Progress."""

    def event(self, event: dict[str, Any]) -> None:
        """See Progress."""

    def step_ended(self, report: StepReport) -> None:
        """See Progress."""

    def note(self, message: str) -> None:
        """See Progress."""

    def close(self) -> None:
        """See Progress."""


class _Meter:
    """Counts of the running step, and what follows from them."""

    def __init__(self, units: int, unit: str):
        self.units, self.unit, self.started = units, unit, time.monotonic()
        self.done = self.kept = self.tokens = self.answers = self.reused = 0

    def add(self, event: dict[str, Any]) -> None:
        self.tokens += event.get("tokens_out", 0)
        self.answers += event.get("answers", 0)
        self.reused += event.get("reused", 0)
        if "counts" in event:
            self.kept += event["counts"]["kept"]
            self.done += 1 if self.unit == "shards" else 0
        if self.unit == "answers":
            self.done = self.answers + self.reused

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-6)

    def rates(self) -> str:
        parts = []
        if self.tokens:
            parts.append(f"{self.tokens / self.seconds:,.0f} tok/s")
        accepted = self.answers if self.unit == "answers" else self.kept
        if accepted:
            parts.append(f"{accepted / self.seconds:,.1f} rows/s")
        if 0 < self.done < self.units:
            fresh = self.done - (self.reused if self.unit == "answers" else 0)
            if fresh > 0:
                parts.append(f"ETA {_span((self.units - self.done) * self.seconds / fresh)}")
        return " · ".join(parts)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def describe(report: StepReport) -> str:
    """A finished step in one line: kept of owed, reasons, time."""
    counts = report.counts
    if report.status in ("blocked", "skipped"):
        return report.status
    if report.status == "failed":
        return f"failed: {(report.error or '').splitlines()[0] if report.error else ''}"
    shown = f"{counts.kept:,} of {counts.owed:,} kept" if counts.rejected or counts.failed else f"{counts.kept:,} rows"
    extra = [f"{counts.rejected:,} rejected" if counts.rejected else "", f"{counts.failed:,} failed" if counts.failed else ""]
    if report.usage.tokens_out and report.usage.requested and not report.reused:
        extra.append(f"{report.usage.requested:,} asked, {report.usage.reused:,} reused")
    tail = "reused" if report.reused else _span(report.seconds)
    return ", ".join(part for part in (shown, *extra) if part) + f" ({tail})"


class Plain:
    """One line per finished step, to standard error."""

    def __init__(self) -> None:
        self._out = sys.stderr

    def step_started(self, step: str, op: str, units: int, unit: str) -> None:
        """Nothing: the end is what a log needs."""

    def event(self, event: dict[str, Any]) -> None:
        """Nothing."""

    def step_ended(self, report: StepReport) -> None:
        print(f"{report.step:<24} {report.op:<20} {report.ref or '-':<32} {describe(report)}", file=self._out, flush=True)

    def note(self, message: str) -> None:
        print(message, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class Live:
    """A live block in a terminal: finished steps above, the running one with bar, rates and ETA below."""

    def __init__(self, total_steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(SpinnerColumn(), TextColumn("[bold]{task.description}"), BarColumn(bar_width=18),
                          MofNCompleteColumn(), TextColumn("{task.fields[unit]}"), TextColumn("[cyan]{task.fields[rates]}"),
                          console=self._console, transient=True)
        self._bars.start()
        self._total, self._number = total_steps, 0
        self._meter: _Meter | None = None
        self._task: Any = None

    def step_started(self, step: str, op: str, units: int, unit: str) -> None:
        self._meter = _Meter(units, unit)
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(f"{self._number + 1}/{self._total} {step}", total=units, unit=unit, rates="")

    def event(self, event: dict[str, Any]) -> None:
        if self._meter is None:
            return
        self._meter.add(event)
        self._bars.update(self._task, completed=self._meter.done, rates=self._meter.rates())

    def step_ended(self, report: StepReport) -> None:
        self._number += 1
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        mark = {"done": "[green]✓[/]", "failed": "[red]✗[/]"}.get(report.status, "[yellow]–[/]")
        self._console.print(f"{mark} {report.step:<20} [dim]{report.op:<18}[/] {describe(report)}", soft_wrap=True)

    def note(self, message: str) -> None:
        self._console.print(f"[yellow]{message}[/]")

    def close(self) -> None:
        self._bars.stop()


def make_progress(total_steps: int, quiet: bool = False) -> Progress:
    """Live in a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        return Silent()
    return Live(total_steps) if sys.stderr.isatty() else Plain()
