"""The narrow tables every dataset version may carry, with their columns. Text never lives here twice."""

from __future__ import annotations

import polars as pl

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

LINEAGE: dict[str, pl.DataType] = {
    "child_row_id": pl.Int64(), "parent_row_id": pl.Int64(), "role": pl.String(), "op": pl.String(), "slot": pl.Int32(),
}
"""One edge from a created row to the row it was made from; sorted by child."""

PROVENANCE: dict[str, pl.DataType] = {
    "row_id": pl.Int64(), "origin": pl.String(), "line": pl.Int64(), "native_id": pl.String(),
}
"""Where a source row was found: file or hub id, line or row number, the record's own id."""

SELECTION: dict[str, pl.DataType] = {"row_id": pl.Int64(), "weight": pl.Int32()}
"""The rows a select step chose, and how many times each is used."""

NODES: dict[str, pl.DataType] = {"row_id": pl.Int64(), "node": pl.Int64()}
PAIRS: dict[str, pl.DataType] = {"left": pl.Int64(), "right": pl.Int64(), "jaccard": pl.Float64()}
"""What dedup measures: rows with identical shingles share a node; pairs of nodes carry their Jaccard similarity."""

STANDING: dict[str, pl.DataType] = {"row_id": pl.Int64(), "slot": pl.Int32()}
"""Slots of an earlier increment that stand, so this one owes them nothing."""
