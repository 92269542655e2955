"""One primitive carries the whole warehouse: create a small file if, and only if, it is not there yet.

On a local disk that is: write a scratch file, flush, fsync, hard-link it to its final name (the link fails if the name
is taken), fsync the folder. Rename would overwrite another writer silently; opening with "x" would show a torn file.
Parts travel the same way, so nothing half-written ever has a final name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from warehouse import layout
from warehouse.errors import NotInWarehouse, WarehouseError


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalStore:
    """A warehouse root on a local disk. Keys are relative POSIX paths (see `warehouse.layout`)."""

    def __init__(self, root: Path):
        self.root = root
        self._scratch: Path | None = None
        self._making_scratch = threading.Lock()  # a run's heartbeat writes from a thread of its own

    def path(self, key: str) -> Path:
        """Where a key lies on disk."""
        return self.root / key

    def scratch(self) -> Path:
        """A folder for this process's unfinished files, on the same file system as the root."""
        with self._making_scratch:
            if self._scratch is None or not self._scratch.exists():
                self._scratch = self.root / layout.TMP / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
                self._scratch.mkdir(parents=True)
            return self._scratch

    def clear_scratch(self) -> None:
        """Remove this process's scratch folder."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key` with `data`. False when it exists already (then nothing changes)."""
        if self.exists(key):
            return False
        scratch = self.scratch() / uuid.uuid4().hex
        with open(scratch, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return self.adopt(scratch, key)

    def copy_if_absent(self, key: str, source: Path) -> bool:
        """Create `key` with the bytes of a file, whatever its size. False when it exists already."""
        if self.exists(key):
            return False
        scratch = self.scratch() / uuid.uuid4().hex
        with open(source, "rb") as read, open(scratch, "wb") as write:
            shutil.copyfileobj(read, write, 16 << 20)
            write.flush()
            os.fsync(write.fileno())
        return self.adopt(scratch, key)

    def adopt(self, scratch: Path, key: str) -> bool:
        """Give a finished, fsynced scratch file its final name;
        False (and the age refreshed) when the name is taken."""
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(scratch, final)
        except FileExistsError:
            os.utime(final)  # a sweep must not delete what has just been used again
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise WarehouseError(f"{self.root} is on a file system without hard links, which commits need: "
                                     "put the warehouse on a local disk") from error
            raise
        finally:
            scratch.unlink(missing_ok=True)
        _fsync_folder(final.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Write `key` whole, over what was there (heartbeats, tags, the catalog: never the truth)."""
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.scratch() / uuid.uuid4().hex
        scratch.write_bytes(data)
        os.replace(scratch, final)

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotInWarehouse when it does not exist."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotInWarehouse(f"{key} does not exist in {self.root}") from None

    def exists(self, key: str) -> bool:
        return self.path(key).exists()

    def delete(self, key: str) -> None:
        """Remove a key that nothing committed refers to."""
        self.path(key).unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        """Bytes of `key`, None when it does not exist."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder, sorted; empty when it does not exist."""
        try:
            return sorted(os.listdir(self.path(prefix)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def keys(self, prefix: str) -> Iterator[str]:
        """Every file key below a folder, in no particular order."""
        for folder, _, files in os.walk(self.path(prefix)):
            relative = Path(folder).relative_to(self.root).as_posix()
            for name in files:
                yield f"{relative}/{name}"

    @contextlib.contextmanager
    def lease(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold `key` alone. It only saves work: correctness never depends on it, and the kernel frees it at any death.

        Yields False when `wait` is false and somebody else holds it.
        """
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)


def open_store(root: str | Path) -> LocalStore:
    """The store for a root. Only local folders for now; an `s3://` root is refused by name."""
    if "://" in str(root):
        raise WarehouseError(f"{root}: object storage is not supported yet; name a local folder")
    return LocalStore(Path(root).expanduser().absolute())
