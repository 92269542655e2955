"""What a run tells while it goes: step, shard, tokens/s, accepted/s, ETA.

In a terminal this is a live block (`factory.engine.live`); elsewhere one plain line per finished step, and one a minute
while a step goes on, so logs stay readable and parseable. The steps that a report is made of (`check.greedy` of
`check`) are told as one, and steps that were never begun are counted, not listed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from factory.engine.told import Counter, describe, span, took
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
    """Counts of the running step, and what follows from them. A step in one piece tells itself how far it is."""

    def __init__(self, step: str, size: Size):
        self.step, self.size, self.started = step, size, time.monotonic()
        self.kept = self.tokens = self.answers = self.reused = self.shards = 0
        self.said = ""
        self._told: tuple[int, int] | None = None  # (done at the first word, done now)
        self._first = self.started

    def add(self, event: dict[str, Any]) -> None:
        """Take note of answers, of a finished shard, or of what a step says of itself."""
        if "total" in event:
            if self._told is None:
                self._first = time.monotonic()
            self._told = (self._told[0] if self._told else event["done"], event["done"])
            self.said, self.size = event["said"], Size(event["total"], event["unit"], self.size.shards)
        self.tokens += event.get("tokens_out", 0)
        self.answers += event.get("answers", 0)
        self.reused += event.get("reused", 0)
        if "counts" in event:
            self.kept += event["counts"]["kept"]
            self.shards += 1

    @property
    def done(self) -> int:
        if self._told is not None:
            return min(self._told[1], self.size.units)
        return min(self.answers + self.reused if self.size.unit == "answers" else self.shards, self.size.units)

    @property
    def place(self) -> str:
        """How far it is; nothing of a step in one piece that has not said yet."""
        if (self.size.units, self.size.unit) == (1, "shards"):
            return ""
        return f"{self.done:,}/{self.size.units:,} {self.size.unit}"

    def rates(self) -> str:
        """What was measured, shard, tokens, answers and accepted rows a second, and how long it may take yet."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        parts = [span(seconds)]
        if self._told is not None:
            parts += [self.said, self._remaining()]
            return " · ".join(part for part in parts if part)
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

    def _remaining(self) -> str:
        """Loading a model takes long and says nothing of the steps, so the pace is that since the first word."""
        assert self._told is not None
        first, done = self._told
        if done <= first or done >= self.size.units:
            return ""
        return f"ETA {span((self.size.units - done) * (time.monotonic() - self._first) / (done - first))}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


class Plain:
    """Lines to standard error: one for each finished step, one a minute from a step that goes on."""

    def __init__(self, steps: Sequence[str], parts: Mapping[str, str]) -> None:
        self._out, self._count = sys.stderr, Counter(steps, parts)
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
            said = " · ".join(part for part in (meter.place, meter.rates()) if part)
            self.note(f"{self._count.number + 1}/{self._count.total} {meter.step}: {said}")

    def step_ended(self, report: StepReport) -> None:
        """See Progress."""
        self._meter = None
        told = self._count.ended(report)
        if told is None:
            return
        total = str(self._count.total)
        # a part that failed has no number of its own
        number = f"{self._count.number + (report.step in self._count.parts)}/{total}".rjust(2 * len(total) + 1)
        self.note(f"{number} {told.step:<{self._count.width}}  {told.op:<19}  {took(told):>6}  {describe(told)}")

    def note(self, message: str) -> None:
        """See Progress."""
        print(message, file=self._out, flush=True)

    def close(self) -> None:
        """See Progress."""
        if self._count.never:
            self.note(f"{self._count.never} of {self._count.total} steps were not begun")


def make_progress(steps: Sequence[str], quiet: bool = False, parts: Mapping[str, str] | None = None) -> Progress:
    """Live in a terminal, plain lines elsewhere, nothing when quiet. `steps` are the names of the plan's steps, `parts`
    those that are told with another step (see `parts_of`)."""
    if quiet:
        return Silent()
    if not sys.stderr.isatty():
        return Plain(steps, parts or {})
    from factory.engine.live import Live

    return Live(steps, parts or {})
