"""How this package compiles: `@kernel` is numba's `njit` with one set of options and a cache that works everywhere.

Modules with kernels import numba when they are imported, so nothing imports them at the top of a file that `import
factory` reaches. Compiled code is kept in `NUMBA_CACHE_DIR`, or the user's cache folder, or, where that can't be
written, in a folder of this user under the temporary directory; never in the package, which may be read-only.

numba compiles again when a kernel's own file has changed, and doesn't look at what the kernel calls. So code is kept
under a digest of the files of all compiled functions that a kernel calls, and of the values of the globals it reads.
Workers that compile the same kernel at once do the work twice and no harm: numba writes the files by renaming them. To
compile once, run a kernel on a row or two before the workers start.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import config


def _writable(folder: Path) -> bool:
    """Whether `folder`, or the nearest parent that exists, lets this process make files."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


@cache
def cache_folder() -> Path:
    """The folder of compiled code."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if _writable(home):
        return home / "dataset-factory" / "kernels"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"dataset-factory-kernels-{user}"


@cache
def _file(path: str) -> bytes:
    return Path(path).read_bytes()


def _gather(function: Callable[..., Any], files: dict[str, bytes], values: dict[str, str]) -> None:
    """The files of compiled functions that `function` calls, directly or not, and the values of the globals read."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        called = getattr(value, "py_func", None) or getattr(value, "_defn", None)  # `_defn`: of an intrinsic
        key = f"{function.__module__}.{function.__qualname__}.{name}"
        if called is not None and key not in values:
            values[key] = called.__qualname__
            files[called.__code__.co_filename] = _file(called.__code__.co_filename)
            _gather(called, files, values)
        elif isinstance(value, (int, float, bytes, str)) or hasattr(value, "dtype"):
            values[key] = repr(value)


def _digest(function: Callable[..., Any]) -> str:
    files: dict[str, bytes] = {}
    values: dict[str, str] = {}
    _gather(function, files, values)
    total = hashlib.blake2b(digest_size=8)
    for content in sorted(files.values()):
        total.update(hashlib.blake2b(content).digest())
    total.update(repr(sorted(values.items())).encode())
    return total.hexdigest()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call with given types, and keep the code. No GIL, no threads, no bounds checks,
    no exceptions on division by zero; floats keep IEEE order (no fast-math), so every machine gets the same figures."""
    asked = config.CACHE_DIR
    config.CACHE_DIR = str(cache_folder() / _digest(function))
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        return compiled
    finally:
        config.CACHE_DIR = asked


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `kernel`, for a function that only kernels call: their kept code holds its code."""
    compiled: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled
