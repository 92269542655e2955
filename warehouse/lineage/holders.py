"""Which version holds a row: found from the id ranges of parts, which the catalog knows, without opening a file.

Ids of one part lie together (a namespace, a shard), so a row's id falls into the range of one part, rarely of two; only
then are the ids themselves looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from warehouse.errors import NotInWarehouse
from warehouse.records import Manifest

if TYPE_CHECKING:
    from warehouse.store import Warehouse


def holders(warehouse: Warehouse, row_ids: Sequence[int]) -> dict[int, Manifest]:
    """For each row that some version holds: the first version of the dataset that created it, else the first that holds
    it. Deleted versions count only where no other holds the row."""
    order = ["live", "own", "sequence", "version"]
    found = _places(warehouse, row_ids).sort(order, descending=[True, True, False, False])
    found = found.unique("row_id", keep="first", maintain_order=True)
    return {row_id: warehouse.any_manifest(ref) for row_id, ref in found.select("row_id", "ref").iter_rows()}


def holder(warehouse: Warehouse, row_id: int) -> Manifest:
    """The version that holds one row's content. Raises NotInWarehouse."""
    owner = warehouse.owner_of(row_id)
    if owner is None:
        raise NotInWarehouse(f"no row {row_id} in {warehouse.root}: its namespace is unknown. Row ids stand in the "
                             "column `row_id` of every dataset")
    there = warehouse.sql("SELECT 1 FROM stored.row_ids WHERE row_id = ? LIMIT 1", [row_id]).height
    found = holders(warehouse, [row_id]) if there else {}
    if not found:
        raise NotInWarehouse(f"row {row_id} belongs to {owner['dataset']}, where no committed version holds it: the "
                             "run that was making it has not finished (run the recipe again), or the row was rejected "
                             f"or failed (factory why {row_id})")
    return found[row_id]


def _places(warehouse: Warehouse, row_ids: Sequence[int]) -> pl.DataFrame:
    """(row_id, ref, version, sequence, live, own): every version that holds each row."""
    catalog = warehouse.catalog
    catalog.refresh()
    ids = pl.DataFrame({"row_id": pl.Series(row_ids, dtype=pl.Int64())}).unique()
    parts = catalog.frame("dataset_parts").filter((pl.col("table_name") == "rows") & (pl.col("rows") > 0))
    low, high = ids["row_id"].min(), ids["row_id"].max()
    parts = parts.filter((pl.col("max_row_id") >= low) & (pl.col("min_row_id") <= high))
    ranges = parts.select("part_id", "min_row_id", "max_row_id").unique("part_id")
    hits = ids.join_where(ranges, pl.col("row_id") >= pl.col("min_row_id"), pl.col("row_id") <= pl.col("max_row_id"))
    hits = _certain(warehouse, hits.select("row_id", "part_id"))
    versions = catalog.frame("datasets").select("ref", "dataset", "version", "sequence")
    live = catalog.live(versions)["ref"]
    owners = catalog.frame("namespaces").select("namespace", owner="dataset")
    placed = hits.join(parts.select("part_id", "ref").unique(), on="part_id").join(versions, on="ref")
    placed = placed.with_columns(namespace=pl.col("row_id") // (1 << 40)).join(owners, on="namespace", how="left")
    return placed.select("row_id", "ref", "version", "sequence", live=pl.col("ref").is_in(live.implode()),
                         own=(pl.col("dataset") == pl.col("owner")).fill_null(False))


def _certain(warehouse: Warehouse, hits: pl.DataFrame) -> pl.DataFrame:
    """Where ranges overlap, what the ids themselves say."""
    doubtful = hits.filter(pl.len().over("row_id") > 1)
    if not doubtful.height:
        return hits
    ids = doubtful["row_id"].unique().to_list()
    exact = warehouse.sql("SELECT row_id, part_id FROM stored.row_ids WHERE row_id IN (SELECT unnest(?::BIGINT[]))",
                          [ids])
    return pl.concat([hits.filter(pl.len().over("row_id") == 1), exact])
