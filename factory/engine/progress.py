"""What a run tells while it goes: which step, how far it is (see `meter`), and what became of each.

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

from factory.engine.meter import Meter
from factory.engine.told import Counter, describe, took
from warehouse.records import StepReport

PLAIN_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much a step has to do: `units` of what its bar counts (`answers`, `rows` or `shards`), in so many
    shards."""

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
        if "note" in event:
            self.note(event["note"])
        if self._meter is None:
            return
        self._meter.add(event)
        if time.monotonic() - self._said >= PLAIN_EVERY_SECONDS:
            self._said = time.monotonic()
            meter = self._meter
            said = " · ".join(part for part in (meter.place, *meter.rates()) if part)
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
