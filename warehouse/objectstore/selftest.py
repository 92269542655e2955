"""Whether a store can hold a warehouse: it must refuse to create a key twice. Asked once, when a warehouse is made."""

from __future__ import annotations

import uuid

from warehouse import layout
from warehouse.errors import WarehouseError
from warehouse.objectstore.base import Store


def selftest(store: Store) -> None:
    """Create one key twice. Raises WarehouseError when both succeed: two writers would overwrite each other there."""
    key = f"{layout.TMP}/selftest-{uuid.uuid4().hex}"
    try:
        first = store.put_if_absent(key, b"first")
        second = store.put_if_absent(key, b"second")
        if not first or second or store.get(key) != b"first":
            raise WarehouseError(f"{store.root} overwrites a file that was to be created only if it did not exist "
                                 "(If-None-Match is ignored), so two writers would lose each other's commits: use a "
                                 "store with conditional writes, or a local folder")
    finally:
        store.delete(key)
