"""Where a row comes from, what came of it, and why it is, or is not, in a dataset.

Edges exist only where content is created; choosing and measuring keep a row's id. So a trace has a few hops, and what
happened to a row on the way is a look-up of its id in score, rejection, failure and selection tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse.dataset import Dataset
from warehouse.lineage.holders import holder, holders
from warehouse.records import Manifest

if TYPE_CHECKING:
    from warehouse.store import Warehouse

SHOWN_CHARS = 160
MOST_SHOWN = 100
"""Hops of a trace whose text is read; of a seed with thousands of descendants the nearest are enough."""


@dataclass(slots=True)
class Hop:
    """One row on a trace. `model` wrote it, where a model did, which `checkpoint` repeats when it is one of this
    warehouse; `origin` is where a source row was found; `shown` holds its own columns, long text cut (of the nearest
    rows, see `MOST_SHOWN`)."""

    depth: int
    row_id: int
    dataset: str
    step: str
    op: str
    role: str | None = None
    model: str | None = None
    checkpoint: str | None = None
    run_id: str | None = None
    origin: str | None = None
    shown: dict[str, Any] = field(default_factory=dict)


def trace_up(warehouse: Warehouse, row_id: int) -> list[Hop]:
    """A row and its ancestors up to the sources, nearest first. Raises NotInWarehouse."""
    return _walk(warehouse, row_id, up=True)


def trace_down(warehouse: Warehouse, row_id: int) -> list[Hop]:
    """A row and everything made from it, nearest first. Raises NotInWarehouse."""
    return _walk(warehouse, row_id, up=False)


def _walk(warehouse: Warehouse, row_id: int, *, up: bool) -> list[Hop]:
    holder(warehouse, row_id)
    macro = "trace_up" if up else "trace_down"
    depths = dict(warehouse.sql(f"SELECT row_id, depth FROM {macro}(?) ORDER BY depth, row_id", [row_id]).iter_rows())
    found = holders(warehouse, list(depths))
    hops = [Hop(depth, each, held.ref, held.step, held.op, model=held.facts.get("model"),
                checkpoint=held.facts.get("by_checkpoint"), run_id=held.run_id)
            for each, depth in depths.items() if (held := found.get(each)) is not None]
    _describe(warehouse, hops[:MOST_SHOWN])
    return hops


def _describe(warehouse: Warehouse, hops: list[Hop]) -> None:
    """Give hops their role, where they were found, and their own columns: one query for each, and one reading of each
    version."""
    by_id = {hop.row_id: hop for hop in hops}
    ids = list(by_id)
    roles = warehouse.sql("SELECT child_row_id, string_agg(DISTINCT role, ', ' ORDER BY role) FROM row_lineage "
                          "WHERE child_row_id IN (SELECT unnest(?::BIGINT[])) GROUP BY 1", [ids])
    for row_id, role in roles.iter_rows():
        by_id[row_id].role = role or None
    origins = warehouse.sql("SELECT row_id, origin, line, native_id FROM provenance WHERE row_id IN "
                            "(SELECT unnest(?::BIGINT[]))", [ids])
    for row_id, *origin in origins.iter_rows():
        by_id[row_id].origin = ":".join(str(item) for item in origin if item is not None)
    for ref in dict.fromkeys(hop.dataset for hop in hops):
        dataset: Dataset = warehouse.any_dataset(ref)
        own = [name for name in dataset.schema() if name not in ("row_id", "row_key", "answer_key")]
        wanted = pl.Series("row_id", [hop.row_id for hop in hops if hop.dataset == ref])
        for row in dataset.lookup(wanted, own).iter_rows(named=True):
            by_id[row["row_id"]].shown = {name: _cut(row[name]) for name in own if row.get(name) is not None}


def _cut(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value if len(value) <= SHOWN_CHARS else f"{value[:SHOWN_CHARS]}… ({len(value):,} characters)"


@dataclass(slots=True)
class Finding:
    """One thing that is known of a row: `kind` is created, superseded, scored, kept, rejected or failed."""

    kind: str
    ref: str
    step: str
    by: str
    reason_code: str | None = None
    reason: str | None = None
    primary: bool = True
    kept_row_id: int | None = None
    measured: dict[str, Any] = field(default_factory=dict)


_WHY = """
  SELECT 'scores' AS told, part_id, to_json(v) AS row FROM stored.verdicts v WHERE row_id = $id
  UNION ALL SELECT 'selection', part_id, to_json(s) FROM stored.selections s WHERE row_id = $id
  UNION ALL SELECT 'rejections', part_id, to_json(r) FROM stored.rejections r WHERE row_id = $id
  UNION ALL SELECT 'failures', part_id, to_json(f) FROM stored.failures f WHERE row_id = $id
  UNION ALL SELECT 'superseded', part_id, to_json(x) FROM stored.superseded x WHERE row_id = $id
  UNION ALL SELECT 'rows', part_id, NULL FROM stored.row_ids WHERE row_id = $id
"""
_ORDER = ("rows", "superseded", "scores", "selection", "rejections", "failures")


def why(warehouse: Warehouse, row_id: int) -> list[Finding]:
    """Everything that was decided about a row, in the order in which versions were committed. Raises NotInWarehouse.

    A slot that never became a row (its request was refused or failed) is found under its parent's id. Versions share
    parts: what a part says is told once, for the version that wrote it; choices belong to each version.
    """
    told = warehouse.sql(_WHY.replace("$id", str(int(row_id))))
    if not told.height:
        holder(warehouse, row_id)
    places = warehouse.catalog.rows_where("dataset_parts", "part_id", told["part_id"].unique().to_list())
    refs = warehouse.catalog.live(places)["ref"].unique()
    manifests = sorted((warehouse.any_manifest(ref) for ref in refs), key=lambda m: (m.sequence, m.created_at, m.ref))
    rows = [(kind, part, _told(row)) for kind, part, row in told.iter_rows()]
    held = {(ref, table, part) for ref, table, part in places.select("ref", "table_name", "part_id").iter_rows()}
    findings, done, carried = [], set(), set()
    for manifest in manifests:
        for table in _ORDER:
            for kind, part, row in rows:
                said = manifest.dataset, kind, json.dumps(row)
                if kind != table or (manifest.ref, kind, part) not in held or (manifest.kind != "selection" and (
                        (kind, part) in done or said in carried)):
                    continue
                if kind in ("rejections", "failures"):
                    carried.add(said)  # a version carries the refusals of the one it extends in a part of its own
                findings.append(_finding(manifest, table, row))
        done |= {(table, part) for ref, table, part in held if ref == manifest.ref}
    return findings


def _told(row: str | None) -> dict[str, Any]:
    """A told row without the part it was found in."""
    return {name: value for name, value in json.loads(row or "{}").items() if name != "part_id"}


def _finding(manifest: Manifest, table: str, row: dict[str, Any]) -> Finding:
    ref, step, op = manifest.ref, manifest.step, manifest.op
    if table == "rows":
        model = manifest.facts.get("model")
        return Finding("created", ref, step, f"{op} with {model}" if model else op)
    if table == "superseded":
        return Finding("superseded", ref, step, op, reason="this version holds it no longer")
    if table == "selection":
        return Finding("kept", ref, step, op, measured={"weight": row["weight"]} if row["weight"] != 1 else {})
    slot = {"slot": row["slot"]} if manifest.kind == "rows" and manifest.inputs else {}  # one answer to this row
    if table == "failures":
        return Finding("failed", ref, step, op, row["error_type"], row["message"], measured=slot)
    if table == "rejections":
        measured = slot | {name: row[name] for name in ("score", "threshold") if row[name] is not None}
        return Finding("rejected", ref, step, row["gate"], row["reason_code"], row["reason"], bool(row["primary"]),
                       row["kept_row_id"], measured)
    verdict = {True: "passed", False: "refused", None: "undecided"}[row["passed"]]
    measured = {"score": row["score"]} | json.loads(row["details"] or "{}")
    own = {name: _cut(value) for name, value in measured.items() if value is not None}
    return Finding("scored", ref, step, op, row["reason_code"] or verdict, row["reason"],
                   measured={"verdict": row["label"] or verdict, **own})
