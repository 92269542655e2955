"""select.mix: join several datasets by shares.

DeepSeek-R1's set of 800k samples joins about 600k for reasoning and 200k for other tasks (arXiv 2501.12948, section
2.3.3): shares of 3 : 1.

Of n rows in all, part i is owed the quota n · share_i / Σ shares, and the whole numbers are made by largest remainder
(Hamilton): each quota rounded down, then one more for the largest fractions, the earlier part first among equals.
Shares are taken as the decimal numbers they are written as, so 0.3 and 0.1 are exactly 3 : 1. Without `rows`, n is the
largest total of which no quota is more than its part has. Which rows of a part stay is drawn by content and seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated

import polars as pl
from pydantic import Field

from factory.engine.errors import OpError
from factory.engine.op import Kind, OpContext, Params, PlanContext, Selection, op


class MixParams(Params):
    """`shares`: a positive number for each dataset of `from`, in order; `rows`: how many rows in all (None: as many as
    the scarcest part allows)."""

    shares: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    rows: int | None = Field(None, ge=1)


def _check_count(params: MixParams, inputs: int) -> None:
    if len(params.shares) != inputs:
        raise OpError(f"select.mix: shares needs one number for each dataset of `from`: there are {inputs} datasets "
                      f"and {len(params.shares)} shares")


def _identity(params: MixParams, ctx: PlanContext) -> None:
    """Adds nothing to the identity; it is here that the number of shares can be checked before anything runs."""
    _check_count(params, ctx.inputs)


def allot(shares: Sequence[float], available: Sequence[int], rows: int | None) -> list[int]:
    """How many rows each part gives; see the module docstring. With `rows` this may be more than a part has."""
    exact = [Fraction(repr(share)) for share in shares]
    whole = sum(exact, Fraction())
    total = rows if rows is not None else int(
        min(have * whole / share for have, share in zip(available, exact, strict=True)))
    quotas = [total * share / whole for share in exact]
    allotted = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda part: allotted[part] - quotas[part])
    for part in by_remainder[: total - sum(allotted)]:
        allotted[part] += 1
    return allotted


def _check_enough(wanted: Sequence[int], available: Sequence[int], params: MixParams, ctx: OpContext) -> None:
    for part, (want, have) in enumerate(zip(wanted, available, strict=True)):
        if want > have:
            named = f" ({ctx.sources[part]})" if part < len(ctx.sources) else ""
            most = sum(allot(params.shares, available, None))
            lower = f"set rows to {most} or less, or " if most else ""
            raise OpError(f"step {ctx.step}: part {part + 1} of `from`{named} has {have} rows that passed, and {want} "
                          f"are wanted for rows {params.rows} by shares {_ratio(params)}; no row is used twice: {lower}"
                          "give that part more")


def _ratio(params: MixParams) -> str:
    return " : ".join(f"{share:g}" for share in params.shares)


@op("select.mix", version=1, kind=Kind.SELECT, params=MixParams, identity=_identity)
def select_mix(rows: pl.DataFrame, params: MixParams, ctx: OpContext) -> Selection:
    """Join datasets by shares, each row at most once.

    A row that is in two of the datasets counts for the first. Reasons: `over_share`.

    Raises:
        OpError: a part has fewer rows than `rows` and its share ask of it.
    """
    last = rows["_input"].max()
    if isinstance(last, int):
        _check_count(params, max(last + 1, len(params.shares)))
    available = [rows.filter(pl.col("_input") == part).height for part in range(len(params.shares))]
    wanted = allot(params.shares, available, params.rows)
    _check_enough(wanted, available, params, ctx)
    limits = pl.DataFrame({"_input": range(len(wanted)), "_limit": wanted, "_have": available},
                          schema={"_input": rows.schema["_input"], "_limit": pl.Int64, "_have": pl.Int64})
    ranked = ctx.rank(rows, "random").with_columns(_rank=pl.int_range(pl.len(), dtype=pl.Int64).over("_input"))
    ranked = ranked.join(limits, on="_input", how="left", maintain_order="left")
    over = ranked.filter(pl.col("_rank") >= pl.col("_limit"))
    rejected = over.select(
        "row_id", reason_code=pl.lit("over_share"), score=(pl.col("_rank") + 1).cast(pl.Float64),
        reason=pl.format("part {} has {} rows for {} places by shares " + _ratio(params), pl.col("_input") + 1, "_have",
                         "_limit"), threshold=pl.col("_limit").cast(pl.Float64))
    kept = ranked.filter(pl.col("_rank") < pl.col("_limit")).select("row_id", pl.lit(1, pl.Int32).alias("weight"))
    return Selection(kept, rejected)
