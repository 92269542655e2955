"""What every store can do. Keys are relative POSIX paths (see `warehouse.layout`); what they mean is not its business.

A key is either written once (`put_if_absent`, `adopt`, `copy_if_absent`) or replaced whole (`replace`); no reader ever
sees half of one. Ages order nothing: they only keep a sweep away from what has just been used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Store(Protocol):
    """The files of one warehouse."""

    @property
    def root(self) -> Path | str:
        """For people: the folder, or the URL without a trailing slash."""

    @property
    def storage_options(self) -> dict[str, Any] | None:
        """What `polars.scan_parquet(store.url(key), storage_options=…)` needs; None for local files."""

    def url(self, key: str) -> str:
        """A key as polars and DuckDB name it: an absolute path or `s3://bucket/prefix/key`. `""` gives `root/`."""

    def path(self, key: str) -> Path:
        """Where a key lies on this machine's disk. WarehouseError where it lies on none."""

    def duckdb_filesystem(self) -> Any:
        """An fsspec file system for `duckdb.register_filesystem`; None when DuckDB reads the URLs by itself."""

    def scratch(self) -> Path:
        """A local folder for this process's unfinished files, from which `adopt` takes them."""

    def clear_scratch(self) -> None:
        """Remove this process's scratch folder."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key` with `data`. False when it exists already (then nothing changes)."""

    def copy_if_absent(self, key: str, source: Path) -> bool:
        """Create `key` with the bytes of a file, whatever its size. False when it exists already.

        The key must be named by the content: two writers of one large key write the same bytes.
        """

    def adopt(self, scratch: Path, key: str) -> bool:
        """Give a finished, fsynced scratch file its final name, which must be named by its content; the scratch file is
        gone afterwards. False, and the age refreshed, when the name is taken."""

    def replace(self, key: str, data: bytes) -> None:
        """Write `key` whole, over what was there."""

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotInWarehouse when it does not exist."""

    def fetch(self, key: str, target: Path) -> None:
        """Lay `key` out at a local path that does not exist yet (a hard link where that can be). When it exists,
        nothing happens. NotInWarehouse when there is no such key."""

    def exists(self, key: str) -> bool:
        """Whether a key exists."""

    def delete(self, key: str) -> None:
        """Remove a key that nothing committed refers to; nothing happens when it does not exist."""

    def size(self, key: str) -> int | None:
        """Bytes of `key`, None when it does not exist."""

    def age(self, key: str) -> float:
        """Seconds since the last write or `touch`, by this machine's clock against the store's (it may be negative:
        compare ages with each other). NotInWarehouse when the key does not exist."""

    def touch(self, key: str) -> None:
        """Refresh the age of a key. NotInWarehouse when it does not exist."""

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder, files and folders, sorted; empty when it does not exist."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every file key below a folder, in no particular order."""

    def lease(self, key: str, *, wait: bool = True, shared: bool = False) -> AbstractContextManager[bool]:
        """Hold `key` alone, or with others who also want it shared. Yields False when `wait` is false and it is held.

        It only saves work: correctness never depends on it. Where there are no locks it always yields True.
        """
