"""The pump: steps that ask a model.

Requests of many shards flow into one backend, which takes them as it has room; completions come back in any order, go
into the journal, and finish their shard when it has them all. So no shard border is a barrier, and a kill loses only
what was in flight. Answers found by answer key, in journals or in committed parts of the family, are never asked for
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import polars as pl

from factory.engine.errors import ConservationError
from factory.engine.identity import AnswerKeys, seed_of
from factory.engine.kinds.answers import KnownAnswers
from factory.engine.kinds.checks import check_slots
from factory.engine.kinds.rows import finish_rows, shard_input, standing_slots
from factory.engine.op import Ask
from factory.engine.reading import read_rows
from factory.engine.task import Clock, Event, StepCall, finished_shard
from factory.models.base import Completion, Request, Sampling
from factory.models.journal import Answer, JournalWriter
from factory.models.open import open_backend
from factory.models.spec import ResolvedModel
from warehouse import layout
from warehouse.parts import read_part
from warehouse.records import ShardRecord, Usage


@dataclass
class _OpenShard:
    """A shard on its way: its rows, what it asked, what came back."""

    number: int
    batch: pl.DataFrame
    asks: list[Ask]
    keys: list[str]
    clock: Clock
    answers: dict[str, Completion] = field(default_factory=dict)
    reused: int = 0
    requested: int = 0

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(set(self.keys))


class Pump:
    """Runs shards of one model-asking step in one process."""

    def __init__(self, call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
                 stopping: Callable[[], bool]):
        assert call.model is not None
        self.call, self.shards, self.emit, self.stopping = call, shards, emit, stopping
        self.op = call.spec.func()
        available = call.input().all_columns
        self.told = [name for name in rule_columns(call.model) if name in available]
        self.context = call.context()
        self.keys = AnswerKeys(call.model.identity, call.seed)
        self.standing = standing_slots(call)
        self.occurrence = _occurrences(call)
        folder = call.warehouse.store.path(layout.journal(call.family))
        self.known = KnownAnswers(call, folder)
        self.journal = JournalWriter(folder)
        self.records: list[ShardRecord] = []
        self.waiting: dict[str, list[_OpenShard]] = {}
        self.limits: dict[str, int] = {}
        self.faults: list[Exception] = []

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
            self.journal.close()
        if self.faults:
            raise self.faults[0]
        return self.records

    def _ask(self, requests: Iterator[Request]) -> None:
        call = self.call
        assert call.model is not None
        backend = open_backend(call.model, call.runtime.backend)
        try:
            for completion in backend.generate(requests):
                if self.stopping():
                    backend.stop()
                if completion is None:
                    continue
                if completion.error is None and completion.rejected is None:
                    self.journal.append(completion, self.limits[completion.key])
                self._arrived(completion)
        finally:
            backend.close()

    def _requests(self) -> Iterator[Request]:
        """Open shards one after the other as the backend asks for more; yields what nobody has answered."""
        for shard in self.shards:
            if self.stopping():
                return
            done = finished_shard(self.call, shard["number"])
            if done is not None:
                self.records.append(done)
                self.emit({"shard": shard["number"], "counts": done.counts.model_dump(), "reused": done.counts.owed})
                continue
            try:
                opened = self._open(shard)
            except Exception as error:
                self.faults.append(error)
                continue
            requests = self._missing(opened)
            if opened.complete:
                self._finish(opened)
                continue
            for request in requests:
                if self.stopping():
                    return
                yield request

    def _open(self, shard: dict[str, Any]) -> _OpenShard:
        call, clock = self.call, Clock()
        batch = read_rows(call.input(), shard_input(call, shard), self._columns(), shard["start"], shard["stop"])
        ids = batch["row_id"].to_list()
        asks = self.op.requests(batch, call.op_params, self.context)
        check_slots(call, batch.height, pl.Series([ask.row for ask in asks], dtype=pl.UInt32),
                    pl.Series([ask.slot for ask in asks], dtype=pl.Int32))
        asks = [ask for ask in asks if (ids[ask.row], ask.slot) not in self.standing]
        row_keys = batch["row_key"].to_list()
        keys = [self.keys.key(rendered(ask), row_keys[ask.row], self.occurrence.get(ids[ask.row], 0), ask.slot)
                for ask in asks]
        return _OpenShard(shard["number"], batch, asks, keys, clock)

    def _columns(self) -> list[str]:
        named = getattr(self.op, "columns", None)
        own = (named(self.call.op_params, self.context) if named is not None
               else self.call.spec.columns(self.call.op_params))
        return list(dict.fromkeys([*own, *self.told]))

    def _missing(self, opened: _OpenShard) -> list[Request]:
        requests, prompt = [], getattr(self.call.op_params, "prompt", None)
        for ask, key in zip(opened.asks, opened.keys, strict=True):
            if key in opened.answers:
                continue
            found = self.known.find(key, ask.max_tokens, ask.prefill)
            if found is not None:
                opened.answers[key] = found
                opened.reused += 1
                continue
            waiting = self.waiting.setdefault(key, [])
            waiting.append(opened)
            if len(waiting) > 1:
                continue
            opened.requested += 1
            self.limits[key] = ask.max_tokens
            row = replay_row(self.call.model, opened.batch, ask, self.told, prompt)
            requests.append(make_request(key, ask, row))
        return requests

    def _arrived(self, completion: Completion) -> None:
        limit = self.limits.pop(completion.key)
        self.known.add(completion.key, Answer(completion, limit))
        for opened in self.waiting.pop(completion.key, []):
            opened.answers[completion.key] = completion
            if opened.complete:
                self._finish(opened)
        self.emit({"tokens_in": completion.tokens_in, "tokens_out": completion.tokens_out, "answers": 1})

    def _finish(self, opened: _OpenShard) -> None:
        self.journal.sync()
        try:
            self._write(opened)
        except Exception as error:
            self.faults.append(error)

    def _write(self, opened: _OpenShard) -> None:
        call = self.call
        answers = [opened.answers[key] for key in opened.keys]
        good: list[int] = []
        bad: list[int] = []
        for index, answer in enumerate(answers):
            (good if answer.error is None and answer.rejected is None else bad).append(index)
        asks = [opened.asks[index] for index in good]
        made = self.op.collect(opened.batch, asks, [answers[index] for index in good], call.op_params, self.context)
        if made.height != len(asks):
            raise ConservationError(f"step {call.step}: {call.op} collected {made.height} rows from {len(asks)} "
                                    "answers; it returns one for each, in order. Nothing was committed; "
                                    "the answers are kept.")
        columns = {"_parent": pl.Series([ask.row for ask in asks], dtype=pl.UInt32),
                   "_slot": pl.Series([ask.slot for ask in asks], dtype=pl.Int32),
                   "answer_key": pl.Series([bytes.fromhex(opened.keys[i]) for i in good], dtype=pl.Binary)}
        made = made.with_columns(**columns)
        if bad:
            refused = [(opened.asks[i].row, opened.asks[i].slot, answers[i].rejected, answers[i].error) for i in bad]
            frame = pl.DataFrame(refused, orient="row", schema={
                "_parent": pl.UInt32, "_slot": pl.Int32, "_rejected": pl.String, "_failed": pl.String})
            made = pl.concat([made, frame], how="diagonal_relaxed")
        usage = Usage(tokens_in=sum(a.tokens_in for a in answers), tokens_out=sum(a.tokens_out for a in answers),
                      requested=opened.requested, reused=opened.reused, seconds=opened.clock.seconds())
        record = finish_rows(call, opened.number, opened.batch, made, opened.clock, usage=usage, role="prompt",
                             counters=self.context.counters)
        self.records.append(record)
        self.emit({"shard": opened.number, "counts": record.counts.model_dump(), "seconds": opened.clock.seconds(),
                   "reused": opened.reused})


def rule_columns(model: ResolvedModel | None) -> list[str]:
    """The row columns that a rule-made model's templates name; no other model sees rows."""
    if model is None or model.spec.replay is None:
        return []
    from jinja2 import Environment, meta

    environment = Environment()
    named = (meta.find_undeclared_variables(environment.parse(rule.text)) for rule in model.spec.replay.rules)
    return sorted(set().union(*named) - {"rng"})


def replay_row(model: ResolvedModel | None, batch: pl.DataFrame, ask: Ask, columns: list[str],
               prompt: str | None) -> dict[str, Any]:
    """What the replay backend is told of a row beside the request: recorded answers are found by prompt and sample."""
    if model is None or model.spec.replay is None:
        return {}
    row = {name: batch[name][ask.row] for name in columns}
    if prompt is not None and prompt in batch.columns:
        row["prompt"] = batch[prompt][ask.row]
    return {**row, "sample_index": ask.slot}


def run_pump(call: StepCall, shards: list[dict[str, Any]], emit: Callable[[Event], None],
             stopping: Callable[[], bool]) -> list[ShardRecord]:
    """The task function of a model-asking step."""
    return Pump(call, shards, emit, stopping).run()


def make_request(key: str, ask: Ask, row: dict[str, Any]) -> Request:
    """A question as a backend gets it; its seed derives from the answer key."""
    return Request(key=key, seed=seed_of(key), messages=ask.messages, prompt=ask.prompt, prefill=ask.prefill, row=row,
                   spans=ask.spans,
                   sampling=Sampling(ask.temperature, ask.top_p, ask.top_k, ask.max_tokens, ask.stop))


def rendered(ask: Ask) -> dict[str, Any]:
    """What of a request enters its answer key: all but max_tokens and the slot."""
    return {"messages": [dict(m) for m in ask.messages] if ask.messages is not None else None, "prompt": ask.prompt,
            "prefill": ask.prefill, "temperature": ask.temperature, "top_p": ask.top_p, "top_k": ask.top_k,
            "stop": list(ask.stop)}


def _occurrences(call: StepCall) -> dict[int, int]:
    """Row id -> how many equal rows came before it; only rows that are not the first of their kind are listed."""
    if call.occurrences is None:
        return {}
    frame = read_part(call.warehouse.store, call.occurrences)
    return dict(zip(frame["row_id"].to_list(), frame["occurrence"].to_list(), strict=True))
