"""From measured pairs to rows that go: connected components, and who stays in each.

Only rows that are still in the running take part. Who stays is decided by a stated preference and then by content
(row_key, answer key), never by row id, order or chance, so every executor and sharding agrees.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.engine.ranking import rank_rows

Ints = npt.NDArray[np.int64]


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
    identical = threshold < 1.0 if strict else threshold <= 1.0
    if not identical:
        return _nothing()
    placed = rows.join(nodes, on="row_id", how="inner", maintain_order="left")
    alive = placed.select("node").unique().sort("node")
    close = pairs.filter(pl.col("jaccard") > threshold if strict else pl.col("jaccard") >= threshold).join(
        alive, left_on="left", right_on="node", how="semi").join(alive, left_on="right", right_on="node", how="semi")
    names = alive["node"].to_numpy()
    roots = _find_roots(len(names), *(np.searchsorted(names, close[side].to_numpy()) for side in ("left", "right")))
    components = alive.with_columns(_component=pl.Series(names[roots], dtype=pl.Int64))
    ranked = rank_rows(placed.join(components, on="node", how="left", maintain_order="left"), prefer, seed)
    first = pl.col("row_id").first().over("_component")
    gone = ranked.with_columns(kept_row_id=first, _node_of_kept=pl.col("node").first().over("_component")).filter(
        pl.col("row_id") != pl.col("kept_row_id"))
    strongest = pl.concat([close.select(pl.col(side).alias("node"), "jaccard") for side in ("left", "right")]).group_by(
        "node").agg(pl.col("jaccard").max())
    same = pl.col("node") == pl.col("_node_of_kept")
    return gone.join(strongest, on="node", how="left", maintain_order="left").select(
        "row_id", "kept_row_id", score=pl.when(same).then(1.0).otherwise(pl.col("jaccard").fill_null(1.0)),
        threshold=pl.lit(threshold, pl.Float64))


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"row_id": pl.Int64, "kept_row_id": pl.Int64, "score": pl.Float64,
                                "threshold": pl.Float64})


def _find_roots(count: int, left: Ints, right: Ints) -> Ints:
    """The smallest node of each node's component, whatever the order of the pairs: each root takes over the smallest
    root that a pair ties it to, then every node looks up its root's root, until nothing changes."""
    roots = np.arange(count)
    while True:
        one, two = roots[left], roots[right]
        apart = one != two
        if not apart.any():
            return roots
        left, right, one, two = left[apart], right[apart], one[apart], two[apart]
        np.minimum.at(roots, np.maximum(one, two), np.minimum(one, two))
        while not np.array_equal(further := roots[roots], roots):
            roots = further
