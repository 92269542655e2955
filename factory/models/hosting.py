"""A vLLM process seen from outside: started with its output in a log, spoken to over a socket, ended with all it began.

The process leads a session of its own, so that Ctrl-C in a terminal is for the driver to judge. It ends when its end of
the socket closes, however this process dies. Its log is a file without a name: it needs no cleaning up, and its tail is
what an error message shows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from factory.engine.errors import MissingExtraError
from factory.models.runtime import ModelRuntime

_TAIL_BYTES = 16_384
_TAIL_LINES = 20
_TAIL_WIDTH = 400
_GRACE_SECONDS = 6.0
_TRACKER_SECONDS = 1.0


class Hosted:
    """`role` and `arguments` are `vllm_host`'s. `pipe` is the socket."""

    def __init__(self, role: str, arguments: list[str], environment: Mapping[str, str]):
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("vllm", "vllm")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.pipe, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-m", "factory.models.vllm_host", role, str(theirs.fileno()), *arguments]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, env=dict(environment),
                pass_fds=(theirs.fileno(),), start_new_session=True)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def ending(self, words: str = "") -> str:
        """How it ended (in its own `words`, where it had any) and the tail of its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        code = self.process.poll()
        how = words or ("is silent" if code is None else f"was killed by signal {-code}" if code < 0
                        else f"ended with exit code {code}")
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
        advice = ". Out of memory: lower runtime.batch or runtime.context" if "out of memory" in text.lower() else ""
        tail = "\n".join(f"  {line[:_TAIL_WIDTH]}" for line in lines) or "  (it printed nothing)"
        return f"{how}{advice}. The end of its log:\n{tail}"

    def close(self, last_words: Any = None) -> None:
        """End the process and everything it started. Waits a few seconds for an orderly end. May be called again."""
        if self.pipe.closed:
            return
        with contextlib.suppress(OSError, ValueError):
            if last_words is not None:
                self.pipe.send(last_words)
            else:
                self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The last of them, Python's resource tracker, removes the shared memory that the others left.
            until = time.monotonic() + _TRACKER_SECONDS
            while not self.alive and time.monotonic() < until:
                os.killpg(self.process.pid, 0)
                time.sleep(0.05)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        self._log.close()


def environment(runtime: ModelRuntime) -> dict[str, str]:
    """The environment of a vLLM process: what the user has set, and what this project needs where they have not."""
    found = {
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB, on a machine without a GPU
        "VLLM_ENGINE_READY_TIMEOUT_S": "7200",  # loading may take long; a process that dies is noticed at once
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **os.environ,
    }
    if runtime.threads and runtime.tensor_parallel == 1:
        cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
        found["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores[: runtime.threads]))
    name, colon, number = runtime.device.partition(":")
    if name == "cuda" and colon:
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        found["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if int(number) < len(visible) else number
    return found
