"""select.rejection: keep rows that pass every rule, up to k for each prompt.

R1's rejection sampling (DeepSeek-R1, section 2.3.3) samples several answers to a prompt and keeps only correct ones.
How many it keeps was not published. Which of several correct answers to keep hardly matters (Open R1 found the best of
several no better than a random one), so the default draw is random, seeded, and depends on content alone.
"""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, Selection, op


class RejectionParams(Params):
    """`keep_per_prompt` rows at most for each parent (None: all); `prefer` orders them, by the column `length` for
    shortest and longest."""

    keep_per_prompt: int | None = Field(None, ge=1)
    prefer: Literal["random", "shortest", "longest"] = "random"
    length: str = "tokens_out"


def _columns(params: RejectionParams) -> list[str]:
    return [params.length] if params.prefer != "random" else []


@op("select.rejection", version=1, kind=Kind.SELECT, params=RejectionParams, columns=_columns)
def select_rejection(rows: pl.DataFrame, params: RejectionParams, ctx: OpContext) -> Selection:
    """Keep what passed `where`, at most `keep_per_prompt` for each prompt.

    Rows without a parent count as prompts of their own. Reasons: `keep_per_prompt`.
    """
    ranked = ctx.rank(rows, params.prefer)
    prompt = pl.col("parent_row_id") if "parent_row_id" in rows.columns else pl.col("row_id")
    ranked = ranked.with_columns(_prompt=prompt.fill_null(pl.col("row_id")))
    ranked = ranked.with_columns(_rank=pl.int_range(pl.len()).over("_prompt"))
    limit = params.keep_per_prompt if params.keep_per_prompt is not None else ranked.height
    over = ranked.filter(pl.col("_rank") >= limit)
    rejected = over.select(
        "row_id", reason_code=pl.lit("keep_per_prompt"), score=(pl.col("_rank") + 1).cast(pl.Float64),
        reason=pl.format("answer {} by the order `{}`; {} are kept per prompt", pl.col("_rank") + 1,
                         pl.lit(params.prefer), pl.lit(limit)), threshold=pl.lit(float(limit)))
    kept = ranked.filter(pl.col("_rank") < limit).select("row_id", pl.lit(1, pl.Int32).alias("weight"))
    return Selection(kept, rejected)
