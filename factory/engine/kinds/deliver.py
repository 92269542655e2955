"""TRAIN, REPORT, GATE and PUBLISH steps: a dataset leaves the warehouse, or says what it is worth."""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import OpError
from factory.engine.op import GateResult, Job, Kind, Report, TrainResult
from factory.engine.task import Clock, Event, StepCall, finish_shard, finished_shard
from warehouse.content import hash_rows
from warehouse.records import Counts, ShardRecord, Usage


def run_deliver(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
                stopping: Callable[[], bool]) -> ShardRecord:
    """Run the op on whole inputs. Its record holds what the manifest should say of it, so a verdict that was reached
    before a crash is the verdict after it."""
    publishes = call.spec.kind is Kind.PUBLISH
    if not publishes and (done := finished_shard(call, shard["number"])) is not None:
        return done
    clock = Clock()
    workdir = call.warehouse.store.scratch() / uuid.uuid4().hex
    workdir.mkdir(parents=True)
    try:
        job = _job(call, workdir)
        context = replace(call.context(), tell=emit, stopping=stopping)
        result = call.spec.func(job, call.op_params, context)
        facts, tables, content = _read_result(call, result)
        # a report, a gate or a page over several datasets tells about them and passes on no row
        passes_on = call.spec.kind is Kind.TRAIN or call.from_inputs == 1
        rows = sum(call.input(index).manifest.row_count for index in range(call.from_inputs)) if passes_on else 0
        record = finish_shard(call, shard["number"], tables, Counts(owed=rows, kept=rows), content,
                              usage=Usage(seconds=clock.seconds()), facts=facts, counters=context.counters,
                              again=publishes)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def _job(call: StepCall, workdir: Path) -> Job:
    inputs = [call.input(index) for index in range(call.from_inputs)]
    names = call.facts["input_names"]
    job_facts = {**call.facts, "seed": call.seed}
    return Job(inputs={name: dataset.scan() for name, dataset in zip(names, inputs, strict=False)},
               refs={name: dataset.ref for name, dataset in zip(names, inputs, strict=False)}, facts=job_facts,
               workdir=workdir, destination=Path(call.base_dir), model=call.model, notes=job_facts.pop("notes"),
               runtime=call.runtime.backend, table=lambda name, table: call.input(names.index(name)).table(table))


def _read_result(call: StepCall, result: Any) -> tuple[dict[str, Any], dict[str, pl.DataFrame], Any]:
    for name, value in getattr(result, "metrics", {}).items():
        if not math.isfinite(value):
            raise OpError(f"step {call.step}: {call.op} measured {name} as {value}, which is no figure. Nothing was "
                          "committed")
    if isinstance(result, TrainResult):
        committed = call.warehouse.commit_checkpoint(call.dataset, result.checkpoint, {
            "base": call.model.name if call.model is not None else None, "dataset_ref": call.inputs[0],
            "dataset_refs": list(call.inputs[: call.from_inputs]), "fingerprint": call.work_key,
            "metrics": result.metrics, "run_id": call.run_id, "partial": call.facts["partial"]})
        facts: dict[str, Any] = {"checkpoint": committed.ref, "metrics": result.metrics, "made_with": result.made_with}
        return facts, result.tables, hash_rows(sorted(digest.encode() for digest in committed.files.values()))
    if isinstance(result, Report):
        facts = {"metrics": result.metrics, "checkpoint": result.checkpoint}
        content = result.table.drop(pl.selectors.ends_with("row_id"))  # where a row lies is no content
        rows = [repr(row).encode() for row in (*sorted(result.metrics.items()), *content.iter_rows())]
        return facts, {"report": result.table}, hash_rows(rows)
    if isinstance(result, GateResult):
        facts = {"passed": result.passed, "reason": result.reason, "metrics": result.metrics}
        return facts, {}, hash_rows([repr(sorted(facts.items())).encode()])
    return {"receipt": result}, {}, hash_rows([repr(sorted(result.get("files", {}).items())).encode()])
