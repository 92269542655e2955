"""Small whole datasets, made through the store alone: sources, rows made from them, scores and choices."""

from __future__ import annotations

from typing import Any

import polars as pl

from warehouse import Warehouse
from warehouse.content import EMPTY, ContentHash, hash_frame, hash_rows, row_keys
from warehouse.dataset import pack_schema
from warehouse.ids import claim_namespace, first_id
from warehouse.parts import write_part
from warehouse.records import Counts, InputRef, Manifest, Part

Tables = dict[str, list[pl.DataFrame]]


def pin(found: Manifest, role: str = "from") -> InputRef:
    return InputRef(dataset=found.dataset, version=found.version, role=role, content_hash=found.content_hash,
                    parts_digest=found.parts_digest, fingerprint=found.fingerprint)


def draft(warehouse: Warehouse, name: str, kind: str, tables: Tables, content: ContentHash,
          inputs: list[Manifest] | None = None, **fields: Any) -> Manifest:
    """A version of these tables, its parts written, not committed."""
    parts = {table: [write_part(warehouse.store, frame) for frame in frames] for table, frames in tables.items()}
    rows = sum(part.rows for part in parts.get(kind, []))
    refused = sum(part.rows for part in parts.get("rejections", []))
    inputs = inputs or []
    base: dict[str, Any] = {
        "dataset": name, "version": 0, "commit_id": "", "kind": kind, "op": "test.op", "op_version": 1,
        "recipe": "test", "step": name, "run_id": "", "fingerprint": f"{name} {content}", "family": f"of {name}",
        "identity": {"params": {}}, "work_key": f"work-{name}", "content_hash": str(content), "row_count": rows,
        "bytes": sum(part.bytes for listed in parts.values() for part in listed), "columns": {},
        "schemas": {table: pack_schema(frames[0]) for table, frames in tables.items()}, "tables": parts,
        "inputs": [pin(found) for found in inputs], "facts": {"from_inputs": 1, "inherits": bool(inputs)},
        "counts": Counts(owed=rows + refused, kept=rows, rejected=refused)}
    return Manifest(**{**base, **fields})


def keyed(ids: list[int], texts: list[str]) -> pl.DataFrame:
    frame = pl.DataFrame({"row_id": pl.Series(ids, dtype=pl.Int64), "text": texts})
    return frame.with_columns(row_key=pl.Series(row_keys(frame, ["text"]), dtype=pl.Binary))


def source(warehouse: Warehouse, name: str, texts: list[str], *, parts: int = 2, **fields: Any) -> Manifest:
    """A committed source of these rows."""
    namespace = claim_namespace(warehouse.store, {"dataset": name, "step": name, "op": "test.op", "work_key": name})
    frames, content = [], EMPTY
    for shard in range(parts):
        mine = texts[shard::parts]
        start = first_id(namespace, shard)
        frames.append(keyed(list(range(start, start + len(mine))), mine))
        content += hash_rows(frames[-1]["row_key"].to_list())
    return warehouse.commit(draft(warehouse, name, "rows", {"rows": frames}, content, **fields))


def edges_of(children: pl.Series, parents: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"child_row_id": children, "parent_row_id": parents}).with_columns(
        role=pl.lit("from"), op=pl.lit("test.op"), slot=pl.lit(0, pl.Int32))


def refusals(ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"row_id": ids}).with_columns(
        slot=pl.lit(0, pl.Int32), step=pl.lit("s"), gate=pl.lit("g"), reason_code=pl.lit("r"), reason=pl.lit("why"),
        score=pl.lit(None, pl.Float64), threshold=pl.lit(None, pl.Float64), kept_row_id=pl.lit(None, pl.Int64),
        primary=pl.lit(True))


def derived(warehouse: Warehouse, name: str, above: Manifest, *, commit: bool = True, **fields: Any) -> Manifest:
    """Rows made from all rows of a version but its last, which was refused."""
    ids = warehouse.dataset(above.ref).scan(inherit=False).select("row_id").collect()["row_id"].sort()
    namespace = claim_namespace(warehouse.store, {"dataset": name, "step": name, "op": "test.op", "work_key": name})
    start = first_id(namespace, 0)
    rows = keyed(list(range(start, start + ids.len() - 1)), [f"{name} of {at}" for at in range(ids.len() - 1)])
    tables = {"rows": [rows], "row_lineage": [edges_of(rows["row_id"], ids[:-1])], "rejections": [refusals(ids[-1:])]}
    made = draft(warehouse, name, "rows", tables, hash_rows(rows["row_key"].to_list()), [above], **fields)
    return warehouse.commit(made) if commit else made


def scores(warehouse: Warehouse, name: str, above: Manifest, **fields: Any) -> Manifest:
    """A measurement of every row of a version."""
    rows = warehouse.dataset(above.ref).scan(inherit=False).select("row_id", "row_key").collect()
    measured = rows.with_columns(passed=pl.col("row_id") % 2 == 0, label=pl.lit(None, pl.String),
                                 score=pl.col("row_id").cast(pl.Float64) / 3, reason_code=pl.lit(None, pl.String),
                                 reason=pl.lit("because"))
    columns = [column for column in measured.columns if column not in ("row_id", "row_key")]
    return warehouse.commit(draft(warehouse, name, "scores", {"scores": [measured.drop("row_key")]},
                                  hash_frame(measured, columns=columns), [above], **fields))


def selection(warehouse: Warehouse, name: str, above: Manifest, **fields: Any) -> Manifest:
    """Half the rows of a version; the others are refused."""
    rows = warehouse.dataset(above.ref).scan(inherit=False).select("row_id", "row_key").collect().sort("row_id")
    kept = rows.gather_every(2).with_columns(weight=pl.lit(1, pl.Int32))
    gone = rows.join(kept, on="row_id", how="anti")["row_id"]
    return warehouse.commit(draft(warehouse, name, "selection", {
        "selection": [kept.drop("row_key")], "rejections": [refusals(gone)]}, hash_frame(kept, columns=["weight"]),
        [above], **fields))


def chain(warehouse: Warehouse, prefix: str = "a", rows: int = 12) -> dict[str, Manifest]:
    """Source, rows made from it, their scores and a choice among them."""
    made = {"source": source(warehouse, f"{prefix}/source", [f"{prefix} text {at}" for at in range(rows)])}
    made["derived"] = derived(warehouse, f"{prefix}/derived", made["source"])
    made["scores"] = scores(warehouse, f"{prefix}/scores", made["derived"])
    made["chosen"] = selection(warehouse, f"{prefix}/chosen", made["derived"])
    return made


def parts_of(*manifests: Manifest) -> set[str]:
    return {part.path for found in manifests for parts in found.tables.values() for part in parts}


def first_part(found: Manifest, table: str) -> Part:
    return found.tables[table][0]
