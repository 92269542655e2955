"""Where a warehouse's files lie: a local folder, or a prefix of a bucket.

One primitive carries the whole warehouse: create a small file if, and only if, it is not there yet. `LocalStore` does
it with a hard link, `CloudStore` with a conditional put. Everything above asks for a `Store`.
"""

from __future__ import annotations

from pathlib import Path

from warehouse.errors import WarehouseError
from warehouse.objectstore.base import Store
from warehouse.objectstore.cloud import CloudStore
from warehouse.objectstore.local import LocalStore
from warehouse.objectstore.selftest import selftest

__all__ = ["CloudStore", "LocalStore", "Store", "open_store", "selftest"]


def open_store(root: str | Path) -> Store:
    """The store for a root: a folder, or `s3://bucket/prefix` (extra `cloud`). Any other scheme is refused by name."""
    scheme, found, _ = str(root).partition("://")
    if not found:
        return LocalStore(Path(root).expanduser().absolute())
    if scheme != "s3":
        raise WarehouseError(f"{root}: {scheme}:// cannot hold a warehouse: name a local folder or s3://bucket/prefix "
                             "(most stores have an S3 endpoint: set AWS_ENDPOINT_URL)")
    return CloudStore(str(root))
