"""What an op gave back, held against its kind's contract: every row accounted for, in order, with the declared columns.

An op that loses, doubles, swaps or invents rows is stopped here, before anything of the shard is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from factory.engine.errors import ConservationError, OpError
from factory.engine.op import Ask, Kind, Selection
from factory.engine.task import StepCall


def check_rows(call: StepCall, batch: pl.DataFrame, made: pl.DataFrame) -> None:
    """One row per input row; and, where the op passed `row_id` on, in the same order."""
    if made.height != batch.height:
        raise ConservationError(f"step {call.step}: {call.op} got {batch.height} rows and returned {made.height}; "
                                "an op of this kind returns one row per input row. Nothing was committed.")
    if "row_id" in made.columns and not made["row_id"].equals(batch["row_id"]):
        raise ConservationError(f"step {call.step}: {call.op} returned other rows than it got, or in another order; "
                                "row k of the result belongs to row k of the batch. Nothing was committed.")


def check_scores(call: StepCall, measured: pl.DataFrame) -> None:
    """A SCORE op gives `passed` and every measurement it declared; it rejects nothing itself."""
    missing = [name for name in ("passed", *call.spec.out(call.op_params)) if name not in measured.columns]
    if missing or "_rejected" in measured.columns:
        what = f"did not return the column {missing[0]!r}" if missing else (
            "returned `_rejected`, but a score only measures: set `passed` to false")
        raise OpError(f"step {call.step}: {call.op} {what}. Nothing was committed.")


def check_slots(call: StepCall, height: int, parents: pl.Series, slots: pl.Series) -> None:
    """Every row of the batch has slots 0 … k-1, each once: k is 1 for MAP, `n` where the op has that param, else at
    least 1 (a row that yields nothing has one slot with `_rejected` or `_failed`)."""
    wanted = 1 if call.spec.kind is Kind.MAP else call.params.get("n")
    given = pl.DataFrame({"parent": parents, "slot": slots}).group_by("parent").agg(
        pl.len(), pl.col("slot").n_unique().alias("unique"), pl.col("slot").min().alias("low"),
        pl.col("slot").max().alias("high"))
    right = (pl.col("len") == pl.col("unique")) & (pl.col("low") == 0) & (pl.col("high") == pl.col("len") - 1)
    if isinstance(wanted, int):
        right &= pl.col("len") == wanted
    if given.height != height or not given.select(right.all()).item():
        each = f", k = {wanted}" if isinstance(wanted, int) else ""
        raise ConservationError(
            f"step {call.step}: {call.op} got {height} rows and answered with {parents.len()} slots for {given.height} "
            f"of them; each row needs the slots 0 … k-1 once{each}, and a row that yields nothing needs one that is "
            "rejected or failed. Nothing was committed.")


def check_asks(call: StepCall, height: int, asks: Sequence[Ask]) -> None:
    """Each question of a score is about a row of the batch; of one row each has a slot of its own."""
    places = [(ask.row, ask.slot) for ask in asks]
    wrong = next((place for place in places if not 0 <= place[0] < height or place[1] < 0), None)
    if wrong is not None or len(set(places)) < len(places):
        what = f"asks about row {wrong[0]}, slot {wrong[1]}, of a batch of {height}" if wrong is not None else (
            "asks twice under the same row and slot")
        raise OpError(f"step {call.step}: {call.op} {what}: rows count from 0, and each question about a row needs a "
                      "slot of its own. Nothing was committed.")


def check_choice(call: StepCall, passed: pl.DataFrame, choice: Selection) -> None:
    """Every row that a SELECT op was given is kept or rejected, once."""
    settled = pl.concat([choice.kept["row_id"], choice.rejected["row_id"].unique()])
    if not settled.sort().equals(passed["row_id"].sort()):
        raise ConservationError(
            f"step {call.step}: {call.op} was given {passed.height} rows, kept {choice.kept.height} and rejected "
            f"{choice.rejected['row_id'].n_unique()}; each row must be in exactly one of the two, once. Nothing was "
            "committed.")


def declared(call: StepCall, frame: pl.DataFrame) -> pl.DataFrame:
    """An op's columns with the dtypes it declared, so that all shards agree. Of an op that declares none, columns
    without a value are left out: only another shard knows their type."""
    out = dict(call.spec.out(call.op_params))
    if not out:
        return frame.drop([name for name in frame.columns if frame.schema[name] == pl.Null])
    if frame.height == 0:
        return pl.DataFrame(schema=out)
    missing, unknown = set(out) - set(frame.columns), set(frame.columns) - set(out)
    if missing or unknown:
        what = f"declares the column {min(missing)!r} and did not return it" if missing else (
            f"returned the column {min(unknown)!r}, which it does not declare")
        raise OpError(f"step {call.step}: {call.op} {what}: its `out` must name exactly the columns it adds")
    return frame.select(list(out)).cast(out)  # type: ignore[arg-type]
