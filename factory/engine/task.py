"""A unit of work as it travels to a worker: plain data, so that any executor can carry it.

Planning, fingerprints and commits stay in the driver. A worker gets a `StepCall` (what the step is) and a shard, writes
parts and a shard record, and returns the record.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import polars as pl

from factory.engine.errors import ConservationError
from factory.engine.op import Kind, OpContext, OpSpec, Params, get_op
from factory.engine.runtime import StepRuntime
from factory.models.spec import ResolvedModel
from warehouse import Dataset, Warehouse, layout
from warehouse.content import ContentHash
from warehouse.parts import write_part
from warehouse.records import Counts, Part, ShardRecord, Usage, now
from warehouse.tables import FAILURES, REJECTIONS

Event = dict[str, Any]


@lru_cache(maxsize=4)
def open_warehouse(root: str) -> Warehouse:
    """The warehouse of a task, opened once per process."""
    return Warehouse(root)


@dataclass(frozen=True)
class StepCall:
    """What a step is, for a worker. `inputs` are dataset refs in the step's input order."""

    root: str
    run_id: str
    step: str
    op: str
    params: dict[str, Any]
    seed: int
    extra: Any
    inputs: tuple[str, ...]
    from_inputs: int
    rules: tuple[Any, ...]
    runtime: StepRuntime
    model: ResolvedModel | None
    dataset: str
    family: str
    op_key: str
    work_key: str
    namespace: int | None = None
    base: str | None = None
    standing: Part | None = None
    occurrences: Part | None = None
    plugins: tuple[str, ...] = ()
    base_dir: str = "."
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def spec(self) -> OpSpec:
        for module in self.plugins:
            if self.base_dir not in sys.path:
                sys.path.append(self.base_dir)
            importlib.import_module(module)
        return get_op(self.op)

    @cached_property
    def op_params(self) -> Params:
        return self.spec.params.model_validate(self.params)

    @cached_property
    def warehouse(self) -> Warehouse:
        return open_warehouse(self.root)

    def input(self, index: int = 0) -> Dataset:
        """An input dataset."""
        return self.warehouse.dataset(self.inputs[index])

    def context(self) -> OpContext:
        return OpContext(step=self.step, seed=self.seed, identity=self.extra)

    def __getstate__(self) -> dict[str, Any]:
        """Only plain fields travel; cached objects are opened again where the task runs."""
        return {name: value for name, value in self.__dict__.items()
                if name not in ("spec", "op_params", "warehouse")}


@dataclass(frozen=True)
class Task:
    """One thing for a worker to do: `function` is `module:name`, called with (call, shard, emit, stopping)."""

    function: str
    call: StepCall
    shard: Any
    label: str

    def run(self, emit: Callable[[Event], None], stopping: Callable[[], bool]) -> Any:
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)(self.call, self.shard, emit, stopping)


def split_outcomes(call: StepCall, rows: pl.DataFrame, ids: str = "row_id",
                   slots: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Divide an op's frame by `_rejected` and `_failed` into (kept, rejections, failures)."""
    for name, dtype in (("_rejected", pl.String), ("_failed", pl.String), ("_attempts", pl.Int32)):
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit(None, dtype).alias(name))
    slot = pl.col(slots).cast(pl.Int32) if slots else pl.lit(0, pl.Int32)
    rejected = rows.filter(pl.col("_rejected").is_not_null() & pl.col("_failed").is_null())
    failed = rows.filter(pl.col("_failed").is_not_null())
    kept = rows.filter(pl.col("_rejected").is_null() & pl.col("_failed").is_null()).drop(
        "_rejected", "_failed", "_attempts")
    head = [pl.col(ids).alias("row_id"), slot.alias("slot"), pl.lit(call.step).alias("step")]

    def cut(column: str, code: str, text: str) -> list[pl.Expr]:
        parts = pl.col(column).str.splitn(":", 2)
        return [parts.struct.field("field_0").str.strip_chars().alias(code),
                parts.struct.field("field_1").fill_null("").str.strip_chars().alias(text)]

    rejections = rejected.select(*head, *cut("_rejected", "reason_code", "reason"))
    failures = failed.select(*head, *cut("_failed", "error_type", "message"),
                             pl.col("_attempts").fill_null(1).alias("attempts"))
    return kept, conform(rejections.with_columns(primary=pl.lit(True), gate=pl.lit(call.op)), REJECTIONS), conform(
        failures.with_columns(run_id=pl.lit(call.run_id)), FAILURES)


def conform(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """A frame with exactly the columns of a schema: missing ones null, all cast."""
    return frame.select(*[(pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
                          for name, dtype in schema.items()])


def reasons_of(rejections: pl.DataFrame, failures: pl.DataFrame) -> dict[str, int]:
    """Primary reasons and error types with their counts; error types are written `failed:<type>`."""
    counted: dict[str, int] = {}
    primary = rejections.filter(pl.col("primary")) if rejections.height else rejections
    for code, count in primary.group_by("reason_code").len().iter_rows():
        counted[str(code)] = count
    for kind, count in failures.group_by("error_type").len().iter_rows():
        counted[f"failed:{kind}"] = count
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def finish_shard(call: StepCall, shard: str | int, tables: dict[str, pl.DataFrame], counts: Counts,
                 content: ContentHash, *, usage: Usage | None = None, key: str | None = None, of: str | None = None,
                 counters: dict[str, int] | None = None, facts: dict[str, Any] | None = None,
                 again: bool = False) -> ShardRecord:
    """Check conservation, write the tables' parts, then the record that makes the shard count.

    The first writer wins: if another worker finished the same shard, its record is returned. With `again` the record is
    this run's own: publishing looks at its destination every time, and its receipt tells of that time.
    """
    if not counts.balanced:
        raise ConservationError(
            f"step {call.step}, shard {shard}: {counts.owed} slots went in but {counts.kept} kept + {counts.rejected} "
            f"rejected + {counts.failed} failed came out. The op {call.op} lost or invented rows; "
            "nothing was committed.")
    store = call.warehouse.store
    parts = {name: write_part(store, frame, of=of) for name, frame in tables.items()
             if frame.height or name in KEEP_EMPTY}
    record = ShardRecord(shard=str(shard), tables=parts, counts=counts, content_hash=str(content),
                         usage=usage or Usage(), run_id=call.run_id, worker=f"{socket.gethostname()}:{os.getpid()}",
                         finished_at=now(), counters=counters or {}, facts=facts or {})
    path = layout.work_shard(key or call.work_key, f"{shard}-{call.run_id}" if again else shard)
    if store.put_if_absent(path, record.to_json()):
        return record
    return ShardRecord.model_validate_json(store.get(path))


KEEP_EMPTY = frozenset({"rows", "scores", "selection", "nodes", "pairs", "report"})
"""Tables that are written even when empty, so that their schema is on record."""


def finished_shard(call: StepCall, shard: str | int, key: str | None = None, *,
                   tried_again: bool = False) -> ShardRecord | None:
    """The record of a shard that is done already. One whose parts are gone or cut, or whose checkpoint was deleted, is
    taken away: the shard is done again. So is, if it is to be `tried_again`, one with failures of an earlier run that
    came to no version."""
    path = layout.work_shard(key or call.work_key, shard)
    store = call.warehouse.store
    if not store.exists(path):
        return None
    record = ShardRecord.model_validate_json(store.get(path))
    trained = record.facts.get("checkpoint") if call.spec.kind is Kind.TRAIN else None
    stale = tried_again and record.counts.failed and record.run_id != call.run_id
    if not stale and all(store.size(part.path) == part.bytes for part in record.tables.values()) and (
            trained is None or call.warehouse.has_checkpoint(trained)):
        return record
    store.delete(path)
    return None


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)
