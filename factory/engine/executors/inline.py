"""Tasks in the driver's own process, one after the other: for debugging, small runs and notebooks."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence

from factory.engine.executors.base import Outcome
from factory.engine.task import Event, Task


class InlineExecutor:
    """Runs tasks where it stands."""

    workers = 1

    def __init__(self) -> None:
        self._stopping = False

    def run(self, tasks: Sequence[Task], emit: Callable[[Event], None]) -> Iterator[Outcome]:
        for task in tasks:
            if self._stopping:
                return
            try:
                yield Outcome(task, task.run(emit, lambda: self._stopping))
            except Exception as error:
                yield Outcome(task, error=error, traceback=traceback.format_exc())

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """Nothing to end."""
