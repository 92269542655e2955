"""What the dedup ops share: scopes, shingles, and the two tables every dedup op writes.

Tables:

- `nodes` (row_id Int64, node Int64): rows whose content is one and the same form a node, named by the row_id of its
  member with the smallest (row_key, row_id). Only rows that share a node or whose node stands in a pair are listed.
- `pairs` (left Int64, right Int64, jaccard Float64): nodes that resemble each other, left < right.

Tokens are lower-cased runs of letters, digits, underscores and combining marks; in scripts written without spaces every
character is a token. So a shingle of five tokens is a word 5-gram in English and a character 5-gram in Chinese,
with no switch between two modes that a small edit could flip.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from factory.engine.errors import DataError
from factory.engine.op import Params

NODES = pl.Schema({"row_id": pl.Int64(), "node": pl.Int64()})
PAIRS = pl.Schema({"left": pl.Int64(), "right": pl.Int64(), "jaccard": pl.Float64()})
Hashes = npt.NDArray[np.uint64]

_SPACELESS = ("\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
              "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003134f\u0e01-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u103f"
              "\u1050-\u108f\u1780-\u17d3")
_MARKS = ("\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963"
          "\u0971-\u0dff")
_TOKEN = re.compile(rf"[{_SPACELESS}]|(?:[^\W{_SPACELESS}]|[{_MARKS}])+")


class ScopeParams(Params):
    """`text` is the compared column. With scope `prompt` only rows with the same value of column `prompt` (or of
    `scope_column`) are compared; `scope_column` alone does the same for any column. Null is a value like others."""

    text: str = "response"
    scope: Literal["all", "prompt"] = "all"
    scope_column: str | None = None

    @property
    def compared_within(self) -> str | None:
        """The column whose equal values bound the comparison; None compares all rows."""
        return self.scope_column or ("prompt" if self.scope == "prompt" else None)


def list_columns(params: ScopeParams) -> tuple[str, ...]:
    """The input columns of a dedup op."""
    within = params.compared_within
    return (params.text, within) if within and within != params.text else (params.text,)


def take_texts(batch: pl.DataFrame, params: ScopeParams) -> tuple[pl.DataFrame, list[str]]:
    """Rows that have a text, as (row_id, row_key, scope), and the texts. `scope` is a 16-byte hash of the value that
    bounds the comparison. Null texts take no part; a column of another type is a `DataError`."""
    dtype = batch.schema[params.text]
    if dtype not in (pl.String, pl.Null):
        raise DataError(f"column {params.text!r} has type {dtype}, dedup compares text: "
                        "name a text column in params.text")
    batch = batch.filter(pl.col(params.text).is_not_null())
    within = params.compared_within
    scopes = [_hash_value(value) for value in batch[within].to_list()] if within else [b""] * batch.height
    rows = batch.select("row_id", "row_key").with_columns(pl.Series("scope", scopes, pl.Binary))
    return rows, batch[params.text].to_list()


def _hash_value(value: Any) -> bytes:
    return xxhash.xxh3_128_digest(json.dumps(value, sort_keys=True, default=repr).encode())


def hash_shingles(text: str, ngram: int) -> Hashes:
    """The text's set of shingles as sorted unique 64-bit hashes, never empty.

    A text shorter than `ngram` tokens has one shingle, all its tokens; one without any token has itself, stripped.
    """
    tokens = _TOKEN.findall(text.lower())
    if not tokens:
        return np.array([xxhash.xxh3_64_intdigest(text.strip().encode(), seed=1)], np.uint64)
    last = max(len(tokens) - ngram, 0)
    digest = xxhash.xxh3_64_intdigest
    grams = (digest(" ".join(tokens[at:at + ngram]).encode()) for at in range(last + 1))
    return np.unique(np.fromiter(grams, np.uint64, last + 1))


def measure_jaccard(left: Hashes, right: Hashes) -> float:
    """|intersection| / |union| of two sets given as sorted unique arrays."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


def name_nodes(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Rows (row_id, row_key, …) with `node`, the name of the node that rows with equal `by` form, and its `size`;
    sorted by (row_key, row_id)."""
    return rows.sort("row_key", "row_id").with_columns(
        node=pl.col("row_id").first().over(by), size=pl.len().over(by))
