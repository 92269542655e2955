"""dedup.decontaminate: rows whose prompt is also in a held-out set.

A model that was trained on the questions of its test is not measured by that test, so a rule of `where` keeps them out.
Prompts match when they are the same after normalisation, by their 128-bit xxh3 hashes; a quotation inside a longer
prompt, or a paraphrase, is not found. The held-out set is hashed once and remembered by its parts. What is kept of it
is the table `held_out`: (row_id, row_key, hash), one row for each distinct prompt, of equal ones that with the smallest
key.

A score names the held-out row by its key in hexadecimal digits: that is content, and the same in every warehouse. The
table leads from there to the row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import polars as pl
import xxhash

from factory.dedup.exact import normalise_text
from factory.engine.errors import DataError
from factory.engine.op import Kind, OpContext, Params, op

_HELD_OUT = pl.Schema({"row_id": pl.Int64(), "row_key": pl.Binary(), "hash": pl.Binary()})
_OUT = {"contaminated": pl.Boolean(), "held_out_key": pl.String()}


class DecontaminateParams(Params):
    """`column` of the judged rows is compared with `reference` of the held-out rows. `normalise`: as texts are; or with
    runs of white space as one space and none around; or that and case-folded too."""

    column: str = "prompt"
    reference: str = "prompt"
    normalise: Literal["none", "whitespace", "casefold"] = "casefold"


def _columns(params: DecontaminateParams) -> tuple[str, ...]:
    return (params.column,)


def _hash_texts(batch: pl.DataFrame, column: str, param: str, normalise: str) -> pl.Series:
    """A hash for each row, null where there is no text: of null, and of nothing but white space."""
    dtype = batch.schema[column]
    if dtype not in (pl.String, pl.Null):
        raise DataError(f"column {column!r} has type {dtype}, decontamination compares text: "
                        f"name a text column in params.{param}")
    hashes = [None if text is None or not text.strip()
              else xxhash.xxh3_128_digest(normalise_text(text, normalise).encode()) for text in batch[column].to_list()]
    return pl.Series("hash", hashes, pl.Binary)


@op("dedup.decontaminate", version=1, kind=Kind.GLOBAL, params=DecontaminateParams, columns=_columns, out=_OUT)
class Decontaminate:
    """Mark rows whose prompt is also in a held-out set (`against`), so that `where` leaves them out.

    Reason codes: `contaminated`; undecided is `no_text`, a prompt that is null or blank. `held_out_key` is the row_key
    of the held-out row in hexadecimal digits.
    """

    @staticmethod
    def against(params: DecontaminateParams) -> tuple[str, ...]:
        """The columns read of the held-out set."""
        return (params.reference,)

    @staticmethod
    def partial(batch: pl.DataFrame, params: DecontaminateParams, ctx: OpContext) -> pl.DataFrame:
        """Hash a batch of the held-out set: (row_id, row_key, hash), one row for each row that has a text.

        Raises:
            DataError: the column does not hold text.
        """
        hashes = _hash_texts(batch, params.reference, "reference", params.normalise)
        return batch.select("row_id", "row_key", hashes).drop_nulls("hash").cast(_HELD_OUT)

    @staticmethod
    def merge(partials: Iterable[pl.DataFrame], params: DecontaminateParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The table `held_out` (see the module), sorted by hash."""
        rows = pl.concat([pl.DataFrame(schema=_HELD_OUT), *partials]).sort("hash", "row_key", "row_id")
        held_out = rows.unique("hash", keep="first", maintain_order=True)
        ctx.count("held_out_texts", held_out.height)
        return {"held_out": held_out}

    @staticmethod
    def decide(batch: pl.DataFrame, tables: dict[str, pl.DataFrame], params: DecontaminateParams,
               ctx: OpContext) -> pl.DataFrame:
        """One score per row: `passed`, `reason_code`, `reason`, `contaminated`, `held_out_key`.

        Raises:
            DataError: the column does not hold text.
        """
        held_out = tables.get("held_out", pl.DataFrame(schema=_HELD_OUT))
        known = held_out.select("hash", held_out_key=pl.col("row_key").bin.encode("hex"))
        hashes = _hash_texts(batch, params.column, "column", params.normalise)
        judged = batch.select("row_id", hashes).join(known, on="hash", how="left", maintain_order="left")
        silent, found = pl.col("hash").is_null(), pl.col("held_out_key").is_not_null()
        return judged.select(
            "row_id", "held_out_key",
            passed=pl.when(~silent).then(~found),
            contaminated=pl.when(~silent).then(found),
            reason_code=pl.when(silent).then(pl.lit("no_text")).when(found).then(pl.lit("contaminated")),
            reason=pl.when(silent).then(pl.lit(f"{params.column} is null or blank: nothing to compare"))
            .when(found).then(pl.format("the held-out row {} has the same {}", "held_out_key",
                                        pl.lit(params.reference))))
