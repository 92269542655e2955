"""Many calls over a few processes: a hang, a crash or an error costs its own call, whatever stands around it."""

from __future__ import annotations

import multiprocessing
import operator
import os
import time
from multiprocessing.connection import Connection

import psutil
import pytest

from factory.verifiers.deadline import CallFailed, DeadlineExceeded, WorkerCrashed
from factory.verifiers.deadline_pool import DeadlinePool

HANG = (9, 9**9)


def test_results_come_in_the_order_of_the_calls() -> None:
    pool = DeadlinePool(operator.pow, size=2)
    assert pool.map([(2, n) for n in range(100)], 30) == [2**n for n in range(100)]
    assert len(pool.pids) == 2
    assert pool.map([], 30) == []
    pool.close()
    assert pool.pids == []
    assert pool.map([(3, 2)], 30) == [9]
    pool.close()


def test_hangs_cost_their_own_calls() -> None:
    pool = DeadlinePool(operator.pow, size=2)
    calls = [HANG if n in (3, 4, 20) else (2, n) for n in range(40)]
    results = pool.map(calls, 0.5)
    assert [isinstance(result, DeadlineExceeded) for result in results] == [n in (3, 4, 20) for n in range(40)]
    assert [result for n, result in enumerate(results) if n not in (3, 4, 20)] == [
        2**n for n in range(40) if n not in (3, 4, 20)]
    pool.close()
    assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE
                and child.pid in pool.pids]


def test_one_process_gets_through_a_hang_too() -> None:
    pool = DeadlinePool(operator.pow, size=1)
    results = pool.map([(2, 1), HANG, (2, 2), HANG, (2, 3)], 0.3)
    assert [result if isinstance(result, int) else type(result) for result in results] == [
        2, DeadlineExceeded, 4, DeadlineExceeded, 8]
    pool.close()


def test_errors_and_deaths_are_results() -> None:
    pool = DeadlinePool(operator.pow, size=2)
    results = pool.map([(2, None), (2, 3)], 30)
    assert isinstance(results[0], CallFailed)
    assert results[1] == 8
    pool.close()
    dying: DeadlinePool[None] = DeadlinePool(os._exit, size=2)
    assert all(isinstance(result, WorkerCrashed) for result in dying.map([(3,), (4,), (5,)], 30))
    dying.close()
    assert dying.pids == []


def test_calls_and_results_of_megabytes_pass() -> None:
    pool: DeadlinePool[str] = DeadlinePool(str.swapcase, size=2)
    texts = ["aB" * 500_000, "x", "cD" * 500_000, *["eF" * 5000] * 30]
    assert pool.map([(text,) for text in texts], 60) == [text.swapcase() for text in texts]
    pool.close()


def test_a_process_killed_between_two_rounds_is_replaced() -> None:
    pool = DeadlinePool(operator.pow, size=2)
    pool.map([(1, 1)] * 4, 30)
    for pid in pool.pids:
        psutil.Process(pid).kill()
    assert pool.map([(2, 5)] * 4, 30) == [32] * 4
    pool.close()


def test_an_interrupt_leaves_no_half_told_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    pool = DeadlinePool(operator.pow, size=2)
    pool.map([(1, 1)] * 4, 30)
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.map([HANG, HANG, (2, 2)], 30)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert pool.map([(2, n) for n in range(10)], 30) == [2**n for n in range(10)]
    pool.close()


def _map_in_fork(pool: DeadlinePool[int], pipe: Connection) -> None:
    pipe.send((pool.pids, pool.map([(2, 4), (2, 5)], 30)))
    pool.close()


def test_a_forked_process_starts_its_own() -> None:
    pool = DeadlinePool(operator.pow, size=2)
    pool.map([(1, 1)] * 4, 30)
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_map_in_fork, args=(pool, theirs), daemon=True)
    child.start()
    assert mine.recv() == ([], [16, 32])
    child.join()
    assert pool.map([(2, 6)], 30) == [64]
    pool.close()
    time.sleep(0)
