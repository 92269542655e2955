"""The pump: steps that ask a model.

Requests of many shards flow into one backend, which takes them as it has room; completions come back in any order, go
into the journal, and finish their shard when it has them all. So no shard border is a barrier, and a kill loses only
what was in flight. Answers found by answer key, in journals or in committed parts of the family, are never asked for
again. What is held in memory is what is in flight and the shards it belongs to, however many samples a step has.

Finished shards are written by a thread of their own, so that answers which arrive meanwhile are journalled, and the
backend is fed, at once.

What all such steps share stands here; `rows_pump` is for steps that create rows, `score_pump` for scores.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import polars as pl

from factory.engine.errors import ModelError
from factory.engine.identity import AnswerKeys
from factory.engine.kinds.answers import KnownAnswers
from factory.engine.kinds.asking import ReplayRows, answer_keys, make_request, rule_columns, whole
from factory.engine.kinds.ledger import Ledger
from factory.engine.op import Ask, OpContext
from factory.engine.task import Event, StepCall
from factory.models.base import Completion, Request
from factory.models.devices import own_devices
from factory.models.open import open_backend
from warehouse import layout
from warehouse.journal import Answer, JournalWriter
from warehouse.records import ShardRecord

_MOST_WAITING = 2
"""Finished shards that may wait for the writer: with one that is written and those that are open, what memory holds."""


@dataclass(eq=False)
class OpenShard:
    """A shard (or a piece of one) on its way: its rows, what it asked, what came back; `left` answers are still to
    come."""

    number: int
    batch: pl.DataFrame
    asks: list[Ask]
    keys: list[str]
    context: OpContext
    answers: dict[str, Completion]
    left: int = 0
    asked: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Pump(ABC):
    """Runs shards of one model-asking step in one process. A kind of step says how a shard is opened and written."""

    def __init__(self, call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
                 stopping: Callable[[], bool]):
        assert call.model is not None
        self.call, self.shards, self.emit, self.stopping = call, shards, emit, stopping
        self.op = call.spec.func()
        self.runtime = call.runtime.backend.over(call.model.spec.runtime)
        available = call.input().all_columns
        self.told = [name for name in rule_columns(call.model) if name in available]
        self.keys = AnswerKeys(call.model.identity, call.seed)
        folder = call.warehouse.store.path(layout.journal(call.family))
        self.known = KnownAnswers(call, folder)
        self.journal = JournalWriter(folder)
        self.ledger = Ledger(emit, self.runtime.price)
        self.records: list[ShardRecord] = []
        self.waiting: dict[str, list[OpenShard]] = {}
        self.limits: dict[str, int] = {}
        self.in_flight = 0
        self.mark = time.monotonic()
        self.faults: list[Exception] = []
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self.writing: deque[tuple[OpenShard, Future[ShardRecord | None]]] = deque()

    @abstractmethod
    def done(self, shard: dict[str, Any]) -> ShardRecord | None:
        """The record of a shard for which nobody has to be asked."""

    @abstractmethod
    def open(self, shard: dict[str, Any]) -> Iterator[OpenShard]:
        """The shard's pieces, in order, each read when it is pulled."""

    @abstractmethod
    def write(self, opened: OpenShard) -> ShardRecord | None:
        """What became of a piece that has all its answers; the record, if its shard is whole now. Runs in the thread
        that writes."""

    def arrived(self, completion: Completion) -> None:  # noqa: B027  (a kind of step may have nothing to note)
        """Take note of an answer before those who wait for it get it."""

    def run(self) -> list[ShardRecord]:
        """Finish every shard, or as many as can be before a stop was asked for.

        A shard on which the op fails does not take the others with it; its error is raised when they are done.
        """
        feed = self._requests()
        try:
            first = next(feed, None)
            if first is not None:
                self._ask(chain([first], feed))
        finally:
            self._written(0)
            self.writer.shutdown()
            self.ledger.tell()
            self.known.close()
            self.journal.close()
        if self.faults:
            raise self.faults[0]
        return self.records

    def _ask(self, requests: Iterator[Request]) -> None:
        call = self.call
        assert call.model is not None
        with own_devices(call.facts.get("engine"), self.runtime.tensor_parallel):
            backend = open_backend(call.model, self.runtime, tell=lambda text: self.emit({"note": text}))
            try:
                for completion in backend.generate(requests):
                    if self.stopping():
                        backend.stop()
                    if completion is not None:
                        self._arrived(completion)
                    self._written(_MOST_WAITING)
                    self.ledger.now_and_then(self.in_flight)
            finally:
                backend.close()

    def _requests(self) -> Iterator[Request]:
        """Open shards one after the other as the backend asks for more; yields what nobody has answered."""
        for opened in self._opened():
            self.emit({"reused": len(opened.answers)})
            requests = self._missing(opened)
            if not opened.left:
                self._finish(opened)
                continue
            for request in requests:
                if self.stopping():
                    return
                self.in_flight += 1
                yield request

    def _opened(self) -> Iterator[OpenShard]:
        for shard in self.shards:
            if self.stopping():
                return
            try:
                done = self.done(shard)
                if done is None:
                    yield from self.open(shard)
                    continue
            except Exception as error:
                self.faults.append(error)
                continue
            self.records.append(done)
            self.tell_done(shard, done)

    def tell_done(self, shard: dict[str, Any], done: ShardRecord) -> None:
        """Tell of a shard that was there."""
        self.emit({"shard": shard["number"], "counts": done.counts.model_dump(), "reused": done.counts.owed})

    def look_up(self, number: int, batch: pl.DataFrame, asks: list[Ask], occurrences: list[int],
                context: OpContext) -> OpenShard:
        """Questions with their answer keys, and the answers that are there."""
        keys = answer_keys(self.keys, asks, batch["row_key"].to_list(), occurrences)
        return OpenShard(number, batch, asks, keys, context, self.known.find(keys, asks))

    def columns(self) -> list[str]:
        """What the op reads of a row, and what a replay model is told of it."""
        named = getattr(self.op, "columns", None)
        own = (named(self.call.op_params, self.call.context()) if named is not None
               else self.call.spec.columns(self.call.op_params))
        return list(dict.fromkeys([*own, *self.told]))

    def _missing(self, opened: OpenShard) -> Iterator[Request]:
        """Requests for what is not known, made as they are pulled; who waits for what is settled at once."""
        fresh: list[tuple[str, Ask]] = []
        for key, ask in zip(opened.keys, opened.asks, strict=True):
            if key in opened.answers:
                continue
            waiting = self.waiting.setdefault(key, [])
            if opened in waiting:
                continue
            waiting.append(opened)
            opened.left += 1
            if len(waiting) == 1:
                self.limits[key] = ask.max_tokens
                opened.asked.append(key)
                fresh.append((key, ask))
        rows = ReplayRows(self.call.model, opened.batch, getattr(self.call.op_params, "prompt", None))
        return (make_request(key, ask, rows.row(ask)) for key, ask in fresh)

    def _arrived(self, completion: Completion) -> None:
        completion = whole(completion)
        limit = self.limits.pop(completion.key)
        self.in_flight -= 1
        if completion.error is None and completion.rejected is None:
            self.journal.append(Answer(completion.key, completion.text, completion.finish_reason, completion.tokens_in,
                                       completion.tokens_out, limit))
        self.ledger.add(completion)
        self.arrived(completion)
        if self.ledger.hopeless and self.call.runtime.max_failed < 1:
            raise ModelError(f"step {self.call.step}: each of the first {self.ledger.asked:,} requests failed, the last"
                             f" with {completion.error}. Mend the cause, then run again")
        for opened in self.waiting.pop(completion.key):
            opened.answers[completion.key] = completion
            opened.left -= 1
            if not opened.left:
                self._finish(opened)

    def _finish(self, opened: OpenShard) -> None:
        now = time.monotonic()
        opened.seconds, self.mark = round(now - self.mark, 3), now
        self.writing.append((opened, self.writer.submit(self.write, opened)))
        self._written(_MOST_WAITING)

    def _written(self, most: int) -> None:
        """Take note of shards that were written; wait while more than `most` of them are not."""
        while self.writing and (len(self.writing) > most or self.writing[0][1].done()):
            opened, writing = self.writing.popleft()
            try:
                record = writing.result()
            except Exception as error:
                self.faults.append(error)
                continue
            self.ledger.tell(self.in_flight)
            if record is None:
                self.emit({"rows": opened.batch.height})
                continue
            self.records.append(record)
            self.emit({"rows": opened.batch.height, "shard": opened.number, "counts": record.counts.model_dump(),
                       "seconds": opened.seconds})
