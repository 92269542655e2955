"""The catalog: SQL views over the files. Derived, disposable, rebuilt whenever something new was committed.

`refresh` writes small Parquet tables (versions, parts, inputs, runs, steps, checkpoints, evaluations, namespaces) and
`catalog/views.sql`, whose paths are relative: `cd <warehouse> && duckdb -init catalog/views.sql` reads a warehouse with
no extension, and a copied one reads itself. Views name files explicitly; a glob would show what was never committed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse import layout
from warehouse.errors import BadQuery, NotInWarehouse
from warehouse.records import Manifest
from warehouse.views import build_views, dataset_sql, quote

if TYPE_CHECKING:
    import duckdb

    from warehouse.store import Warehouse

STATE = f"{layout.CATALOG}/state.json"
LOCK = f"{layout.CATALOG}/lock"
TABLES = 2
"""Raised when the tables below or the views over them change: an older catalog is then made again."""


def refresh(warehouse: Warehouse) -> None:
    """Bring the catalog up to date; nothing is written when nothing changed."""
    state = _state(warehouse)
    store = warehouse.store
    if store.exists(STATE) and json.loads(store.get(STATE)).get("state") == state and store.exists(layout.VIEWS_SQL):
        return
    with store.lease(LOCK):
        manifests = warehouse.manifests()
        for name, frame in _tables(warehouse, manifests).items():
            buffer = io.BytesIO()
            frame.write_parquet(buffer)
            store.replace(f"{layout.CATALOG}/{name}.parquet", buffer.getvalue())
        store.replace(layout.VIEWS_SQL, build_views(warehouse).encode())
        store.replace(STATE, json.dumps({"state": state}).encode())


def _state(warehouse: Warehouse) -> str:
    """Names what the catalog was built from: every committed key, never a time."""
    store = warehouse.store
    keys = [key for prefix in ("datasets", "checkpoints", "refs", "ids") for key in store.keys(prefix)
            if not key.startswith("checkpoints/files/")]
    keys += [key for key in store.keys("runs") if not key.endswith("heartbeat.json")]
    tags = [f"{key}={store.get(key).decode()}" for key in keys if key.startswith("refs/")]
    return hashlib.sha256("\n".join([str(TABLES), *sorted([*keys, *tags])]).encode()).hexdigest()


def _tables(warehouse: Warehouse, manifests: list[Manifest]) -> dict[str, pl.DataFrame]:
    parts = [(m.ref, table, index, p.path, p.sha256, p.rows, p.bytes, p.min_row_id, p.max_row_id)
             for m in manifests for table, listed in m.tables.items() for index, p in enumerate(listed)]
    inputs = [(m.ref, i.ref, i.role, i.content_hash, m.step) for m in manifests for i in m.inputs]
    owners = []
    for name in warehouse.store.names("ids"):
        owner = json.loads(warehouse.store.get(f"ids/{name}"))
        owners.append((int(name[:8]), owner["dataset"], owner["step"], owner["op"]))
    made_by = {m.facts["checkpoint"]: m.op for m in manifests if m.kind == "checkpoint"}
    gates = {m.facts["by_checkpoint"]: m.facts for m in manifests if m.kind == "gate" and m.facts.get("by_checkpoint")}
    checkpoints = [(c.name, c.version, c.ref, made_by.get(c.ref), c.base, c.dataset_ref, c.trained_on,
                    json.dumps(c.metrics), gates.get(c.ref, {}).get("passed"), gates.get(c.ref, {}).get("reason"),
                    len(c.files), c.bytes, c.run_id, c.created_at) for c in warehouse.checkpoints()]
    return {
        "datasets": _frame([_dataset_row(m) for m in manifests], _DATASETS),
        "dataset_parts": _frame(parts, _PARTS), "dataset_inputs": _frame(inputs, _INPUTS),
        "namespaces": _frame(owners, _NAMESPACES), "checkpoints": _frame(checkpoints, _CHECKPOINTS),
        "evaluations": _frame(_evaluations(manifests), _EVALUATIONS),
        **_run_tables(warehouse)}


def _dataset_row(m: Manifest) -> tuple[Any, ...]:
    return (m.ref, m.dataset, m.version, m.kind, m.op, m.op_version, m.recipe, m.step, m.run_id, m.fingerprint,
            m.content_hash, m.row_count, m.bytes, m.counts.owed, m.counts.kept, m.counts.rejected, m.counts.failed,
            json.dumps(m.counts.reasons), m.usage.tokens_in, m.usage.tokens_out, m.facts.get("model"),
            m.facts.get("by_checkpoint"), m.facts.get("checkpoint"), m.partial, m.parent_version, m.license,
            m.created_at)


def _evaluations(manifests: list[Manifest]) -> list[tuple[Any, ...]]:
    """One row for each figure of each report. `dataset_ref` is what was asked or read: the rows that a model answered,
    where the report is about answers."""
    by_ref = {m.ref: m for m in manifests}
    found = []
    for m in manifests:
        if m.kind != "report":
            continue
        first = by_ref[m.inputs[0].ref] if m.inputs else None
        read = first.inputs[0].ref if first is not None and first.facts.get("model") and first.inputs else (
            first.ref if first is not None else None)
        found += [(m.ref, m.recipe, m.step, m.facts.get("checkpoint"), read, name, float(value))
                  for name, value in m.facts.get("metrics", {}).items()]
    return found


def _run_tables(warehouse: Warehouse) -> dict[str, pl.DataFrame]:
    runs, steps = [], []
    for start, end, beat in warehouse.runs():
        runs.append((start.run_id, start.recipe, end.status if end else None, start.started_at,
                     end.ended_at if end else None, beat, start.host, start.user, start.argv, start.git_commit,
                     start.seed, start.executor, end.error if end else None))
        for number, step in enumerate(end.steps if end else []):
            steps.append((start.run_id, number, step.step, step.op, step.status, step.ref, step.fingerprint,
                          step.reused, step.counts.owed, step.counts.kept, step.counts.rejected, step.counts.failed,
                          step.usage.tokens_in, step.usage.tokens_out, step.usage.requested, step.usage.reused,
                          step.seconds, step.error))
    return {"runs": _frame(runs, _RUNS), "run_steps": _frame(steps, _STEPS)}


def _frame(rows: list[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row")


_S, _I, _B = pl.String, pl.Int64, pl.Boolean
_DATASETS = {"ref": _S, "dataset": _S, "version": _I, "kind": _S, "op": _S, "op_version": _I, "recipe": _S, "step": _S,
             "run_id": _S, "step_fingerprint": _S, "content_hash": _S, "row_count": _I, "bytes": _I, "rows_in": _I,
             "rows_kept": _I, "rows_rejected": _I, "rows_failed": _I, "reasons": _S, "tokens_in": _I, "tokens_out": _I,
             "model": _S, "by_checkpoint": _S, "checkpoint": _S,
             "partial": _B, "parent_version": _I, "license": pl.List(_S), "created_at": _S}
_PARTS = {"ref": _S, "table_name": _S, "part_no": _I, "path": _S, "sha256": _S, "rows": _I, "bytes": _I,
          "min_row_id": _I, "max_row_id": _I}
_INPUTS = {"ref": _S, "input_ref": _S, "role": _S, "input_content_hash": _S, "step": _S}
_NAMESPACES = {"namespace": _I, "dataset": _S, "step": _S, "op": _S}
_CHECKPOINTS = {"name": _S, "version": _I, "ref": _S, "op": _S, "base": _S, "dataset_ref": _S,
                "dataset_refs": pl.List(_S), "metrics": _S, "passed": _B, "gate": _S, "files": _I, "bytes": _I,
                "run_id": _S, "created_at": _S}
_EVALUATIONS = {"ref": _S, "recipe": _S, "step": _S, "checkpoint": _S, "dataset_ref": _S, "metric": _S,
                "value": pl.Float64}
_RUNS = {"run_id": _S, "recipe": _S, "ended_as": _S, "started_at": _S, "ended_at": _S, "heartbeat": _S, "host": _S,
         "user": _S, "argv": pl.List(_S), "git_commit": _S, "seed": _I, "executor": _S, "error": _S}
_STEPS = {"run_id": _S, "number": _I, "step": _S, "op": _S, "status": _S, "ref": _S, "step_fingerprint": _S,
          "reused": _B, "rows_in": _I, "rows_kept": _I, "rows_rejected": _I, "rows_failed": _I, "tokens_in": _I,
          "tokens_out": _I, "answers_requested": _I, "answers_reused": _I, "seconds": pl.Float64, "error": _S}


def connect(warehouse: Warehouse) -> duckdb.DuckDBPyConnection:
    """A read-only DuckDB connection with the views; it can read the warehouse's files and nothing else."""
    import duckdb

    refresh(warehouse)
    connection = duckdb.connect(":memory:")
    connection.execute("SET allowed_directories=['" + _quoted_root(warehouse) + "/']")
    connection.execute(_absolute(warehouse, warehouse.store.get(layout.VIEWS_SQL).decode()))
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    return connection


def _quoted_root(warehouse: Warehouse) -> str:
    return str(warehouse.root).replace("'", "''")


def _absolute(warehouse: Warehouse, script: str) -> str:
    """The script with absolute paths: a connection that may read one folder only knows it by its full name."""
    root = _quoted_root(warehouse)
    return script.replace("'parts/", f"'{root}/parts/").replace("'catalog/", f"'{root}/catalog/")


_VERSIONED = re.compile(r'"([^"@]+)@([^"@]+)"')


_READING = frozenset({"SELECT", "EXPLAIN", "RELATION"})


def run_query(warehouse: Warehouse, query: str, parameters: list[Any] | None = None) -> pl.DataFrame:
    """Run one statement. Views of older versions and tags (`"name@2"`) are made when a query names them.

    Raises:
        BadQuery: DuckDB does not understand it, or it is not one SELECT. NotInWarehouse: it names an unknown version.
    """
    import duckdb

    connection = connect(warehouse)
    unknown = _add_versions(warehouse, connection, query)
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1:
            raise BadQuery(f"give one SQL statement at a time ({len(statements)} were given)")
        if statements[0].type.name not in _READING:
            raise BadQuery(f"{statements[0].type.name} is refused: the warehouse is read-only here; use SELECT")
        frame = pl.from_arrow(connection.sql(query, params=parameters or None).to_arrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame
    except duckdb.Error as error:
        for ref, reason in unknown.items():
            if ref in str(error):
                raise reason from None
        raise BadQuery(f"SQL: {error}") from None
    finally:
        connection.close()


def _add_versions(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, NotInWarehouse]:
    """Make the views of versions that a query names; those that do not exist, with the reason (it may be mere text)."""
    unknown = {}
    for name, version in set(_VERSIONED.findall(query)):
        ref = f"{name}@{version}"
        try:
            select = dataset_sql(warehouse.dataset(ref))
        except NotInWarehouse as error:
            unknown[ref] = error
            continue
        if select:
            connection.execute(f"CREATE OR REPLACE VIEW {quote(ref)} AS {_absolute(warehouse, select)}")
    return unknown
