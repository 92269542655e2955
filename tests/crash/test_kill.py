"""kill -9 at any moment costs nothing that was finished.

The driver, or a worker, is killed at seeded moments all over a run, and the same command is started again until it
succeeds. Then every dataset has the content hash of an uninterrupted run and exactly one version; no answer whose
journal line was whole is asked for again; at no time is anything half-written visible; no process outlives its driver.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import psutil
import pytest
from crash_world import World, assert_readable, assert_whole, wait_until

KILLS = 5
SEEDS = [0, pytest.param(1, marks=pytest.mark.slow),
         *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (2, 3))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """Content hashes of an uninterrupted run, and how far its progress went."""
    world = World(tmp_path_factory.mktemp("reference"))
    world.run()
    assert len(world.requests()) == len(set(world.requests())) == 300
    return world.hashes(), world.progress()


def _moments(seed: int, last: int) -> list[int]:
    """Rising moments, so that kills fall early, midway and late."""
    chance = random.Random(seed)
    return sorted(chance.randrange(1, last) for _ in range(KILLS))


def _reach(world: World, driver: subprocess.Popen[str], moment: int) -> None:
    wait_until(lambda: world.progress() >= moment or driver.poll() is not None, f"progress {moment}")


def _check_after_kill(world: World, journalled: set[str], asked_before: int) -> None:
    assert not journalled & set(world.requests()[asked_before:])
    assert_whole(world)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_driver(tmp_path: Path, reference: tuple[dict[str, str], int], seed: int) -> None:
    hashes, last = reference
    world = World(tmp_path)
    journalled, asked = set[str](), 0
    for moment in _moments(seed, last):
        driver = world.start()
        _reach(world, driver, moment)
        driver.kill()
        driver.communicate()
        wait_until(lambda: not world.living(), "the end of every process of a killed driver")
        _check_after_kill(world, journalled, asked)
        journalled, asked = world.journalled(), len(world.requests())
    world.run()
    _check_after_kill(world, journalled, asked)
    assert world.hashes() == hashes
    assert_readable(world.root)
    wait_until(lambda: not world.living(), "the end of every process of a finished driver")


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_worker(tmp_path: Path, reference: tuple[dict[str, str], int], seed: int) -> None:
    hashes, last = reference
    world, chance = World(tmp_path), random.Random(seed)
    for moment in _moments(100 + seed, last):
        driver = world.start()
        _reach(world, driver, moment)
        wait_until(lambda driver=driver: world.workers() or driver.poll() is not None, "a worker")
        workers = world.workers()
        if workers:
            _kill(chance.choice(workers))
        journalled = world.journalled()
        asked = len(world.requests())
        code, report = world.end(driver)
        assert code in (0, 1), report  # 0 when the worker was idle or had nothing left to do
        assert not report["tracebacks"]
        _check_after_kill(world, journalled, asked)
        wait_until(lambda: not world.living(), "the end of every process of a failed driver")
    world.run()
    assert world.hashes() == hashes
    assert len(world.requests()) - len(set(world.requests())) <= KILLS  # what was in flight, one answer per worker
    assert_readable(world.root)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
