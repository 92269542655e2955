"""What the dedup ops share: scopes, and the two tables that dedup.exact and dedup.minhash write.

- `nodes` (row_id Int64, node Int64): rows whose content is one and the same form a node, named by the row_id of its
  member with the smallest (row_key, row_id). Only rows that share a node or whose node stands in a pair are listed.
- `pairs` (left Int64, right Int64, jaccard Float64): nodes that resemble each other, left < right.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import polars as pl
import xxhash

from factory.engine.errors import DataError
from factory.engine.op import Params

NODES = pl.Schema({"row_id": pl.Int64(), "node": pl.Int64()})
PAIRS = pl.Schema({"left": pl.Int64(), "right": pl.Int64(), "jaccard": pl.Float64()})


class ScopeParams(Params):
    """With scope `prompt` only rows with the same value of column `prompt` (or of `scope_column`) are compared;
    `scope_column` alone does the same for any column, such as a domain. Null is a value like others."""

    scope: Literal["all", "prompt"] = "all"
    scope_column: str | None = None

    @property
    def compared_within(self) -> str | None:
        """The column whose equal values bound the comparison; None compares all rows."""
        return self.scope_column or ("prompt" if self.scope == "prompt" else None)

    def columns_with(self, *texts: str) -> tuple[str, ...]:
        """The input columns of an op that compares these columns of text."""
        within = self.compared_within
        return tuple(dict.fromkeys((*texts, within) if within else texts))


def check_text(batch: pl.DataFrame, column: str) -> None:
    """Refuse a column that holds no text.

    Raises:
        DataError: it holds something else.
    """
    dtype = batch.schema[column]
    if dtype not in (pl.String, pl.Null):
        raise DataError(f"column {column!r} has type {dtype}, dedup compares text: name a text column in params.text")


def hash_scopes(batch: pl.DataFrame, within: str | None) -> pl.Series:
    """`scope`: a 64-bit hash of the value that bounds each row's comparison; 0 where nothing does."""
    if within is None:
        return pl.repeat(0, batch.height, dtype=pl.UInt64, eager=True).alias("scope")
    values = batch[within]
    if values.dtype != pl.String:  # messages and other nested values have no `unique`
        return pl.Series("scope", [_hash_value(value) for value in values.to_list()], pl.UInt64)
    distinct = values.unique()
    hashes = pl.Series([_hash_value(value) for value in distinct.to_list()], dtype=pl.UInt64)
    return values.replace_strict(distinct, hashes, return_dtype=pl.UInt64).alias("scope")


def _hash_value(value: Any) -> int:
    return xxhash.xxh3_64_intdigest(json.dumps(value, sort_keys=True, default=repr).encode())


def name_nodes(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Rows (row_id, row_key, …) with `node`, the name of the node that rows with equal `by` form, and its `size`;
    sorted by (row_key, row_id)."""
    return rows.sort("row_key", "row_id").with_columns(
        node=pl.col("row_id").first().over(by), size=pl.len().over(by))
