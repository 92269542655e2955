"""A warehouse in a local folder.

Creating a key: write a scratch file, flush, fsync, hard-link it to its final name (the link fails if the name is
taken), fsync the folder. Rename would overwrite another writer silently; opening with "x" would show a torn file.
Parts travel the same way, so nothing half-written ever has a final name.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from warehouse import faults, layout
from warehouse.errors import NotInWarehouse, WarehouseError

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_NEXT = {
    errno.ENOSPC: "make room and run again: what was finished is kept",
    errno.EDQUOT: "make room and run again: what was finished is kept",
    errno.EROFS: "mount it writable, or name a folder that can be written",
    errno.EACCES: "allow this user to write there, or name a folder that can be written",
    errno.EPERM: "allow this user to write there, or name a folder that can be written",
}


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Say what a failed write means for whoever runs this."""
    try:
        yield
    except OSError as error:
        act = _NEXT.get(error.errno or 0, "name a local folder that can be written")
        raise WarehouseError(f"{root} cannot be written: {error.strerror or error}; {act}") from error


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make a folder so that it outlives a power cut: the names of new folders are fsynced too."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _fsync_folder(made.parent)


def _remove_empty(folder: Path, owner: int) -> None:
    """A process that ends leaves no empty folder; one with unfinished files stays for gc."""
    if owner == os.getpid():
        with contextlib.suppress(OSError):
            folder.rmdir()


def _discard(scratch: Path) -> None:
    with contextlib.suppress(OSError):
        scratch.unlink(missing_ok=True)


class LocalStore:
    """A warehouse root on a local disk."""

    storage_options: dict[str, Any] | None = None

    def __init__(self, root: Path):
        self.root = root
        self._scratch: Path | None = None
        self._owner = 0
        self._making_scratch = threading.Lock()  # a run's heartbeat writes from a thread of its own

    def path(self, key: str) -> Path:
        """Where a key lies on disk."""
        return self.root / key

    def url(self, key: str) -> str:
        """A key's absolute path, as text."""
        return f"{self.root}/{key}"

    def duckdb_filesystem(self) -> Any:
        """None: DuckDB reads local files by itself."""
        return None

    # -- scratch -----------------------------------------------------------------------------------------------------

    def scratch(self) -> Path:
        """A folder for this process's unfinished files, on the same file system as the root."""
        with self._making_scratch, _writing(self.root):
            if self._scratch is None or self._owner != os.getpid() or not self._scratch.exists():
                self._owner = os.getpid()
                self._scratch = self.root / layout.TMP / f"{socket.gethostname()}-{self._owner}-{uuid.uuid4().hex[:8]}"
                self._scratch.mkdir(parents=True)
                atexit.register(_remove_empty, self._scratch, self._owner)
            return self._scratch

    def clear_scratch(self) -> None:
        """Remove this process's scratch folder."""
        if self._scratch is not None and self._owner == os.getpid():
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _write_scratch(self, write: Callable[[BinaryIO], object], *, durable: bool = True) -> Path:
        """A new scratch file; none is left when writing it fails."""
        scratch = self.scratch() / uuid.uuid4().hex
        try:
            with _writing(self.root), open(scratch, "wb") as file:
                write(file)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        return scratch

    # -- writing -----------------------------------------------------------------------------------------------------

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key` with `data`. False when it exists already (then nothing changes)."""
        if self.exists(key):
            return False
        scratch = self._write_scratch(lambda file: file.write(data))
        faults.point("put.written")
        try:
            return self._link(scratch, key)
        finally:
            _discard(scratch)

    def copy_if_absent(self, key: str, source: Path) -> bool:
        """Create `key` with the bytes of a file, whatever its size. False when it exists already."""
        with contextlib.suppress(NotInWarehouse):
            self.touch(key)
            return False
        with open(source, "rb") as read:
            scratch = self._write_scratch(lambda file: shutil.copyfileobj(read, file, 16 << 20))
        return self.adopt(scratch, key)

    def adopt(self, scratch: Path, key: str) -> bool:
        """Give a finished, fsynced scratch file its final name;
        False (and the age refreshed) when the name is taken."""
        try:
            while not self._link(scratch, key):
                try:
                    self.touch(key)  # a sweep must not delete what has just been used again
                except NotInWarehouse:  # it has just deleted it: ours takes the place
                    continue
                return False
            return True
        finally:
            _discard(scratch)

    def _link(self, scratch: Path, key: str) -> bool:
        final = self.path(key)
        with _writing(self.root):
            _make_folder(final.parent)
            try:
                os.link(scratch, final)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise WarehouseError(f"{self.root} is on a file system without hard links, which commits need: "
                                         "put the warehouse on a local disk") from error
                raise
            faults.point("put.linked")
            _fsync_folder(final.parent)
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Write `key` whole, over what was there (heartbeats, tags, the catalog)."""
        derived = key.startswith(f"{layout.CATALOG}/")  # what can be made again need not outlive a power cut
        scratch = self._write_scratch(lambda file: file.write(data), durable=not derived)
        final = self.path(key)
        try:
            with _writing(self.root):
                _make_folder(final.parent)
                os.replace(scratch, final)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise

    def delete(self, key: str) -> None:
        """Remove a key that nothing committed refers to."""
        with _writing(self.root), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def touch(self, key: str) -> None:
        """Refresh the age of a key."""
        try:
            with _writing(self.root):
                os.utime(self.path(key))
        except WarehouseError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise self._absent(key) from None
            raise

    # -- reading -----------------------------------------------------------------------------------------------------

    def _absent(self, key: str) -> NotInWarehouse:
        return NotInWarehouse(f"{key} does not exist in {self.root}")

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotInWarehouse when it does not exist."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise self._absent(key) from None

    def fetch(self, key: str, target: Path) -> None:
        """Lay `key` out at a local path: a hard link, or a copy on another disk."""
        try:
            os.link(self.path(key), target)
        except FileExistsError:
            return
        except FileNotFoundError:
            if not self.exists(key):
                raise self._absent(key) from None
            raise
        except OSError:
            unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
            shutil.copyfile(self.path(key), unfinished)
            os.replace(unfinished, target)

    def exists(self, key: str) -> bool:
        """Whether a key exists."""
        return self.path(key).exists()

    def size(self, key: str) -> int | None:
        """Bytes of `key`, None when it does not exist."""
        try:
            return self.path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def age(self, key: str) -> float:
        """Seconds since the last write or `touch`."""
        try:
            return time.time() - self.path(key).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            raise self._absent(key) from None

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder, sorted; empty when it does not exist."""
        try:
            return sorted(os.listdir(self.path(prefix)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def keys(self, prefix: str) -> Iterator[str]:
        """Every file key below a folder, in no particular order."""
        for folder, _, files in os.walk(self.path(prefix)):
            relative = Path(folder).relative_to(self.root)
            for name in files:
                yield (relative / name).as_posix()

    @contextlib.contextmanager
    def lease(self, key: str, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
        """Hold `key` alone, or shared. It only saves work, and the kernel frees it at any death."""
        path = self.path(key)
        with _writing(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "ab")  # noqa: SIM115 - closed below, outside of what turns errors into ours
        with file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
