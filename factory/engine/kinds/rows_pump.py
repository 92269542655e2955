"""MAP and EXPAND steps that ask a model: the pump's way to open a shard, and to make rows of its answers.

A slot that was asked in vain is accounted for: a request that was refused is a rejection, one that failed a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from factory.engine.errors import ConservationError
from factory.engine.kinds.checks import check_slots
from factory.engine.kinds.pump import OpenShard, Pump
from factory.engine.kinds.rows import finish_rows, shard_input
from factory.engine.reading import read_rows
from factory.engine.task import Event, StepCall, finished_shard
from warehouse.parts import read_part
from warehouse.records import ShardRecord


class RowsPump(Pump):
    """Answers become rows."""

    def __init__(self, call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
                 stopping: Callable[[], bool]):
        super().__init__(call, shards, emit, stopping)
        self.standing = read_part(call.warehouse.store, call.standing) if call.standing is not None else None
        self.occurrence = _occurrences(call)

    def done(self, shard: dict[str, Any]) -> ShardRecord | None:
        """A shard that an earlier attempt finished."""
        return finished_shard(self.call, shard["number"], tried_again=True)

    def open(self, shard: dict[str, Any]) -> Iterator[OpenShard]:
        """The shard in one piece."""
        call, context = self.call, self.call.context()
        batch = read_rows(call.input(), shard_input(call, shard), self.columns(), shard["start"], shard["stop"])
        ids = batch["row_id"].to_list()
        asks = self.op.requests(batch, call.op_params, context)
        check_slots(call, batch.height, pl.Series([ask.row for ask in asks], dtype=pl.UInt32),
                    pl.Series([ask.slot for ask in asks], dtype=pl.Int32))
        if self.standing is not None:
            here = self.standing.filter(pl.col("row_id").is_in(batch["row_id"].implode()))
            standing = set(here.select("row_id", "slot").iter_rows())
            asks = [ask for ask in asks if (ids[ask.row], ask.slot) not in standing]
        occurrences = [self.occurrence.get(row_id, 0) for row_id in ids] if self.occurrence else [0] * len(ids)
        yield self.look_up(shard["number"], batch, asks, occurrences, context)

    def write(self, opened: OpenShard) -> ShardRecord:
        """Answers become rows; what was refused or failed is accounted for."""
        call = self.call
        answers = [opened.answers[key] for key in opened.keys]
        good: list[int] = []
        bad: list[int] = []
        for index, answer in enumerate(answers):
            (good if answer.error is None and answer.rejected is None else bad).append(index)
        asks = [opened.asks[index] for index in good]
        made = self.op.collect(opened.batch, asks, [answers[index] for index in good], call.op_params, opened.context)
        if made.height != len(asks):
            raise ConservationError(f"step {call.step}: {call.op} collected {made.height} rows from {len(asks)} "
                                    "answers; it returns one for each, in order. Nothing was committed; "
                                    "the answers are kept.")
        columns = {"_parent": pl.Series([ask.row for ask in asks], dtype=pl.UInt32),
                   "_slot": pl.Series([ask.slot for ask in asks], dtype=pl.Int32),
                   "answer_key": pl.Series([bytes.fromhex(opened.keys[i]) for i in good], dtype=pl.Binary)}
        made = made.with_columns(**columns)
        if bad:
            refused = [(opened.asks[i].row, opened.asks[i].slot, answers[i].rejected, answers[i].error,
                        answers[i].attempts) for i in bad]
            frame = pl.DataFrame(refused, orient="row", schema={
                "_parent": pl.UInt32, "_slot": pl.Int32, "_rejected": pl.String, "_failed": pl.String,
                "_attempts": pl.Int32})
            made = pl.concat([made, frame], how="diagonal_relaxed")
        usage = self.ledger.usage(answers, asked=len(opened.asked), seconds=opened.seconds)
        return finish_rows(call, opened.number, opened.batch, made, usage, role="prompt",
                           counters=opened.context.counters, facts=self.ledger.facts)


def run_pump(call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
             stopping: Callable[[], bool]) -> list[ShardRecord]:
    """The task function of a model-asking step that creates rows."""
    return RowsPump(call, shards, emit, stopping).run()


def _occurrences(call: StepCall) -> dict[int, int]:
    """Row id -> how many equal rows came before it; only rows that are not the first of their kind are listed."""
    if call.occurrences is None:
        return {}
    frame = read_part(call.warehouse.store, call.occurrences)
    return dict(zip(frame["row_id"].to_list(), frame["occurrence"].to_list(), strict=True))
