"""Tasks in worker processes on this machine.

Workers are spawned (forking a process that holds threads of polars and torch deadlocks), live as long as the executor
and die with the driver, however it dies: on Linux the kernel is asked to kill them (PR_SET_PDEATHSIG), elsewhere a
closed pipe tells them. A worker that dies costs its task, not the run: the task's outcome is an error, a new worker
takes the next.

Nothing that processes share holds a lock: one that is killed while it holds a lock would stop all the others. The
request to drain is therefore a byte of shared memory, which a signal handler may set too.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing as mp
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from factory.engine.errors import ShardFailed
from factory.engine.executors.base import Outcome
from factory.engine.orphans import die_with_parent
from factory.engine.task import Event, Task

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _work(pipe: Connection, stop: Any, parent: int) -> None:
    """A worker's life: take a task, run it, send events and the outcome."""
    die_with_parent(parent)
    for number in _SIGNALS:  # Ctrl-C reaches the whole group; the driver decides what it means
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            task: Task | None = pipe.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        try:
            message: tuple[str, Any] = ("done", task.run(lambda event: pipe.send(("event", event)), lambda: stop.value))
        except Exception as error:
            message = ("error", (_portable(error), traceback.format_exc()))
        pipe.send(message)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM. A process started meanwhile begins with them blocked, so that a Ctrl-C cannot end
    it before it has said that it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else its text."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ShardFailed(f"{type(error).__name__}: {error}")
    return error


class _Worker:
    def __init__(self, context: Any, stop: Any):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, stop, os.getpid()), daemon=False)
        resource_tracker.ensure_running()  # it unblocks the signals, so it must not start in between
        with _signals_held():
            self.process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> bool:
        """Send a task; False when the worker has died since its last one."""
        try:
            self.pipe.send(task)
        except OSError:
            return False
        self.task = task
        return True

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.pipe.send(None)
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class LocalExecutor:
    """`workers` processes (default: the cores this process may use)."""

    def __init__(self, workers: int | None = None):
        self.workers = (workers or len(os.sched_getaffinity(0)) if sys.platform == "linux"
                        else workers or os.cpu_count() or 1)
        self._context = mp.get_context("spawn")
        self._stop = self._context.RawValue(ctypes.c_bool, False)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def run(self, tasks: Sequence[Task], emit: Callable[[Event], None]) -> Iterator[Outcome]:
        waiting, busy = list(tasks), self._busy
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers and not self._stop.value:
                    self._start(waiting.pop(0))
                if not busy:
                    return
                yield from self._collect(busy, emit)
        finally:
            self._kill_busy()

    def _start(self, task: Task) -> None:
        """Give a task to an idle worker that is alive, else to a new one."""
        worker = self._idle.pop() if self._idle else _Worker(self._context, self._stop)
        while not worker.give(task):
            worker.end()
            worker = self._idle.pop() if self._idle else _Worker(self._context, self._stop)
        self._busy.append(worker)

    def _kill_busy(self) -> None:
        """Only when the caller gave up: what they were doing is redone by the next run."""
        while self._busy:
            worker = self._busy.pop()
            worker.process.kill()
            worker.end()

    def _collect(self, busy: list[_Worker], emit: Callable[[Event], None]) -> Iterator[Outcome]:
        """Wait for news from any worker; yields the outcomes of tasks that ended."""
        by_handle: dict[Any, _Worker] = {}
        for worker in busy:
            by_handle[worker.pipe] = worker
            by_handle[worker.process.sentinel] = worker
        ready = wait(list(by_handle), timeout=1.0)
        for worker in {id(by_handle[handle]): by_handle[handle] for handle in ready}.values():
            outcome = self._read(worker, emit)
            if outcome is not None:
                busy.remove(worker)
                yield outcome

    def _read(self, worker: _Worker, emit: Callable[[Event], None]) -> Outcome | None:
        task = worker.task
        assert task is not None
        try:
            while worker.pipe.poll():
                kind, content = worker.pipe.recv()
                if kind == "event":
                    emit(content)
                    continue
                worker.task = None
                self._idle.append(worker)
                if kind == "done":
                    return Outcome(task, content)
                return Outcome(task, error=content[0], traceback=content[1])
        except (EOFError, OSError):
            pass
        if worker.process.is_alive():
            return None
        worker.process.join()
        code = worker.process.exitcode or 0
        worker.task = None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        worker.pipe.close()
        return Outcome(task, error=ShardFailed(
            f"step {task.label}: the worker process {how} (out of memory kills with signal 9). What it had finished is "
            "kept; run the same command again"))

    def stop(self) -> None:
        self._stop.value = True

    def close(self) -> None:
        self._kill_busy()
        for worker in self._idle:
            worker.end()
        self._idle.clear()
