"""dedup.exact: rows with the same text.

Texts are the same when their 128-bit hashes are (`near.texts`), after the chosen normalisation. There are no pairs:
equal texts are one node, so the tables grow with the number of duplicates and never with their square. Any order and
any sharding of the rows give the same tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from factory.dedup.tables import NODES, PAIRS, ScopeParams, check_text, hash_scopes, name_nodes
from factory.engine.op import Kind, OpContext, op

_PARTIAL = pl.Schema({"row_id": pl.Int64(), "row_key": pl.Binary(), "scope": pl.UInt64(), "hash": pl.Binary()})
Normalise = Literal["none", "whitespace", "casefold"]


class ExactParams(ScopeParams):
    """`text` names the compared column, or several that must all be the same, such as [prompt, response]. `normalise`:
    compare texts as they are; with runs of white space as one space and none around; or that and case-folded too."""

    text: str | Annotated[list[str], Field(min_length=1)] = "response"
    normalise: Normalise = "none"

    @property
    def texts(self) -> list[str]:
        """The compared columns."""
        return [self.text] if isinstance(self.text, str) else self.text


def normalise_text(text: str, how: str) -> str:
    """The form in which texts are compared; `how` as `ExactParams.normalise`."""
    if how == "none":
        return text
    text = " ".join(text.split())
    return text.casefold() if how == "casefold" else text


def _columns(params: ExactParams) -> tuple[str, ...]:
    return params.columns_with(*params.texts)


@op("dedup.exact", version=2, kind=Kind.GLOBAL, params=ExactParams, columns=_columns, dedup=True,
    code=("factory.dedup.near.texts",))  # 2: texts are hashed by a compiled kernel, so parts hold other hashes
class Exact:
    """Find rows whose text is the same."""

    @staticmethod
    def threshold(params: ExactParams) -> float:
        """Jaccard similarity from which rows count as duplicates by default: 1.0, the same node."""
        return 1.0

    @staticmethod
    def partial(batch: pl.DataFrame, params: ExactParams, ctx: OpContext) -> pl.DataFrame:
        """Hash a batch: (row_id, row_key, scope, hash), one row for each row that has a text. Of several columns one
        without a text is not the same as an empty one, and a row with none at all takes no part.

        Raises:
            DataError: a column does not hold text.
        """
        from factory.dedup.near.texts import hash_columns

        for column in params.texts:
            check_text(batch, column)
        batch = batch.filter(pl.any_horizontal(pl.col(column).is_not_null() for column in params.texts))
        hashes = hash_columns([batch[column] for column in params.texts], params.normalise)
        return batch.select("row_id", "row_key", hash_scopes(batch, params.compared_within), hashes).cast(
            _PARTIAL)

    @staticmethod
    def merge(partials: Iterable[pl.DataFrame], params: ExactParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The tables `nodes` and `pairs` (empty); see `dedup.tables`."""
        rows = pl.concat([pl.DataFrame(schema=_PARTIAL), *partials])
        nodes = name_nodes(rows, ["scope", "hash"]).filter(pl.col("size") > 1).select("row_id", "node").sort("row_id")
        ctx.count("rows_in_shared_nodes", nodes.height)
        return {"nodes": nodes.cast(NODES), "pairs": pl.DataFrame(schema=PAIRS)}
