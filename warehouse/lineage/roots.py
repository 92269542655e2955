"""The closure of lineage for a published version: which source rows each of its rows descends from.

Written once, when a version is published, sorted by root, so that the impact of one seed on what was published is one
look-up. The walk joins the version's rows with the edges of its ancestors, hop by hop, a batch of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from warehouse.dataset import Dataset
from warehouse.tables import ROW_ROOTS

BATCH = 500_000


def row_roots(dataset: Dataset) -> Iterator[pl.DataFrame]:
    """Frames with the columns of `warehouse.tables.ROW_ROOTS`, each of a batch of rows, sorted by root and row. A row
    without a parent is its own root, at depth 0; between a row and a root the shortest way counts."""
    edges = _edges(dataset)
    rows = dataset.scan(inherit=False).select("row_id").collect()["row_id"].unique().sort()
    for at in range(0, max(rows.len(), 1), BATCH):
        found = _walk(rows.slice(at, BATCH), edges).with_columns(ref=pl.lit(dataset.ref, dtype=pl.String()))
        yield found.sort("root_row_id", "row_id").select(*ROW_ROOTS)


def _walk(rows: pl.Series, edges: pl.DataFrame) -> pl.DataFrame:
    reached = pl.DataFrame({"row_id": rows, "at": rows})
    found = [pl.DataFrame(schema={"root_row_id": pl.Int64(), "row_id": pl.Int64(), "depth": pl.Int16()})]
    depth = 0
    while reached.height:
        next_ = reached.join(edges, left_on="at", right_on="child_row_id", how="left")
        roots = next_.filter(pl.col("parent_row_id").is_null())
        found.append(roots.select(pl.col("at").alias("root_row_id"), "row_id", depth=pl.lit(depth, dtype=pl.Int16())))
        onward = next_.filter(pl.col("parent_row_id").is_not_null())
        reached, depth = onward.select("row_id", at="parent_row_id").unique(), depth + 1
    return pl.concat(found).sort("depth").unique(["root_row_id", "row_id"], keep="first")


def _edges(dataset: Dataset) -> pl.DataFrame:
    """The edges of a version and of everything it was made from, each once."""
    waiting, seen = [dataset], {dataset.ref}
    parts = {}
    for at in waiting:
        for part in at.parts("row_lineage"):
            parts[part.sha256] = at.table("row_lineage", [part])
        for source in at.inputs[: at.manifest.facts.get("from_inputs", 1)]:
            if source.ref not in seen:
                seen.add(source.ref)
                waiting.append(source)
    frames = [frame.select("child_row_id", "parent_row_id") for frame in parts.values()]
    if not frames:
        return pl.DataFrame(schema={"child_row_id": pl.Int64(), "parent_row_id": pl.Int64()})
    return pl.concat(frames).collect()
