"""SIGINT and SIGTERM drain: what is in flight is finished and kept, the exit status says interrupted.

The same command then goes on. A second signal stops at once. A worker that dies as if it were out of memory fails the
run, after the others finished.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_world import World, assert_readable, assert_whole, wait_until

from warehouse import Warehouse

INTERRUPTED = 130


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Content hashes of an uninterrupted run."""
    world = World(tmp_path_factory.mktemp("reference"), count=40)
    world.run(executor="inline")
    return world.hashes()


def _started(world: World) -> bool:
    """The driver listens to signals and is about to start its first worker."""
    return any(world.root.glob("runs/*/heartbeat.json"))


def _asking(world: World) -> bool:
    return len(world.requests()) >= 20


def _verifying(world: World) -> bool:
    return any(world.root.glob("datasets/crash/samples/v*.json"))


MOMENTS = {"started": _started, "asking": _asking, "verifying": _verifying}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_drain(tmp_path: Path, reference: dict[str, str], executor: str, number: signal.Signals) -> None:
    world = World(tmp_path, count=40)
    driver = world.start(executor=executor, delay=0.01)
    wait_until(lambda: _asking(world), "twenty requests")
    driver.send_signal(number)
    code, report = world.end(driver)
    assert (code, report["status"], report["errors"]) == (INTERRUPTED, "interrupted", [])
    assert report["steps"]["samples"]["status"] == report["steps"]["chosen"]["status"] == "skipped"
    assert world.journalled() == set(world.requests())
    assert len(world.requests()) < 120
    wait_until(lambda: not world.living(), "the end of every process of a stopped driver")
    assert_whole(world)
    world.run(executor=executor)
    assert len(world.requests()) == len(set(world.requests())) == 120
    assert world.hashes() == reference
    samples = Warehouse(world.root).dataset("crash/samples")
    assert samples.manifest.usage.tokens_out == samples.scan().collect()["tokens_out"].sum()  # all of it, and once


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_ctrl_c_reaches_the_whole_group(tmp_path: Path, reference: dict[str, str],
                                        moment: Callable[[World], bool]) -> None:
    """A terminal sends SIGINT to workers and their children too; only the driver may act on it."""
    world = World(tmp_path, count=40)
    driver = world.start(delay=0.01)
    wait_until(lambda: moment(world), "the moment")
    os.killpg(driver.pid, signal.SIGINT)
    code, report = world.end(driver)
    assert (code, report["status"], report["errors"]) == (INTERRUPTED, "interrupted", [])
    wait_until(lambda: not world.living(), "the end of every process of a stopped driver")
    world.run()
    assert len(world.requests()) == len(set(world.requests())) == 120
    assert world.hashes() == reference


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_second_signal_stops_at_once(tmp_path: Path, reference: dict[str, str], executor: str,
                                     number: signal.Signals) -> None:
    world = World(tmp_path, count=40)
    driver = world.start(executor=executor, delay=3600)
    wait_until(lambda: len(world.requests()) >= 1, "a request")
    driver.send_signal(number)
    time.sleep(0.5)
    assert driver.poll() is None  # it waits for the answers in flight
    driver.send_signal(number)
    code, _ = world.end(driver)
    assert code != 0
    wait_until(lambda: not world.living(), "the end of every process of a stopped driver")
    ends = [path.read_text() for path in world.root.glob("runs/*/end.json")]
    assert len(ends) == 1
    assert '"interrupted"' in ends[0]
    world.run(executor=executor)
    assert world.hashes() == reference


def test_worker_that_dies(tmp_path: Path, reference: dict[str, str]) -> None:
    world = World(tmp_path, count=40)
    driver = world.start(delay=0.02)
    wait_until(lambda: _asking(world), "twenty requests")
    first, *others = wait_until(world.workers, "workers")
    assert others
    first.kill()
    journalled, asked = world.journalled(), len(world.requests())
    code, report = world.end(driver)
    assert (code, report["status"], report["tracebacks"]) == (1, "failed", [])
    assert report["steps"]["samples"]["status"] == "failed"
    assert report["steps"]["correct"]["status"] == "blocked"
    assert len(set(world.requests())) >= 60  # the other worker finished its half
    world.run()
    assert not journalled & set(world.requests()[asked:])
    assert len(world.requests()) <= 121  # only the answer in flight is asked for again
    assert world.hashes() == reference
    assert_readable(world.root)
