"""From measured pairs to rows that go: connected components, and who stays in each.

Only rows that are still in the running take part. Who stays is decided by a stated preference and then by content
(row_key, answer key), never by row id, order or chance, so every executor and sharding agrees.
"""

from __future__ import annotations

import polars as pl

from factory.engine.ranking import rank_rows


def find_duplicates(rows: pl.DataFrame, nodes: pl.DataFrame, pairs: pl.DataFrame, threshold: float, *, strict: bool,
                    prefer: str, seed: int) -> pl.DataFrame:
    """Rows with a twin that stays.

    Args:
        rows: `row_id`, `row_key`, perhaps `answer_key` and `_length`.
        nodes: `row_id`, `node`: rows of one node are identical.
        pairs: `left`, `right` (nodes), `jaccard`.
        threshold: two nodes are twins when their Jaccard is at least this (more than this, when `strict`).

    Returns:
        `row_id`, `score` (the Jaccard that ties it to its component), `threshold`, `kept_row_id`.
    """
    placed = rows.join(nodes, on="row_id", how="inner", maintain_order="left")
    alive = set(placed["node"].to_list())
    close = pairs.filter(pl.col("jaccard") > threshold if strict else pl.col("jaccard") >= threshold)
    parent: dict[int, int] = {node: node for node in alive}
    strongest: dict[int, float] = {}
    for left, right, jaccard in close.select("left", "right", "jaccard").iter_rows():
        if left in parent and right in parent:
            a, b = _root(parent, left), _root(parent, right)
            parent[max(a, b)] = min(a, b)
            for node in (left, right):
                strongest[node] = max(strongest.get(node, 0.0), jaccard)
    roots = {node: _root(parent, node) for node in alive}
    identical = threshold < 1.0 if strict else threshold <= 1.0
    if not identical:
        return _nothing()
    component = pl.col("node").replace_strict(roots, return_dtype=pl.Int64).alias("_component")
    ranked = rank_rows(placed.with_columns(component), prefer, seed)
    first = pl.col("row_id").first().over("_component")
    gone = ranked.with_columns(kept_row_id=first, _node_of_kept=pl.col("node").first().over("_component")).filter(
        pl.col("row_id") != pl.col("kept_row_id"))
    same = gone["node"] == gone["_node_of_kept"]
    scores = [1.0 if equal else strongest.get(node, 1.0)
              for equal, node in zip(same.to_list(), gone["node"].to_list(), strict=True)]
    return gone.select("row_id", "kept_row_id").with_columns(
        score=pl.Series(scores, dtype=pl.Float64), threshold=pl.lit(threshold, pl.Float64))


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"row_id": pl.Int64, "kept_row_id": pl.Int64, "score": pl.Float64,
                                "threshold": pl.Float64})


def _root(parent: dict[int, int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node
