"""The live block of a run in a terminal: finished steps above, the running one below in at most three lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as LiveBlock
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from factory.engine.meter import Meter, folded
from factory.engine.progress import Size
from factory.engine.told import Counter, describe, took
from warehouse.records import StepReport

_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red")}


class Live:
    """See `factory.engine.progress.Progress`."""

    def __init__(self, steps: Sequence[str], parts: Mapping[str, str]) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._spinner = Spinner("dots")
        self._count = Counter(steps, parts)
        self._meter: Meter | None = None
        self._block = LiveBlock(get_renderable=self._render, console=self._console, transient=True,
                                refresh_per_second=8)
        self._block.start()

    def _render(self) -> RenderableType:
        meter = self._meter
        if meter is None:
            return Text("")
        top = Table.grid(padding=(0, 1))
        top.add_row(self._spinner, Text(f"{self._count.number + 1}/{self._count.total} {meter.step}", "bold"),
                    ProgressBar(total=max(meter.size.units, 1), completed=meter.done, width=20),
                    meter.place)
        said = folded(meter.rates(), self._console.width - 3)
        return Group(top, *(Text(f"  {line}", "cyan", no_wrap=True, overflow="ellipsis") for line in said))

    def step_started(self, step: str, op: str, size: Size) -> None:
        """See Progress."""
        self._meter = Meter(step, size)

    def event(self, event: dict[str, Any]) -> None:
        """See Progress."""
        if "note" in event:
            self.note(event["note"])
        if self._meter is not None:
            self._meter.add(event)

    def step_ended(self, report: StepReport) -> None:
        """See Progress."""
        self._meter = None
        told = self._count.ended(report)
        if told is None:  # the summary has it
            return
        state = "failed" if told.facts.get("passed") is False else told.status
        mark, style = _MARKS.get(state, ("–", "yellow"))
        head = Text.assemble((mark, style), f" {told.step:<{self._count.width}}  ", (f"{told.op:<19}", "dim"),
                             f"  {took(told):>6}  ")
        said, room = describe(told), self._console.width - head.cell_len
        if room < len(said) <= self._console.width - 4:  # a name stays whole; the end of a long error is in the summary
            self._console.print(head, soft_wrap=True)
            head, room = Text("    "), self._console.width - 4
        self._console.print(head + Text(said if len(said) <= room else f"{said[:max(room, 20) - 1]}…"), soft_wrap=True)

    def note(self, message: str) -> None:
        """See Progress."""
        self._console.print(Text(message, "yellow"))

    def close(self) -> None:
        """Give the terminal back."""
        self._block.stop()
