"""A warehouse under a prefix of a bucket, through obstore.

Creating a key is one put that the store refuses when the key exists (If-None-Match: *). Its answer needs care.
"Conflict" (409) means that somebody is at it, not that it exists: look, then ask again. And a put may be carried out
and its answer lost: the next attempt is then told "exists" about our own object, so after such a doubt the stored bytes
decide. Records carry a commit id, so equal bytes are ours.

Nothing can be locked or linked here, and reading is by URL, never by path. Credentials and endpoint come from the usual
AWS_* variables, read when the store is opened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse import layout
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.objectstore.transport import FIRST_PAUSE, Patience, Transient

if TYPE_CHECKING:
    from obstore import ObjectMeta

MULTIPART_BYTES = 32 << 20
_CHUNK = 16 << 20
_SETTINGS = ("access_key_id", "secret_access_key", "session_token", "region", "default_region", "endpoint",
             "endpoint_url", "endpoint_url_s3", "allow_http", "virtual_hosted_style_request", "skip_signature",
             "unsigned_payload", "request_payer")


class CloudStore:
    """A warehouse at `s3://bucket/prefix`.

    Args:
        root: the URL.
        patience: seconds for which an answer is waited for, through errors that may pass.
        timeout: seconds for one request.
        fresh: `touch` leaves alone what is younger than this (seconds): a copy costs three requests, and a sweep spares
            what is younger than days.
    """

    def __init__(self, root: str, *, patience: float = 60.0, timeout: float = 60.0, fresh: float = 3600.0):
        self.root, self.fresh = root.rstrip("/"), fresh
        self._ask = Patience(self.root, patience)
        self._timeout, self._scratch, self._owner = timeout, None, 0
        settings = {name: os.environ.get(f"AWS_{name.upper()}") for name in _SETTINGS}
        self._settings = {f"aws_{name}": value for name, value in settings.items() if value}
        self._once = self._open(retries=0)
        self._steady = self._open(retries=8)

    _scratch: Path | None

    def _open(self, retries: int) -> Any:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise WarehouseError(f"{self.root} needs the extra `cloud`: pip install "
                                 "'dataset-factory[cloud]'") from error
        try:
            again: Any = {"max_retries": retries, "retry_timeout": timedelta(seconds=self._ask.seconds)}
            return from_url(self.root, client_options=self._client(), retry_config=again)
        except Exception as error:
            raise WarehouseError(f"{self.root} cannot be opened ({error}): write s3://bucket/prefix and check the "
                                 "AWS_* variables") from error

    def _client(self) -> Any:
        return {"timeout": f"{self._timeout}s", "connect_timeout": f"{min(10.0, self._timeout)}s",
                "allow_http": self._settings.get("aws_allow_http", "false").lower()}

    # -- what readers need -------------------------------------------------------------------------------------------

    def url(self, key: str) -> str:
        """`s3://bucket/prefix/key`."""
        return f"{self.root}/{key}"

    def path(self, key: str) -> Path:
        """Nothing here lies on a disk: WarehouseError."""
        raise WarehouseError(f"{self.url(key)} has no path on this machine: what asked for one works with local "
                             "warehouses only")

    @property
    def storage_options(self) -> dict[str, Any]:
        """The settings for polars."""
        return {**self._settings, "max_retries": 8}

    def duckdb_filesystem(self) -> Any:
        """An fsspec file system that reads this store's URLs."""
        from obstore.fsspec import FsspecStore

        config: Any = {name: value for name, value in self._settings.items() if name != "aws_allow_http"}
        uncached: Any = {"skip_instance_cache": True}  # fsspec would hand out one made with other settings
        return FsspecStore("s3", config=config, client_options=self._client(), **uncached)

    # -- scratch -----------------------------------------------------------------------------------------------------

    def scratch(self) -> Path:
        """A temporary folder of this machine."""
        if self._scratch is None or self._owner != os.getpid() or not self._scratch.exists():
            self._owner = os.getpid()
            self._scratch = Path(tempfile.mkdtemp(prefix="warehouse-"))
        return self._scratch

    def clear_scratch(self) -> None:
        """Remove this process's scratch folder."""
        if self._scratch is not None and self._owner == os.getpid():
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    # -- writing -----------------------------------------------------------------------------------------------------

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key` with `data`. False when it exists already (then nothing changes)."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        began, pause, doubtful = time.monotonic(), FIRST_PAUSE, False
        what = f"create {key}"
        while True:
            try:
                self._ask.once(what, lambda: obstore.put(self._once, key, data, mode="create", use_multipart=False))
                return True
            except AlreadyExistsError:
                stored = self._stored(key)
                if stored is not None:
                    return doubtful and stored == data
                conflict = Transient("another writer is at the same key")
                pause = self._ask.wait(what, began, pause, conflict)
            except Transient as error:
                doubtful = True
                pause = self._ask.wait(what, began, pause, error)
            except FileNotFoundError as error:
                raise WarehouseError(f"{self.root} refused to {what} ({error}): check the bucket") from error

    def copy_if_absent(self, key: str, source: Path) -> bool:
        """Create `key` with the bytes of a file. Large ones travel in pieces, which no store makes conditional: equal
        names are equal bytes, so two who do it at once do no harm."""
        while self.exists(key):
            with contextlib.suppress(NotInWarehouse):  # swept between the two
                self.touch(key)
                return False
        if source.stat().st_size <= MULTIPART_BYTES:
            return self.put_if_absent(key, source.read_bytes())
        import obstore

        self._ask.ask(f"take {key}", lambda: obstore.put(self._steady, key, source, use_multipart=True,
                                                         chunk_size=_CHUNK, max_concurrency=4))
        return True

    def adopt(self, scratch: Path, key: str) -> bool:
        """Send a finished scratch file, and remove it; False (and the age refreshed) when the key exists."""
        try:
            return self.copy_if_absent(key, scratch)
        finally:
            scratch.unlink(missing_ok=True)

    def replace(self, key: str, data: bytes) -> None:
        """Write `key` whole, over what was there."""
        import obstore

        self._ask.ask(f"write {key}", lambda: obstore.put(self._once, key, data, use_multipart=False))

    def delete(self, key: str) -> None:
        """Remove a key that nothing committed refers to."""
        import obstore

        with contextlib.suppress(FileNotFoundError):
            self._ask.ask(f"delete {key}", lambda: obstore.delete(self._once, key))

    def touch(self, key: str) -> None:
        """Refresh the age of a key by copying it away and back: S3 refuses to copy an object onto itself."""
        import obstore

        if self.age(key) < self.fresh:
            return
        aside = f"{layout.TMP}/touch-{uuid.uuid4().hex}"
        try:
            self._ask.ask(f"copy {key}", lambda: obstore.copy(self._once, key, aside))
            self._ask.ask(f"copy {key}", lambda: obstore.copy(self._once, aside, key))
        except FileNotFoundError:
            raise self._absent(key) from None
        finally:
            self.delete(aside)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _absent(self, key: str) -> NotInWarehouse:
        return NotInWarehouse(f"{key} does not exist in {self.root}")

    def _stored(self, key: str) -> bytes | None:
        import obstore

        try:
            return self._ask.ask(f"read {key}", lambda: bytes(obstore.get(self._once, key).bytes()))
        except FileNotFoundError:
            return None

    def _head(self, key: str) -> ObjectMeta | None:
        import obstore

        try:
            return self._ask.ask(f"look at {key}", lambda: obstore.head(self._once, key))
        except FileNotFoundError:
            return None

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotInWarehouse when it does not exist."""
        stored = self._stored(key)
        if stored is None:
            raise self._absent(key)
        return stored

    def fetch(self, key: str, target: Path) -> None:
        """Download `key` to a local path; a broken download leaves nothing there."""
        if target.exists():
            return
        unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            self._ask.ask(f"read {key}", lambda: self._download(key, unfinished))
            os.replace(unfinished, target)
        except FileNotFoundError:
            raise self._absent(key) from None
        finally:
            unfinished.unlink(missing_ok=True)

    def _download(self, key: str, target: Path) -> None:
        import obstore

        with open(target, "wb") as file:
            for piece in obstore.get(self._once, key).stream(min_chunk_size=4 << 20):
                file.write(piece)

    def exists(self, key: str) -> bool:
        """Whether a key exists."""
        return self._head(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of `key`, None when it does not exist."""
        found = self._head(key)
        return None if found is None else found["size"]

    def age(self, key: str) -> float:
        """Seconds since the last write or `touch`, to the second."""
        found = self._head(key)
        if found is None:
            raise self._absent(key)
        return time.time() - found["last_modified"].timestamp()

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder, sorted; empty when it does not exist."""
        import obstore

        found = self._ask.ask(f"list {prefix}", lambda: obstore.list_with_delimiter(self._once, prefix or None))
        listed = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted(path.rsplit("/", 1)[-1] for path in listed)

    def keys(self, prefix: str) -> Iterator[str]:
        """Every file key below a folder."""
        import obstore

        yield from self._ask.ask(f"list {prefix}", lambda: [
            item["path"] for batch in obstore.list(self._once, prefix or None, chunk_size=1000) for item in batch])

    @contextlib.contextmanager
    def lease(self, key: str, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
        """Always True: there are no locks here, and correctness never depends on one."""
        yield True
