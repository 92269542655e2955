"""Processes that must not outlive whoever started them.

On Linux the kernel is asked to kill a process when the thread that started it ends (PR_SET_PDEATHSIG); elsewhere
whoever starts a process has other means (a closed pipe, a timer).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up here, never after a fork


def die_with_parent(parent: int) -> None:
    """Called in the child; `parent` is the process that started it."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)
