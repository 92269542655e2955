"""The narrow tables a dataset version may carry beside its rows, and their columns. Text is stored once, in `rows`.

Every table here also stands, compacted over all versions, in the catalog; `KEY` names the column it is sorted by.
"""

from __future__ import annotations

import polars as pl

LINEAGE: dict[str, pl.DataType] = {
    "child_row_id": pl.Int64(), "parent_row_id": pl.Int64(), "role": pl.String(), "op": pl.String(), "slot": pl.Int32(),
}
"""One edge from a created row to a row it was made from; sorted by child."""

PROVENANCE: dict[str, pl.DataType] = {
    "row_id": pl.Int64(), "origin": pl.String(), "line": pl.Int64(), "native_id": pl.String(),
}
"""Where a source row was found: file or hub id, line or row number, the record's own id."""

VERDICTS: dict[str, pl.DataType] = {
    "row_id": pl.Int64(), "passed": pl.Boolean(), "label": pl.String(), "score": pl.Float64(),
    "reason_code": pl.String(), "reason": pl.String(), "details": pl.String(),
}
"""What a score table says of a row; `details` is a JSON object of the columns beyond the standard ones."""

SELECTION: dict[str, pl.DataType] = {"row_id": pl.Int64(), "weight": pl.Int32()}
"""The rows a select step chose, and how many times each is used."""

REJECTIONS: dict[str, pl.DataType] = {
    "row_id": pl.Int64(), "slot": pl.Int32(), "step": pl.String(), "gate": pl.String(), "reason_code": pl.String(),
    "reason": pl.String(), "score": pl.Float64(), "threshold": pl.Float64(), "kept_row_id": pl.Int64(),
    "primary": pl.Boolean(),
}
"""A row (or one slot of it) that a rule refused. Every failing rule is listed; `primary` marks the first in order, the
one that is counted. `kept_row_id` is the twin that stayed."""

FAILURES: dict[str, pl.DataType] = {
    "row_id": pl.Int64(), "slot": pl.Int32(), "step": pl.String(), "error_type": pl.String(), "message": pl.String(),
    "attempts": pl.Int32(), "run_id": pl.String(),
}
"""A row (or slot) that a classified error took; `--retry-failed` tries these again."""

SUPERSEDED: dict[str, pl.DataType] = {"row_id": pl.Int64()}
"""Rows that lie in a version's parts and are no longer among its rows."""

SHARDS: dict[str, pl.DataType] = {
    "shard": pl.String(), "run_id": pl.String(), "worker": pl.String(), "finished_at": pl.String(),
    "rows_in": pl.Int64(), "rows_kept": pl.Int64(), "rows_rejected": pl.Int64(), "rows_failed": pl.Int64(),
    "tokens_in": pl.Int64(), "tokens_out": pl.Int64(), "answers_requested": pl.Int64(), "answers_reused": pl.Int64(),
    "seconds": pl.Float64(), "cost": pl.Float64(), "currency": pl.String(),
}
"""How each shard of a version came about: by which run and worker, with what result and cost. `cost` is in `currency`,
which is NULL where no price was named."""

ROW_ROOTS: dict[str, pl.DataType] = {
    "root_row_id": pl.Int64(), "row_id": pl.Int64(), "depth": pl.Int16(), "ref": pl.String(),
}
"""For a published version `ref`: each source row, the rows that descend from it, and over how many hops; sorted by
root."""

NODES: dict[str, pl.DataType] = {"row_id": pl.Int64(), "node": pl.Int64()}
PAIRS: dict[str, pl.DataType] = {"left": pl.Int64(), "right": pl.Int64(), "jaccard": pl.Float64()}
"""What dedup measures: rows with identical shingles share a node; pairs of nodes carry their Jaccard similarity."""

STANDING: dict[str, pl.DataType] = {"row_id": pl.Int64(), "slot": pl.Int32()}
"""Slots of an earlier increment that stand, so this one owes them nothing."""

STANDARD_SCORES = ("row_id", "passed", "label", "score", "reason_code", "reason")
"""The columns every score table may have; the others are the op's own."""

COMPACTED: dict[str, tuple[str, str, dict[str, pl.DataType]]] = {
    "row_ids": ("rows", "row_id", {"row_id": pl.Int64()}),
    "row_lineage": ("row_lineage", "child_row_id", LINEAGE),
    "provenance": ("provenance", "row_id", PROVENANCE),
    "verdicts": ("scores", "row_id", VERDICTS),
    "selections": ("selection", "row_id", SELECTION),
    "rejections": ("rejections", "row_id", REJECTIONS),
    "failures": ("failures", "row_id", FAILURES),
    "superseded": ("superseded", "row_id", SUPERSEDED),
    "shards": ("shards", "shard", SHARDS),
    "row_roots": ("row_roots", "root_row_id", ROW_ROOTS),
}
"""Catalog table -> (table of a manifest, column it is sorted by, columns). In the catalog each row also names its part
(`part_id`)."""
