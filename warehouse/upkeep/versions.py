"""Comparing versions, and deleting several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from warehouse.errors import WarehouseError

if TYPE_CHECKING:
    from warehouse.store import Warehouse


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from `old` to `new`. `rows` has one row for each that came or went: change (added, removed), row_id,
    gate, reason_code, reason (why the version without the row refused it; null where it was not offered). `reasons`
    counts them. `same_rows` is the number that both hold."""

    old: str
    new: str
    same_rows: int
    rows: pl.DataFrame
    reasons: pl.DataFrame
    changed: dict[str, tuple[object, object]]


def diff(warehouse: Warehouse, old: str, new: str) -> Diff:
    """Compare two versions (`name@2`, `name@tag`, `name`) by row and by reason; `changed` names what differs in how
    they were made: op, version of the op, params, inputs. Raises NotInWarehouse."""
    before, after = warehouse.manifest(old), warehouse.manifest(new)
    for found in (before, after):
        if found.kind not in ("rows", "selection"):
            raise WarehouseError(f"{found.ref} is a {found.kind} version: only rows and selections have rows to "
                                 "compare; compare measurements in SQL (docs/lineage.md)")
    rows = warehouse.sql("SELECT * FROM diff(?, ?) ORDER BY change, row_id", [before.ref, after.ref])
    held = warehouse.sql("SELECT count(DISTINCT row_id) FROM members(?)", [after.ref]).item()
    reasons = rows.group_by("change", "gate", "reason_code").len("rows")
    reasons = reasons.sort("change", "rows", "reason_code", descending=[False, True, False])
    changed: dict[str, tuple[object, object]] = {
        name: (getattr(before, name), getattr(after, name))
        for name in ("op", "op_version", "fingerprint", "content_hash")
        if getattr(before, name) != getattr(after, name)}
    then, now = before.identity.get("params") or {}, after.identity.get("params") or {}
    changed |= {f"params.{name}": (then.get(name), now.get(name)) for name in sorted({*then, *now})
                if then.get(name) != now.get(name)}
    then_from, now_from = ([item.ref for item in found.inputs] for found in (before, after))
    if then_from != now_from:
        changed["inputs"] = [ref for ref in then_from if ref not in now_from], [
            ref for ref in now_from if ref not in then_from]
    added = rows.filter(pl.col("change") == "added").height
    return Diff(before.ref, after.ref, held - added, rows, reasons, changed)


def remove(warehouse: Warehouse, refs: Sequence[str], reason: str = "", *, checkpoints: bool = False) -> list[str]:
    """Delete versions (or checkpoints) named by number. Nothing is deleted when one of them does not exist, has no
    number or is tagged. Raises WarehouseError."""
    for ref in refs:
        if not ref.rpartition("@")[2].isdigit():
            raise WarehouseError(f"{ref}: name the version by its number (name@3), so that nothing newer is deleted by "
                                 "mistake")
        if checkpoints:
            warehouse.checkpoint(ref)
        else:
            warehouse.check_untagged(warehouse.manifest(ref))
    if checkpoints:
        return [warehouse.delete_checkpoint(ref, reason).ref for ref in refs]
    return [warehouse.delete(ref, reason).ref for ref in refs]
