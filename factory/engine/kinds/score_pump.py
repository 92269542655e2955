"""SCORE steps that ask a model: the pump's way to open and write an input part.

The unit of work is an input part, as for every score, and a part may be large: it is opened in slices of
`runtime.shard_rows` rows. A slice asks, waits for its answers and is measured; only its measurements are kept, until
the last slice of the part is there and the part's scores are written. A slice that was measured before a kill is
measured again from the journal: nobody is asked twice.

An answer belongs to the row's content, whatever its place: equal rows have the same answer keys and share their
answers, so scores do not depend on how the rows are dealt. A row of which a request failed is a failure, whatever the
op made of it. A request that was refused (a prompt too long) is the op's to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from factory.engine.kinds.checks import check_asks
from factory.engine.kinds.heard import heard, verdicts_on
from factory.engine.kinds.pump import OpenShard, Pump
from factory.engine.kinds.rows import shard_input
from factory.engine.kinds.score import Owed, finish_part, owed, score_outcomes, take_over
from factory.engine.op import Ask, OpContext
from factory.engine.reading import InputShard, all_rows, read_rows
from factory.engine.task import Event, StepCall, finished_shard
from factory.models.base import Completion
from warehouse import layout
from warehouse.parts import read_part
from warehouse.records import ShardRecord, Usage


@dataclass(eq=False)
class _Part:
    """An input part on its way: what was measured of it by slice, and how many slices are still to come."""

    part: InputShard
    todo: Owed
    marker: str
    left: int
    kept: dict[int, pl.DataFrame] = field(default_factory=dict)
    failures: list[pl.DataFrame] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    counters: dict[str, int] = field(default_factory=dict)
    failed: bool = False


class ScorePump(Pump):
    """Answers become measurements."""

    def __init__(self, call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
                 stopping: Callable[[], bool]):
        super().__init__(call, shards, emit, stopping)
        self.committed = {part.sha256 for found in call.warehouse.family(call.family)
                          for part in found.tables.get("failures", [])}
        self.parts: dict[OpenShard, tuple[_Part, int]] = {}
        keys = all_rows(call.input(), [])["row_key"]
        self.repeated = set(keys.filter(keys.is_duplicated()).unique())
        self.shared: dict[str, Completion | None] = {}

    def done(self, shard: dict[str, Any]) -> ShardRecord | None:
        """A part that was scored before, alone or as a piece of a whole one. One with failures of an earlier run that
        came to no version is tried again."""
        call = self.call
        found = finished_shard(call, shard["marker"], call.op_key)
        if found is not None and found.counts.failed and found.run_id != call.run_id and (
                found.tables["failures"].sha256 not in self.committed):
            call.warehouse.store.delete(layout.work_shard(call.op_key, shard["marker"]))
            found = None
        return found or take_over(call, shard_input(call, shard), shard)

    def open(self, shard: dict[str, Any]) -> Iterator[OpenShard]:
        """The part in slices. After a slice that the op could not collect no further one is opened."""
        call = self.call
        part = shard_input(call, shard)
        todo, said = owed(call, part, shard), verdicts_on(call, part)
        rows = todo.rows
        if rows.ids is None:
            rows = replace(rows, ids=read_part(call.warehouse.store, rows.part, ["row_id"])["row_id"])
        size = call.runtime.shard_rows
        starts = range(0, rows.rows, size)
        whole = _Part(part, todo, shard["marker"], len(starts))
        for index, start in enumerate(starts):
            if whole.failed:
                return
            context = call.context()
            batch = heard(read_rows(call.input(), rows, self.columns(), start, start + size), said)
            asks = self.op.requests(batch, call.op_params, context)
            check_asks(call, batch.height, asks)
            opened = self.look_up(shard["number"], batch, asks, [0] * batch.height, context)
            self.parts[opened] = whole, index
            yield opened

    def look_up(self, number: int, batch: pl.DataFrame, asks: list[Ask], occurrences: list[int],
                context: OpContext) -> OpenShard:
        """As for rows; what an equal row was answered in this run is there too."""
        opened = super().look_up(number, batch, asks, occurrences, context)
        if self.repeated:
            row_keys = batch["row_key"].to_list()
            for key, ask in zip(opened.keys, asks, strict=True):
                if row_keys[ask.row] in self.repeated:
                    answer = self.shared.setdefault(key, opened.answers.get(key))
                    if answer is not None:
                        opened.answers[key] = answer
        return opened

    def arrived(self, completion: Completion) -> None:
        """Keep what further equal rows will want to know."""
        if completion.key in self.shared and completion.error is None:
            self.shared[completion.key] = completion

    def tell_done(self, shard: dict[str, Any], done: ShardRecord) -> None:
        """A score's answers are not counted by its rows."""
        self.emit({"shard": shard["number"], "counts": done.counts.model_dump(), "rows": done.counts.owed,
                   "reused": done.usage.requested + done.usage.reused})

    def write(self, opened: OpenShard) -> ShardRecord | None:
        """Measure a slice; write the part with its last one."""
        whole, index = self.parts.pop(opened)
        if whole.failed:
            return None
        try:
            kept, failures = self._measure(opened)
        except Exception:
            whole.failed = True
            raise
        whole.kept[index] = kept
        whole.failures.append(failures)
        unique = {key: opened.answers[key] for key in opened.keys}
        whole.usage += self.ledger.usage(list(unique.values()), asked=len(opened.asked), seconds=opened.seconds)
        for name, count in opened.context.counters.items():
            whole.counters[name] = whole.counters.get(name, 0) + count
        whole.left -= 1
        if whole.left:
            return None
        scores = pl.concat([whole.kept[number] for number in sorted(whole.kept)])
        return finish_part(self.call, whole.part, whole.marker, whole.todo, scores,
                           pl.concat(whole.failures).sort("row_id"), whole.counters, whole.usage, self.ledger.facts)

    def _measure(self, opened: OpenShard) -> tuple[pl.DataFrame, pl.DataFrame]:
        call = self.call
        answers = [opened.answers[key] for key in opened.keys]
        made = self.op.collect(opened.batch, opened.asks, answers, call.op_params, opened.context)
        return score_outcomes(call, opened.batch, with_errors(made, opened.asks, answers))


def with_errors(made: pl.DataFrame, asks: list[Ask], answers: list[Completion]) -> pl.DataFrame:
    """What an op measured, with `_failed` on the rows of which a request failed (the error of the first)."""
    errors: list[str | None] = [None] * made.height
    attempts: list[int | None] = [None] * made.height
    for ask, answer in zip(asks, answers, strict=True):
        if answer.error is not None and ask.row < made.height and errors[ask.row] is None:
            errors[ask.row], attempts[ask.row] = answer.error, answer.attempts
    own = made["_failed"].cast(pl.String) if "_failed" in made.columns else pl.lit(None, pl.String)
    return made.with_columns(
        pl.coalesce(pl.Series("_failed", errors, dtype=pl.String), own).alias("_failed"),
        pl.Series("_attempts", attempts, dtype=pl.Int32))


def run_score_pump(call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
                   stopping: Callable[[], bool]) -> list[ShardRecord]:
    """The task function of a score that asks a model."""
    return ScorePump(call, shards, emit, stopping).run()
