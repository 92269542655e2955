"""dedup.exact: rows with the same text.

Texts are the same when their 128-bit xxh3 hashes are, after the chosen normalisation. There are no pairs: equal texts
are one node, so the tables grow with the number of duplicates and never with their square. Any order and any sharding
of the rows give the same tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import polars as pl
import xxhash

from factory.dedup.shingles import NODES, PAIRS, ScopeParams, list_columns, name_nodes, take_texts
from factory.engine.op import Kind, OpContext, op

_PARTIAL = pl.Schema({"row_id": pl.Int64(), "row_key": pl.Binary(), "scope": pl.Binary(), "hash": pl.Binary()})


class ExactParams(ScopeParams):
    """`normalise`: compare texts as they are; with runs of white space as one space and none around; or that and
    case-folded too."""

    normalise: Literal["none", "whitespace", "casefold"] = "none"


def normalise_text(text: str, how: str) -> str:
    """The form in which texts are compared; `how` as `ExactParams.normalise`."""
    if how == "none":
        return text
    text = " ".join(text.split())
    return text.casefold() if how == "casefold" else text


@op("dedup.exact", version=1, kind=Kind.GLOBAL, params=ExactParams, columns=list_columns, dedup=True)
class Exact:
    """Find rows whose text is the same."""

    @staticmethod
    def threshold(params: ExactParams) -> float:
        """Jaccard similarity from which rows count as duplicates by default: 1.0, the same node."""
        return 1.0

    @staticmethod
    def partial(batch: pl.DataFrame, params: ExactParams, ctx: OpContext) -> pl.DataFrame:
        """Hash a batch: (row_id, row_key, scope, hash), one row for each row that has a text.

        Raises:
            DataError: the column does not hold text.
        """
        rows, texts = take_texts(batch, params)
        hashes = [xxhash.xxh3_128_digest(normalise_text(text, params.normalise).encode()) for text in texts]
        return rows.with_columns(pl.Series("hash", hashes, pl.Binary)).cast(_PARTIAL)

    @staticmethod
    def merge(partials: Iterable[pl.DataFrame], params: ExactParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The tables `nodes` and `pairs` (empty); see `dedup.shingles`."""
        rows = pl.concat([pl.DataFrame(schema=_PARTIAL), *partials])
        nodes = name_nodes(rows, ["scope", "hash"]).filter(pl.col("size") > 1).select("row_id", "node").sort("row_id")
        ctx.count("rows_in_shared_nodes", nodes.height)
        return {"nodes": nodes.cast(NODES), "pairs": pl.DataFrame(schema=PAIRS)}
