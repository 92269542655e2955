"""What a run tells while it goes: step, shard, tokens/s, accepted/s, ETA.

In a terminal this is a live block (`factory.engine.live`); elsewhere one plain line per finished step, and one a minute
while a step goes on, so logs stay readable and parseable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from warehouse.records import StepReport

PLAIN_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much a step has to do: `units` of what its bar counts (`answers` or `shards`), in so many shards."""

    units: int
    unit: str
    shards: int


class Progress(Protocol):
    """What the driver tells."""

    def step_started(self, step: str, op: str, size: Size) -> None: ...
    def event(self, event: dict[str, Any]) -> None: ...
    def step_ended(self, report: StepReport) -> None: ...
    def note(self, message: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Says nothing."""

    def step_started(self, step: str, op: str, size: Size) -> None:
        """See Progress."""

    def event(self, event: dict[str, Any]) -> None:
        """See Progress."""

    def step_ended(self, report: StepReport) -> None:
        """See Progress."""

    def note(self, message: str) -> None:
        """See Progress."""

    def close(self) -> None:
        """See Progress."""


class Meter:
    """Counts of the running step, and what follows from them."""

    def __init__(self, step: str, size: Size):
        self.step, self.size, self.started = step, size, time.monotonic()
        self.kept = self.tokens = self.answers = self.reused = self.shards = 0

    def add(self, event: dict[str, Any]) -> None:
        """Take note of answers, or of a finished shard."""
        self.tokens += event.get("tokens_out", 0)
        self.answers += event.get("answers", 0)
        self.reused += event.get("reused", 0)
        if "counts" in event:
            self.kept += event["counts"]["kept"]
            self.shards += 1

    @property
    def done(self) -> int:
        return min(self.answers + self.reused if self.size.unit == "answers" else self.shards, self.size.units)

    def rates(self) -> str:
        """Shard, tokens, answers and accepted rows a second, and how long it may take yet."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        parts = [span(seconds)]
        if self.size.unit == "answers":
            parts.append(f"shard {min(self.shards, self.size.shards)}/{self.size.shards}")
        if self.tokens:
            parts.append(f"{self.tokens / seconds:,.0f} tok/s")
        if self.answers:
            parts.append(f"{_rate(self.answers / seconds)} answers/s")
        fresh = self.kept - self.reused
        if fresh > 0:
            parts.append(f"{_rate(fresh / seconds)} rows/s")
        worked = self.done - self.reused
        if 0 < self.done < self.size.units and worked > 0:
            parts.append(f"ETA {span((self.size.units - self.done) * seconds / worked)}")
        return " · ".join(parts)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def span(seconds: float) -> str:
    """A time as people say it: 0.3s, 12s, 3m05s, 2h40m."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f}s"
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def describe(report: StepReport) -> str:
    """What became of a step, without its name and time."""
    counts = report.counts
    if report.status == "blocked":
        return "blocked: a step it needs did not finish"
    if report.status == "failed":
        return f"failed: {(report.error or '').splitlines()[0] if report.error else ''}"
    if report.status != "done":
        return report.status
    shown = f"{counts.kept:,} of {counts.owed:,} kept" if counts.rejected or counts.failed else f"{counts.kept:,} rows"
    extra = [f"{count:,} {name}" for name, count in (("rejected", counts.rejected), ("failed", counts.failed)) if count]
    if not report.reused and report.usage.requested + report.usage.reused:
        extra.append(f"{report.usage.requested:,} asked")
        extra.append(f"{report.usage.reused:,} reused" if report.usage.reused else "")
    return ", ".join(part for part in (shown, *extra) if part)


def took(report: StepReport) -> str:
    """How long a step took, or that it was there."""
    return "" if report.status != "done" else "reused" if report.reused else span(report.seconds)


class Plain:
    """Lines to standard error: one for each finished step, one a minute from a step that goes on."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._out, self._total, self._number = sys.stderr, len(steps), 0
        self._width = max(map(len, steps), default=0)
        self._meter: Meter | None = None
        self._said = 0.0

    def step_started(self, step: str, op: str, size: Size) -> None:
        """Nothing: the end is what a log needs."""
        self._meter = Meter(step, size)
        self._said = time.monotonic()

    def event(self, event: dict[str, Any]) -> None:
        """See Progress."""
        if self._meter is None:
            return
        self._meter.add(event)
        if time.monotonic() - self._said >= PLAIN_EVERY_SECONDS:
            self._said = time.monotonic()
            meter = self._meter
            self.note(f"{self._number + 1}/{self._total} {meter.step}: {meter.done:,}/{meter.size.units:,} "
                      f"{meter.size.unit} · {meter.rates()}")

    def step_ended(self, report: StepReport) -> None:
        """See Progress."""
        self._number, self._meter = self._number + 1, None
        number = f"{self._number}/{self._total}".rjust(2 * len(str(self._total)) + 1)
        self.note(f"{number} {report.step:<{self._width}}  {report.op:<18}  {took(report):>6}  {describe(report)}")

    def note(self, message: str) -> None:
        """See Progress."""
        print(message, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def make_progress(steps: Sequence[str], quiet: bool = False) -> Progress:
    """Live in a terminal, plain lines elsewhere, nothing when quiet. `steps` are the names of the plan's steps."""
    if quiet:
        return Silent()
    if not sys.stderr.isatty():
        return Plain(steps)
    from factory.engine.live import Live

    return Live(steps)
