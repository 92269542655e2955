"""Ctrl-C at the command: the first drains and says how to go on, the second ends at once; a closed pipe is no error."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import RECIPES, Shell


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run of pico whose every answer takes `delay` seconds."""
    shutil.copy(RECIPES / "pico.yaml", tmp_path)

    def run(delay: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "factory.cli", "run", "pico.yaml", "--executor", "inline",
                   "--vars", "count=10", "--set", f"steps.samples.runtime.model.delay={delay}"]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


def wait_for(folder: Path, pattern: str) -> None:
    limit = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        assert time.monotonic() < limit, pattern
        time.sleep(0.01)


def test_first_drains(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start(0.2)
    wait_for(tmp_path / "warehouse-data", "work/*/journal/*.journal")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in stdout
    assert "skipped: samples, correct" in stdout
    assert "Traceback" not in stderr
    again = Shell(tmp_path).json("run", "pico.yaml", "--executor", "inline", "--vars", "count=10")
    assert again["steps"][1]["usage"]["reused"] > 0
    assert again["status"] == "succeeded"


def test_second_ends_at_once(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start(3600)
    wait_for(tmp_path / "warehouse-data", "work/*/plan.json")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("error: stopped at once")
    assert stdout == ""


def test_closed_pipe(house: Shell) -> None:
    """As in `factory sql … | head -1`."""
    query = "SELECT * FROM range(200000)"
    process = subprocess.Popen([sys.executable, "-m", "factory.cli", "sql", query, "--csv"], cwd=house.folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(60)) == ("", 0)
