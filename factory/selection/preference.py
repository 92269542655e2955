"""select.preference: keep pairs with a clear winner, with chosen and rejected answers of comparable length.

The data of R1's helpful reward model (DeepSeek-R1, section 3.1): pairs with a score difference above 1 stay, and over
the whole set chosen and rejected answers have comparable lengths, so that a reward model cannot learn that longer is
better. How close "comparable" is was not published.

With `balance` b, the mean length of the chosen answers is at most b times that of the rejected ones, and the other way
round. While one of the two does not hold, the pair that adds most to the excess is dropped: for a set whose chosen
answers are too long, the largest chosen - b · rejected. So few pairs go, and which ones follows from the content alone.

`where` names the verify.preference step; its margins and lengths are read, never the texts.
"""

from __future__ import annotations

import polars as pl
from pydantic import Field

from factory.engine.errors import OpError
from factory.engine.op import Kind, OpContext, Params, Selection, op

_MEASURED = ("margin", "chosen_chars", "rejected_chars")


class PreferenceChoice(Params):
    """Pairs whose margin is above `margin` in size stay (R1: 1, on a scale from -2 to 2). `balance` bounds the ratio of
    the mean lengths of chosen and rejected answers, either way (None: lengths are not looked at)."""

    margin: float = Field(1.0, ge=0, lt=2)
    balance: float | None = Field(1.05, gt=1, allow_inf_nan=False)


@op("select.preference", version=1, kind=Kind.SELECT, params=PreferenceChoice)
def select_preference(rows: pl.DataFrame, params: PreferenceChoice, ctx: OpContext) -> Selection:
    """Keep decided pairs and balance the lengths of chosen and rejected answers.

    Reasons: `undecided` (the judge gave no margin), `margin` (too small), `length_balance` (dropped so that the mean
    lengths come within `balance`); `score` and `threshold` hold the margin or the pair's length ratio and the bound.

    Raises:
        OpError: `where` does not name exactly one verify.preference step.
    """
    pairs = ctx.rank(_measured(rows, ctx.step), "random")  # the order of ties: by content, never as stored
    decided = pl.col("margin").abs() > params.margin
    sure = pairs.filter(decided & pl.col("chosen_chars").is_not_null())
    unsure = pairs.join(sure.select("row_id"), on="row_id", how="anti", maintain_order="left")
    dropped = _over_balance(sure, params.balance) if params.balance is not None else sure.clear()
    kept = sure.join(dropped.select("row_id"), on="row_id", how="anti", maintain_order="left")
    ctx.count("length_balance", dropped.height)
    no_margin = pl.col("margin").is_null() | decided
    refused = unsure.select(
        "row_id", reason_code=pl.when(no_margin).then(pl.lit("undecided")).otherwise(pl.lit("margin")),
        reason=pl.when(no_margin).then(pl.lit("no answer of the pair is preferred")).otherwise(pl.format(
            "the margin is {}, more than {} is asked for", pl.col("margin").abs(), pl.lit(params.margin))),
        score=pl.col("margin"), threshold=pl.lit(params.margin))
    unequal = dropped.select(
        "row_id", reason_code=pl.lit("length_balance"),
        reason=pl.format("the chosen answer has {} characters, the rejected one {}: dropped to balance the lengths of "
                         "the set", "chosen_chars", "rejected_chars"),
        score=pl.col("chosen_chars") / pl.col("rejected_chars"), threshold=pl.lit(params.balance, pl.Float64))
    return Selection(kept.select("row_id", pl.lit(1, pl.Int32).alias("weight")), pl.concat([refused, unequal]))


select_preference.measured = _MEASURED  # what the engine puts beside the rows, as `<step>.<column>`


def _measured(rows: pl.DataFrame, step: str) -> pl.DataFrame:
    """The rows with the measurements of the one preference step under their own names."""
    found = [name.removesuffix(".margin") for name in rows.columns if name.endswith(".margin")]
    if len(found) != 1 or any(f"{found[0]}.{name}" not in rows.columns for name in _MEASURED):
        raise OpError(f"step {step}: select.preference chooses by the margins of one verify.preference step, and finds "
                      f"{' and '.join(found) or 'none'}: name it, `where: [step]`")
    return rows.with_columns(pl.col(f"{found[0]}.{name}").alias(name) for name in _MEASURED)


def _over_balance(pairs: pl.DataFrame, balance: float) -> pl.DataFrame:
    """The pairs that have to go until the mean lengths of those that stay are within `balance` of one another."""
    chosen, rejected = pairs["chosen_chars"].to_list(), pairs["rejected_chars"].to_list()
    # Sorting is stable, so pairs that add the same go in the order of the frame.
    queues = [sorted(range(pairs.height), key=[balance * short - long for long, short in sizes].__getitem__)
              for sizes in (list(zip(chosen, rejected, strict=True)), list(zip(rejected, chosen, strict=True)))]
    totals, places, gone = [sum(chosen), sum(rejected)], [0, 0], set[int]()
    while True:
        side = next((side for side in (0, 1) if totals[side] > balance * totals[1 - side]), None)
        if side is None:
            return pairs[sorted(gone)]
        while queues[side][places[side]] in gone:
            places[side] += 1
        row = queues[side][places[side]]
        gone.add(row)
        totals = [totals[0] - chosen[row], totals[1] - rejected[row]]
