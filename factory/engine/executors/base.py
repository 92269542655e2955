"""Executors carry tasks; they know nothing of steps, plans or commits.

`run(tasks)` yields an outcome per task as it ends. A crashed task is an outcome with an error, not an exception: the
others go on. `stop()` asks for a drain: no new task starts, running ones finish what they can and return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from factory.engine.task import Event, Task


@dataclass(slots=True)
class Outcome:
    """What became of a task: its result, or the error (with the worker's traceback for errors that are bugs)."""

    task: Task
    result: Any = None
    error: BaseException | None = None
    traceback: str = ""


class Executor(Protocol):
    """Something that runs tasks."""

    workers: int

    def run(self, tasks: Sequence[Task], emit: Callable[[Event], None]) -> Iterator[Outcome]:
        """Run all tasks; yields outcomes as they come."""
        ...

    def stop(self) -> None:
        """Ask for a drain."""
        ...

    def close(self) -> None:
        """End workers."""
        ...


def make_executor(name: str, workers: int | None = None) -> Executor:
    """`inline` (this process) or `local` (processes on this machine; as many as cores unless `workers` says)."""
    from factory.engine.errors import UsageError

    if name == "inline":
        from factory.engine.executors.inline import InlineExecutor

        return InlineExecutor()
    if name == "local":
        from factory.engine.executors.local import LocalExecutor

        return LocalExecutor(workers)
    raise UsageError(f"unknown executor {name!r}: use inline or local")
