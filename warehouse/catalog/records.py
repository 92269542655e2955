"""What the catalog says of each record: one row of a table for each manifest, part, input, checkpoint and run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl

from warehouse.records import CheckpointRecord, Manifest, RunEnd, RunRecord, Usage

_S, _I, _B, _F = pl.String(), pl.Int64(), pl.Boolean(), pl.Float64()

SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "datasets": {
        "ref": _S, "dataset": _S, "version": _I, "sequence": _I, "kind": _S, "op": _S, "op_version": _I, "recipe": _S,
        "step": _S, "run_id": _S, "step_fingerprint": _S, "family": _S, "content_hash": _S, "row_count": _I,
        "bytes": _I, "rows_in": _I, "rows_kept": _I, "rows_rejected": _I, "rows_failed": _I, "reasons": _S,
        "tokens_in": _I, "tokens_out": _I, "cost": _F, "currency": _S, "model": _S, "by_checkpoint": _S,
        "checkpoint": _S, "partial": _B, "parent_version": _I, "license": pl.List(_S), "created_at": _S},
    "dataset_parts": {
        "ref": _S, "table_name": _S, "part_no": _I, "path": _S, "sha256": _S, "rows": _I, "bytes": _I,
        "min_row_id": _I, "max_row_id": _I, "part_id": _I},
    "dataset_inputs": {"ref": _S, "input_ref": _S, "role": _S, "input_content_hash": _S, "step": _S},
    "namespaces": {"namespace": _I, "dataset": _S, "step": _S, "op": _S},
    "checkpoints": {
        "name": _S, "version": _I, "ref": _S, "base": _S, "dataset_ref": _S, "dataset_refs": pl.List(_S), "metrics": _S,
        "files": _I, "bytes": _I, "partial": _B, "run_id": _S, "created_at": _S, "sequence": _I},
    "gates": {"checkpoint": _S, "passed": _B, "reason": _S, "ref": _S, "sequence": _I},
    "evaluations": {
        "ref": _S, "recipe": _S, "step": _S, "checkpoint": _S, "dataset_ref": _S, "metric": _S, "value": _F},
    "runs_started": {
        "run_id": _S, "recipe": _S, "started_at": _S, "host": _S, "user": _S, "argv": pl.List(_S), "git_commit": _S,
        "seed": _I, "executor": _S},
    "runs_ended": {"run_id": _S, "status": _S, "ended_at": _S, "error": _S},
    "run_steps": {
        "run_id": _S, "number": _I, "step": _S, "op": _S, "status": _S, "ref": _S, "step_fingerprint": _S,
        "reused": _B, "rows_in": _I, "rows_kept": _I, "rows_rejected": _I, "rows_failed": _I, "tokens_in": _I,
        "tokens_out": _I, "answers_requested": _I, "answers_reused": _I, "cost": _F, "seconds": _F, "error": _S},
    "heartbeats": {"run_id": _S, "heartbeat": _S},
    "tags": {"ref": _S, "dataset": _S, "tag": _S},
    "deleted": {"kind": _S, "ref": _S, "deleted_at": _S, "reason": _S},
    "dataset_views": {"name": _S, "ref": _S, "query": _S},
}
"""Every table of records and its columns. Times are ISO 8601 text; the views turn them into timestamps."""

Rows = dict[str, list[tuple[Any, ...]]]


def dataset_rows(m: Manifest, part_id: Callable[[str], int], find: Callable[[str], Manifest]) -> Rows:
    """A version's rows. `part_id` numbers a part by its sha256; `find` gives the manifest of an input."""
    rows: Rows = {"datasets": [_dataset(m)], "dataset_parts": [], "dataset_inputs": []}
    for table, listed in m.tables.items():
        rows["dataset_parts"] += [(m.ref, table, number, p.path, p.sha256, p.rows, p.bytes, p.min_row_id, p.max_row_id,
                                   part_id(f"{table}/{p.sha256}")) for number, p in enumerate(listed)]
    rows["dataset_inputs"] = [(m.ref, i.ref, i.role, i.content_hash, m.step) for i in m.inputs]
    if m.kind == "gate" and m.facts.get("by_checkpoint"):
        rows["gates"] = [(m.facts["by_checkpoint"], m.facts.get("passed"), m.facts.get("reason"), m.ref, m.sequence)]
    if m.kind == "report":
        rows["evaluations"] = _figures(m, find)
    return rows


def _dataset(m: Manifest) -> tuple[Any, ...]:
    return (m.ref, m.dataset, m.version, m.sequence, m.kind, m.op, m.op_version, m.recipe, m.step, m.run_id,
            m.fingerprint, m.family, m.content_hash, m.row_count, m.bytes, m.counts.owed, m.counts.kept,
            m.counts.rejected, m.counts.failed, json.dumps(m.counts.reasons), m.usage.tokens_in, m.usage.tokens_out,
            m.usage.cost, m.facts.get("currency"), m.facts.get("model"), m.facts.get("by_checkpoint"),
            m.facts.get("checkpoint"), m.partial, m.parent_version, m.license, m.created_at)


def _figures(m: Manifest, find: Callable[[str], Manifest]) -> list[tuple[Any, ...]]:
    """One row for each figure of a report. `dataset_ref` is what was asked or read: the rows that a model answered,
    where the report is about answers."""
    read = m.inputs[0].ref if m.inputs else None
    if read is not None:
        first = find(read)
        read = first.inputs[0].ref if first.facts.get("model") and first.inputs else read
    return [(m.ref, m.recipe, m.step, m.facts.get("checkpoint"), read, name, float(value))
            for name, value in m.facts.get("metrics", {}).items()]


def checkpoint_rows(c: CheckpointRecord, sequence: int) -> Rows:
    """A checkpoint's row."""
    return {"checkpoints": [(c.name, c.version, c.ref, c.base, c.dataset_ref, c.trained_on, json.dumps(c.metrics),
                             len(c.files), c.bytes, c.partial, c.run_id, c.created_at, sequence)]}


def start_rows(start: RunRecord) -> Rows:
    """The start of a run."""
    return {"runs_started": [(start.run_id, start.recipe, start.started_at, start.host, start.user, start.argv,
                              start.git_commit, start.seed, start.executor)]}


def end_rows(end: RunEnd) -> Rows:
    """The end of a run and its steps. A step that was there already cost this run nothing."""
    spent = [Usage() if s.reused else s.usage for s in end.steps]
    steps = [(end.run_id, number, s.step, s.op, s.status, s.ref, s.fingerprint, s.reused, s.counts.owed, s.counts.kept,
              s.counts.rejected, s.counts.failed, u.tokens_in, u.tokens_out, u.requested, u.reused, u.cost, s.seconds,
              s.error) for number, (s, u) in enumerate(zip(end.steps, spent, strict=True))]
    return {"runs_ended": [(end.run_id, end.status, end.ended_at, end.error)], "run_steps": steps}


def frame(table: str, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows as a frame of the table's columns."""
    return pl.DataFrame(rows, schema=SCHEMAS[table], orient="row")
