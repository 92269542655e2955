"""SCORE steps: measurements beside the rows, one narrow row for each, nothing dropped.

Work is keyed by the op's identity and the input part, not by the step: a later version of the input that shares parts
with this one (a new wave, more samples) is scored only where it is new, and other recipes find the same scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl

from factory.engine.kinds.checks import check_rows, check_scores
from factory.engine.kinds.rows import shard_input
from factory.engine.op import SCORE_SCHEMA
from factory.engine.reading import InputShard, read_rows
from factory.engine.task import (
    Clock,
    Event,
    StepCall,
    conform,
    finish_shard,
    finished_shard,
    reasons_of,
    split_outcomes,
)
from warehouse import layout
from warehouse.content import hash_frame
from warehouse.objectstore import Store
from warehouse.parts import read_part
from warehouse.records import Counts, ShardRecord, Usage
from warehouse.tables import FAILURES


def run_score(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
              stopping: Callable[[], bool]) -> ShardRecord:
    """Score one input part, or take the scores from a record that covers it.

    `shard["marker"]` names the record to make; `shard["previous"]` one whose failed rows are tried again.
    """
    done = finished_shard(call, shard["marker"], call.op_key)
    if done is not None:
        return done
    clock = Clock()
    part = shard_input(call, shard)
    whole = _scored_whole(call, part) if part.ids is not None else None
    if shard.get("previous"):
        record = _retry(call, part, shard, clock)
    elif whole is not None:
        record = _narrow(call, part, whole, shard["marker"], clock)
    else:
        kept, failures, counters = _measure(call, part, clock)
        record = finish_scores(call, part, kept, failures, clock, counters, shard["marker"], call.op_key)
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def attempt_name(name: str, attempt: int) -> str:
    """The record of an input part's nth retry; the 0th is the first try."""
    return f"{name}-r{attempt}" if attempt else name


def attempts_at(store: Store, op_key: str, name: str) -> int:
    """How often the failures of an input part were tried again."""
    attempt = 0
    while store.exists(layout.work_shard(op_key, attempt_name(name, attempt + 1))):
        attempt += 1
    return attempt


def _scored_whole(call: StepCall, part: InputShard) -> ShardRecord | None:
    """The newest record of all rows of the part that `part` is a piece of."""
    name = part.part.sha256[:40]
    return finished_shard(call, attempt_name(name, attempts_at(call.warehouse.store, call.op_key, name)), call.op_key)


def _measure(call: StepCall, part: InputShard, clock: Clock) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    context = call.context()
    batch = read_rows(call.input(), part, call.spec.columns(call.op_params))
    measured: pl.DataFrame = call.spec.func(batch, call.op_params, context)
    return *score_outcomes(call, batch, measured), context.counters


def score_outcomes(call: StepCall, batch: pl.DataFrame, measured: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """An op's measurements of a batch as (scores, failures)."""
    check_rows(call, batch, measured)
    check_scores(call, measured)
    measured = measured.drop([c for c in ("row_id", "row_key") if c in measured.columns])
    scored = conform_scores(call, batch.select("row_id", "row_key").hstack(measured.get_columns()))
    kept, _, failures = split_outcomes(call, scored)
    return kept, failures


def _retry(call: StepCall, part: InputShard, shard: dict[str, Any], clock: Clock) -> ShardRecord:
    """Measure only the rows that failed before; the other scores are taken over."""
    store = call.warehouse.store
    previous = finished_shard(call, shard["previous"], call.op_key)
    assert previous is not None
    again = read_part(store, previous.tables["failures"])["row_id"].sort()
    kept, failures, counters = _measure(call, replace(part, ids=again, rows=again.len()), clock)
    keys = read_rows(call.input(), part, [])
    old = read_part(store, previous.tables["scores"]).join(keys, on="row_id", maintain_order="left")
    both = pl.concat([old.select(kept.columns), kept]).sort("row_id")
    return finish_scores(call, part, both, failures, clock, counters, shard["marker"], call.op_key)


def conform_scores(call: StepCall, frame: pl.DataFrame) -> pl.DataFrame:
    """Ids, keys, the standard columns, the op's own, then the outcome columns; missing standard ones are null."""
    own = dict(call.spec.out(call.op_params))
    schema = {"row_id": pl.Int64(), "row_key": pl.Binary(), **SCORE_SCHEMA, **own, "_failed": pl.String()}
    return conform(frame, schema)


def finish_scores(call: StepCall, part: InputShard, kept: pl.DataFrame, failures: pl.DataFrame, clock: Clock,
                  counters: dict[str, int], marker: str, key: str) -> ShardRecord:
    """Write the scores of an input part as the record `marker` of the work `key`."""
    measured = [name for name in kept.columns if name not in ("row_id", "row_key")]
    content = hash_frame(kept, columns=measured)
    counts = Counts(owed=part.rows, kept=kept.height, failed=failures.height, reasons=verdicts_of(kept, failures))
    return finish_shard(call, marker, {"scores": kept.drop("row_key"), "failures": failures}, counts, content,
                        usage=Usage(seconds=clock.seconds()), key=key, of=part.part.sha256, counters=counters)


def verdicts_of(kept: pl.DataFrame, failures: pl.DataFrame) -> dict[str, int]:
    """How the default rule judged: `passed`, each reason code of the refused, `undecided:<code>` of the undecided."""
    counted = reasons_of(pl.DataFrame(schema={"primary": pl.Boolean, "reason_code": pl.String}), failures)
    for passed, code, count in kept.group_by("passed", "reason_code").len().iter_rows():
        unsure = f"undecided:{code}" if code else "undecided"
        name = "passed" if passed else unsure if passed is None else code or "refused"
        counted[name] = counted.get(name, 0) + count
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _narrow(call: StepCall, part: InputShard, whole: ShardRecord, marker: str, clock: Clock) -> ShardRecord:
    """Scores of some rows of a part that was scored whole."""
    store, ids = call.warehouse.store, part.ids
    assert ids is not None
    wanted = pl.col("row_id").is_in(ids.implode())
    keys = read_rows(call.input(), part, [])
    kept = read_part(store, whole.tables["scores"]).filter(wanted).join(keys, on="row_id", maintain_order="left")
    failures = (read_part(store, whole.tables["failures"]).filter(wanted) if "failures" in whole.tables
                else pl.DataFrame(schema=FAILURES))
    return finish_scores(call, part, kept, failures, clock, {}, marker, call.op_key)
