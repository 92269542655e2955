"""The sides of a comparison: each in a process of its own, pinned to one core, with libraries held to one thread; and
the environments in which peers are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import text_corpora

HERE = Path(__file__).resolve().parent
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
              "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(HERE.parent)}


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def start(script: str, words: Sequence[str], core: int, python: str = sys.executable) -> subprocess.Popen[str]:
    """A script of this folder in a process of its own on one core."""
    return subprocess.Popen([python, str(HERE / script), *words], env={**os.environ, **ONE_THREAD}, text=True,
                            stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core}))


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a side printed last, as JSON; ends the program if it failed."""
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(map(str, process.args))[:300]} failed with {process.returncode}")
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def peer_python(name: str, given: str | None) -> str:
    """The interpreter of an environment with `<name>_peers.txt` installed: the one given, or one that is made once."""
    folder = Path(given) if given else text_corpora.cache_folder("peers") / name
    python, wanted = folder / "bin" / "python", HERE / f"{name}_peers.txt"
    if given is None and not (folder / "installed").exists():
        print(f"installing {wanted.name} into an environment of its own …", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted],
                       check=True)
        (folder / "installed").touch()
    if not python.exists():
        sys.exit(f"{folder} is no virtual environment: --peers names one with {wanted} installed")
    return str(python)
