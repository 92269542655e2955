"""Row ids: a 63-bit integer that tells where a row was created.

    row_id = namespace (23 bits) << 40 | shard (16 bits) << 24 | ordinal (24 bits)

A namespace belongs to one increment of one step and is claimed by creating `ids/<number>.json`. Ids are local storage
identity: they are minted where content is created, and never enter a seed, a content hash or a tie-break.
"""

from __future__ import annotations

import json

import polars as pl

from warehouse import faults, layout
from warehouse.errors import WarehouseError
from warehouse.objectstore import Store

SHARD_BITS, ORDINAL_BITS = 16, 24
MAX_SHARDS = 1 << SHARD_BITS
MAX_ROWS_PER_SHARD = 1 << ORDINAL_BITS
MAX_NAMESPACE = (1 << 23) - 1


def first_id(namespace: int, shard: int) -> int:
    """The row id of ordinal 0 of a shard."""
    if not 0 <= shard < MAX_SHARDS:
        raise WarehouseError(f"shard {shard} is out of range: one increment holds at most {MAX_SHARDS} shards; "
                             "raise runtime.shard_rows")
    return namespace << (SHARD_BITS + ORDINAL_BITS) | shard << ORDINAL_BITS


def mint_ids(namespace: int, shard: int, count: int) -> pl.Series:
    """The first `count` row ids of a shard."""
    if count > MAX_ROWS_PER_SHARD:
        raise WarehouseError(f"shard {shard} would hold {count} rows and at most {MAX_ROWS_PER_SHARD} fit: lower "
                             "runtime.shard_rows")
    start = first_id(namespace, shard)
    return pl.Series("row_id", range(start, start + count), dtype=pl.Int64)


def namespace_of(row_id: int) -> int:
    """The namespace that minted a row id."""
    return row_id >> (SHARD_BITS + ORDINAL_BITS)


def claim_namespace(store: Store, owner: dict[str, str]) -> int:
    """Claim the next free namespace for `owner` (stored beside it)."""
    taken = store.names("ids")
    number = int(taken[-1][:8]) + 1 if taken else 1
    while number <= MAX_NAMESPACE:
        if store.put_if_absent(layout.namespace(number), json.dumps(owner, sort_keys=True).encode()):
            faults.point("ids.claimed")
            return number
        number += 1
    raise WarehouseError("all row-id namespaces of this warehouse are used: start a new warehouse")


def namespace_owner(store: Store, namespace: int) -> dict[str, str] | None:
    """Who claimed a namespace: {dataset, step, op, work_key}; None when nobody did."""
    key = layout.namespace(namespace)
    if not store.exists(key):
        return None
    owner: dict[str, str] = json.loads(store.get(key))
    return owner
