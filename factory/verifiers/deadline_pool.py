"""Many calls under a deadline each, over a few child processes: `DeadlinePool`.

Every child (see `factory.verifiers.deadline`) has a short line of calls in its pipe, so it need not wait for this
process between two of them. The deadline is that of the call at the head of the line, from the moment its child could
begin it. A child that overruns is killed; the call at its head gets the error, the others of its line go back to the
queue. So a hang costs one call and one start, and the other children go on. One thread does all of this: no child
depends on the life of another thread.
"""

from __future__ import annotations

import os
import pickle
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from factory.engine.errors import FactoryError
from factory.verifiers.deadline import (
    _HEADER,
    _START_SECONDS,
    DEFAULT_MEMORY,
    CallFailed,
    DeadlineExceeded,
    DeadlineWorker,
    WorkerCrashed,
    _Died,
    _frame,
    _write,
)

T = TypeVar("T")

LINE = 3
"""Calls that a child may have in its pipe at once."""
LINE_BYTES = 32 << 10
"""Of so many bytes in all, so that a write never waits for a child that is busy; a longer call goes alone."""


@dataclass(slots=True)
class _Child(Generic[T]):
    worker: DeadlineWorker[T]
    line: deque[tuple[int, int]] = field(default_factory=deque)
    buffer: bytearray = field(default_factory=bytearray)
    until: float = 0.0
    ready: bool = False
    proven: bool = False
    """Started or heard of in the round that runs: its death is the doing of a call."""

    @property
    def alive(self) -> bool:
        return self.worker._process is not None


class DeadlinePool(Generic[T]):
    """Runs `fn` in up to `size` persistent child processes (default: the processors there are, at most 2). Arguments
    are those of `DeadlineWorker`."""

    def __init__(self, fn: Callable[..., T], *, warm: Callable[[], object] | None = None, memory: int = DEFAULT_MEMORY,
                 size: int | None = None):
        count = size or min(2, os.cpu_count() or 1)
        self._children = [_Child(DeadlineWorker(fn, warm=warm, memory=memory)) for _ in range(count)]
        self._lock = threading.Lock()
        _pools.append(self)

    def map(self, calls: Sequence[tuple[Any, ...]], seconds: float) -> list[T | FactoryError]:
        """`fn(*call)` of each call, in order, or the error of that call: `DeadlineExceeded`, `CallFailed`, or
        `WorkerCrashed` when a child died of it twice.

        Raises:
            WorkerCrashed: a child cannot be started.
        """
        if not calls:
            return []
        with self._lock:
            return _Round(self._children[:len(calls)], calls, seconds).run()

    def close(self) -> None:
        """Kill and reap the children. The pool stays usable."""
        with self._lock:
            for child in self._children:
                _reset(child)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children there are."""
        return [pid for child in self._children if (pid := child.worker.pid) is not None]


_pools: list[DeadlinePool[Any]] = []


def _forget_after_fork() -> None:
    # The workers forget their own processes; what is in a pipe belongs to the parent.
    for pool in _pools:
        pool._lock = threading.Lock()
        for child in pool._children:
            child.line.clear()
            child.buffer.clear()
            child.ready = False


os.register_at_fork(after_in_child=_forget_after_fork)


class _Round(Generic[T]):
    """One `map`: a queue of calls, and the results."""

    def __init__(self, children: list[_Child[T]], calls: Sequence[tuple[Any, ...]], seconds: float):
        self.children, self.seconds = children, seconds
        for child in children:
            child.proven = False
        self.frames = [_frame(pickle.dumps((seconds, call))) for call in calls]
        self.queue = deque(range(len(calls)))
        self.results: list[T | FactoryError | None] = [None] * len(calls)
        self.left = len(calls)
        self.deaths = [0] * len(calls)
        self.failed_starts = 0

    def run(self) -> list[T | FactoryError]:
        try:
            while self.left:
                for child in self.children:
                    self._fill(child)
                self._wait()
        except BaseException:
            # An interrupt leaves half-told calls in the pipes: those children must not be asked again.
            for child in self.children:
                _reset(child)
            raise
        return cast("list[T | FactoryError]", self.results)

    def _fill(self, child: _Child[T]) -> None:
        """Give a child calls while its line is short; start it if need be."""
        if self.queue and not child.alive:
            _reset(child)
            child.worker._launch()
            child.proven = True
            child.until = time.monotonic() + _START_SECONDS
        while self.queue and child.ready and len(child.line) < LINE:
            index = self.queue[0]
            size = len(self.frames[index])
            if child.line and size + sum(told for _, told in child.line) > LINE_BYTES:
                break
            if not child.line:
                child.until = time.monotonic() + self.seconds
            self.queue.popleft()
            child.line.append((index, size))
            process = child.worker._process
            assert process is not None
            try:
                _write(process, self.frames[index], child.until)
            except TimeoutError:
                self._overrun(child)
            except _Died:
                self._died(child)

    def _wait(self) -> None:
        """Take what the children have to say, or end the one whose time is over."""
        poller = select.poll()
        waiting = {}
        for child in self.children:
            process = child.worker._process
            if process is not None and (child.line or not child.ready):
                assert process.stdout is not None
                waiting[process.stdout.fileno()] = child
                poller.register(process.stdout.fileno(), select.POLLIN)
        if not waiting:
            return
        until = min(child.until for child in waiting.values())
        told = poller.poll(max(until - time.monotonic(), 0) * 1000 + 1)
        for descriptor, _ in told:
            self._hear(waiting[descriptor], descriptor)
        now = time.monotonic()
        heard = {descriptor for descriptor, _ in told}
        for descriptor, child in waiting.items():
            if descriptor not in heard and child.alive and now >= child.until:
                self._overrun(child)

    def _hear(self, child: _Child[T], descriptor: int) -> None:
        data = os.read(descriptor, 1 << 20)
        if not data:
            self._died(child)
            return
        child.buffer += data
        while len(child.buffer) >= _HEADER.size:
            size = _HEADER.unpack(child.buffer[:_HEADER.size])[0]
            if len(child.buffer) < _HEADER.size + size:
                break
            answer = pickle.loads(child.buffer[_HEADER.size:_HEADER.size + size])
            del child.buffer[:_HEADER.size + size]
            self._take(child, *answer)

    def _take(self, child: _Child[T], good: bool, value: Any) -> None:
        if not child.ready:
            if not good:
                raise CallFailed(*value)
            child.ready = True
            return
        index, _ = child.line.popleft()
        self._settle(index, value if good else CallFailed(*value))
        child.proven = True
        child.until = time.monotonic() + self.seconds

    def _settle(self, index: int, result: T | FactoryError) -> None:
        self.results[index] = result
        self.left -= 1

    def _overrun(self, child: _Child[T]) -> None:
        if not child.ready:
            self._not_started(child)
            return
        index, _ = child.line.popleft()
        self._settle(index, DeadlineExceeded(f"no result within {self.seconds:g} s"))
        self._back(child)

    def _died(self, child: _Child[T]) -> None:
        """The call at the head of the line is tried once more, by a child that has nothing else before it. A child that
        was killed between two rounds did not die of any call."""
        if not child.ready:
            self._not_started(child)
            return
        if child.line and child.proven:
            index, _ = child.line[0]
            self.deaths[index] += 1
            if self.deaths[index] > 1:
                child.line.popleft()
                self._settle(index, WorkerCrashed("the worker process died twice of this call"))
        self._back(child)

    def _not_started(self, child: _Child[T]) -> None:
        """A child of an earlier round may have been killed while it started; a second one in a row is a fault."""
        self.failed_starts += 1
        if self.failed_starts > len(self.children):
            raise child.worker._no_start()
        _reset(child)

    def _back(self, child: _Child[T]) -> None:
        self.queue.extendleft(index for index, _ in reversed(child.line))
        _reset(child)


def _reset(child: _Child[Any]) -> None:
    child.worker.close()
    child.line.clear()
    child.buffer.clear()
    child.ready = False
