"""Deadlines that hold: hangs, crashes, forks and dead parents each cost one call and leave no process behind."""

from __future__ import annotations

import multiprocessing
import operator
import os
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection

import psutil
import pytest

from factory.verifiers.deadline import CallFailed, DeadlineExceeded, DeadlineWorker, WorkerCrashed

HANG = (9, 9**9)
"""`operator.pow` of these stays inside one C call, out of reach of signals and threads."""


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_one_process_answers_many_calls() -> None:
    worker = DeadlineWorker(operator.pow)
    assert [worker.call((2, n), 30) for n in range(5)] == [1, 2, 4, 8, 16]
    first = worker.pid
    worker.call((2, 9), 30)
    assert worker.pid == first
    worker.close()
    assert worker.pid is None
    assert not psutil.pid_exists(first or 0), "closing must reap the process, not leave a zombie"


def test_a_hang_costs_one_call_and_its_process() -> None:
    worker = DeadlineWorker(operator.pow)
    worker.call((1, 1), 30)
    hung = worker.pid
    with pytest.raises(DeadlineExceeded):
        worker.call(HANG, 0.2)
    assert not psutil.pid_exists(hung or 0)
    assert worker.call((2, 3), 30) == 8
    worker.close()


def test_an_exception_is_reported_and_the_process_stays() -> None:
    worker = DeadlineWorker(operator.pow)
    worker.call((1, 1), 30)
    first = worker.pid
    with pytest.raises(CallFailed) as caught:
        worker.call((2, None), 30)
    assert caught.value.kind == "TypeError"
    assert worker.pid == first
    worker.close()


def test_a_dying_process_is_an_error_and_not_an_end() -> None:
    worker = DeadlineWorker(os._exit)
    with pytest.raises(WorkerCrashed):
        worker.call((3,), 30)
    assert worker.pid is None


def test_memory_is_limited() -> None:
    worker: DeadlineWorker[bytes] = DeadlineWorker(bytes, memory=1 << 30)
    with pytest.raises(CallFailed) as caught:
        worker.call((4 << 30,), 30)
    assert caught.value.kind == "MemoryError"
    assert worker.call((3,), 30) == b"\0\0\0"
    worker.close()


def test_megabytes_pass_in_both_directions() -> None:
    worker: DeadlineWorker[str] = DeadlineWorker(str.swapcase)
    assert worker.call(("aB" * 3_000_000,), 60) == "Ab" * 3_000_000
    worker.close()


def test_what_the_function_prints_does_not_disturb_the_answers() -> None:
    worker: DeadlineWorker[None] = DeadlineWorker(print)
    assert worker.call(("noise",), 30) is None
    assert worker.call(("noise",), 30) is None
    worker.close()


def test_a_process_killed_from_outside_is_replaced() -> None:
    worker = DeadlineWorker(operator.pow)
    worker.call((1, 1), 30)
    psutil.Process(worker.pid).kill()
    assert worker.call((2, 5), 30) == 32
    worker.close()


def test_threads_share_a_worker_and_may_end_before_it() -> None:
    worker = DeadlineWorker(operator.pow)
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(worker.call((2, n), 30))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The thread that started the process has ended; the worker must go on for this one.
    assert worker.call((2, 10), 30) == 1024
    assert sorted(results) == [1, 2, 4, 8, 16, 32]
    worker.close()


def _call_in_pool(worker: DeadlineWorker[int], pipe: Connection) -> None:
    before = worker.pid
    with pytest.raises(DeadlineExceeded):
        worker.call(HANG, 0.2)
    pipe.send((before, worker.call((2, 4), 30)))


def test_a_forked_daemonic_process_starts_its_own() -> None:
    worker = DeadlineWorker(operator.pow)
    worker.call((1, 1), 30)
    mine, theirs = multiprocessing.Pipe()
    pool = multiprocessing.get_context("fork").Process(target=_call_in_pool, args=(worker, theirs), daemon=True)
    pool.start()
    assert mine.recv() == (None, 16)
    pool.join()
    assert worker.call((2, 6), 30) == 64
    worker.close()


@pytest.mark.parametrize("busy", [True, False])
def test_the_process_dies_with_its_parent(busy: bool) -> None:
    script = ("import operator, threading, time\nfrom factory.verifiers.deadline import DeadlineWorker\n"
              "worker = DeadlineWorker(operator.pow)\nworker.call((1, 1), 60)\nprint(worker.pid, flush=True)\n"
              + ("worker.call((9, 9**9), 500)" if busy else "time.sleep(500)"))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if _gone(child):
            break
        time.sleep(0.1)
    assert _gone(child)
