"""Collecting and checking where there are no folders, links or locks: the same calls on a disk and in a bucket."""

from __future__ import annotations

import polars as pl
import pytest
from bundles import chain, first_part, parts_of

from warehouse import Warehouse, WarehouseError, layout
from warehouse.parts import write_part
from warehouse.records import ShardRecord
from warehouse.upkeep import fsck, gc


def test_two_phases_on_every_store(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    store = warehouse.store
    assert fsck.check(warehouse).clean
    part = write_part(store, pl.DataFrame({"row_id": [1]}))
    store.put_if_absent(layout.work_shard("op", "m"), ShardRecord(shard="m", tables={"t": part},
                                                                content_hash="").to_json())
    warehouse.delete(made["scores"].ref)
    doomed = {part.path, *parts_of(made["scores"])}
    assert gc.collect(warehouse, grace=0, retention=0, dry_run=True).listed["parts"].count == len(doomed)
    gc.collect(warehouse, grace=0, retention=0)
    waited = gc.collect(warehouse, grace=3600, retention=0)
    assert waited.deleted == {}
    assert doomed <= set(store.keys("parts"))
    last = gc.collect(warehouse, grace=0, retention=0)
    assert {kind: tally.count for kind, tally in last.deleted.items()} == {"parts": len(doomed), "work records": 1}
    assert set(store.keys("parts")) == parts_of(*(made[name] for name in ("source", "derived", "chosen")))
    assert fsck.check(warehouse).clean
    with pytest.raises(WarehouseError):
        warehouse.restore(made["scores"].ref)


def test_damage_is_named_on_every_store(warehouse: Warehouse) -> None:
    made = chain(warehouse)
    store = warehouse.store
    flipped, gone = first_part(made["derived"], "rows").path, first_part(made["chosen"], "selection").path
    data = bytearray(store.get(flipped))
    data[len(data) // 2] ^= 1
    store.replace(flipped, bytes(data))
    store.delete(gone)
    report = fsck.check(warehouse)
    assert {damage.where for damage in report.damage} == {flipped, gone}
