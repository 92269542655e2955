"""Where what can be made again is kept between runs: one folder for a user, or for all workers that share one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """`FACTORY_CACHE_DIR`, else `dataset-factory` in `XDG_CACHE_HOME` or `~/.cache`, else one of this user under the
    temporary directory. It need not exist."""
    named = os.environ.get("FACTORY_CACHE_DIR")
    if named:
        return Path(named)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return _temporary()
    return home / "dataset-factory" if _writable(home) else _temporary()


def _temporary() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"dataset-factory-{user}"


def _writable(folder: Path) -> bool:
    """Whether `folder`, or the nearest parent that exists, lets this process make files."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
