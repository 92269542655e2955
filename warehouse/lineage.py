"""Where a row comes from, what came of it, and why it is, or is not, in a dataset.

Edges exist only where content is created; choosing and measuring keep a row's id. So a trace has a few hops, and what
happened to a row on the way is a look-up of its id in score, rejection, failure and selection tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse.dataset import Dataset, overlapping
from warehouse.errors import NotInWarehouse
from warehouse.parts import read_part
from warehouse.records import Manifest

if TYPE_CHECKING:
    from warehouse.store import Warehouse

SHOWN_CHARS = 160


@dataclass(slots=True)
class Hop:
    """One row on a trace. `model` wrote it, where a model did, which `checkpoint` repeats when it is one of this
    warehouse; `origin` is where a source row was found; `shown` holds its own columns, long text cut."""

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


def _creator(warehouse: Warehouse, row_id: int) -> Manifest:
    """The newest version of the dataset that holds a row's content."""
    owner = warehouse.owner_of(row_id)
    if owner is None:
        raise NotInWarehouse(f"no row {row_id} in {warehouse.root}: its namespace is unknown. Row ids stand in the "
                             "column `row_id` of every dataset")
    wanted = pl.Series([row_id])
    holders = [found for found in warehouse.manifests() if found.kind == "rows"]
    for found in sorted(holders, key=lambda m: (m.dataset == owner["dataset"], m.created_at), reverse=True):
        for part in overlapping(found.tables.get("rows", []), wanted):
            if row_id in read_part(warehouse.store, part, ["row_id"])["row_id"]:
                return found
    raise NotInWarehouse(f"row {row_id} belongs to {owner['dataset']}, where no committed version holds it: the run "
                         "that was making it has not finished (run the recipe again), or the row was rejected or "
                         f"failed (factory why {row_id})")


def trace_up(warehouse: Warehouse, row_id: int) -> list[Hop]:
    """A row and its ancestors up to the sources, nearest first. Raises NotInWarehouse."""
    return _walk(warehouse, row_id, up=True)


def trace_down(warehouse: Warehouse, row_id: int) -> list[Hop]:
    """A row and everything made from it, nearest first. Raises NotInWarehouse."""
    return _walk(warehouse, row_id, up=False)


def _walk(warehouse: Warehouse, row_id: int, *, up: bool) -> list[Hop]:
    _creator(warehouse, row_id)
    macro = "trace_up" if up else "trace_down"
    found = warehouse.sql(f"SELECT row_id, depth FROM {macro}({int(row_id)})")
    hops = [_hop(warehouse, each, depth) for each, depth in found.iter_rows()]
    return sorted(hops, key=lambda hop: (hop.depth, hop.row_id))


def _hop(warehouse: Warehouse, row_id: int, depth: int) -> Hop:
    manifest = _creator(warehouse, row_id)
    dataset = Dataset(warehouse.store, manifest, warehouse.dataset)
    ids = pl.Series("row_id", [row_id])
    own = [name for name in dataset.schema() if name not in ("row_id", "row_key", "answer_key")]
    row = dataset.lookup(ids, own).row(0, named=True)
    hop = Hop(depth, row_id, manifest.ref, manifest.step, manifest.op, model=manifest.facts.get("model"),
              checkpoint=manifest.facts.get("by_checkpoint"), run_id=manifest.run_id,
              shown={name: _cut(row[name]) for name in own if row.get(name) is not None})
    for part in overlapping(dataset.parts("provenance"), ids):
        match = read_part(warehouse.store, part).filter(pl.col("row_id") == row_id)
        for _, origin, line, native_id in match.iter_rows():
            hop.origin = ":".join(str(item) for item in (origin, line, native_id) if item is not None)
    for part in overlapping(dataset.parts("row_lineage"), ids):
        edges = read_part(warehouse.store, part).filter(pl.col("child_row_id") == row_id)
        hop.role = ", ".join(sorted(set(edges["role"].to_list()))) or None
    return hop


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


def why(warehouse: Warehouse, row_id: int) -> list[Finding]:
    """Everything that was decided about a row, in the order in which datasets were made. Raises NotInWarehouse.

    A slot that never became a row (its request was refused or failed) is found under its parent's id.
    """
    findings: list[Finding] = []
    told: set[tuple[str, str]] = set()
    for manifest in sorted(warehouse.manifests(), key=lambda m: m.created_at):
        findings += _findings(warehouse, manifest, row_id, told)
    if not findings:
        _creator(warehouse, row_id)
    return findings


def _findings(warehouse: Warehouse, manifest: Manifest, row_id: int, told: set[tuple[str, str]]) -> list[Finding]:
    """What one version says. Versions share parts: what a part says is told once, for the version that wrote it;
    choices belong to each version."""
    found = []
    for table in ("rows", "superseded", "scores", "selection", "rejections", "failures"):
        for part in overlapping(manifest.tables.get(table, []), pl.Series([row_id])):
            if manifest.kind != "selection" and (table, part.sha256) in told:
                continue
            told.add((table, part.sha256))
            for row in read_part(warehouse.store, part).filter(pl.col("row_id") == row_id).iter_rows(named=True):
                found.append(_finding(manifest, table, row))
    return found


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
    standard = ("row_id", "passed", "label", "reason_code", "reason")
    verdict = {True: "passed", False: "refused", None: "undecided"}[row["passed"]]
    own = {name: _cut(value) for name, value in row.items() if name not in standard and value is not None}
    return Finding("scored", ref, step, op, row["reason_code"] or verdict, row["reason"],
                   measured={"verdict": row["label"] or verdict, **own})
