"""GLOBAL steps: what only all rows together can say (near-duplicates, contamination), by partial, merge and decide.

`partial` runs per input part and is keyed by it, so a later version pays only for its new parts. `merge` sees all
partials and gives small tables. `decide`, where an op has it, judges each input part against those tables, as a score.
Where an op compares, the parts measured are those of `against`, and the parts judged those of `from`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from factory.engine.kinds.rows import shard_input
from factory.engine.kinds.score import finish_scores, score_outcomes
from factory.engine.reading import read_rows
from factory.engine.task import Clock, Event, StepCall, finish_shard, finished_shard
from warehouse.content import EMPTY, hash_rows
from warehouse.parts import read_part
from warehouse.records import Counts, ShardRecord, Usage
from warehouse.tables import NODES, PAIRS

MERGED = "merged"


def run_partial(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
                stopping: Callable[[], bool]) -> ShardRecord:
    """One input part's share of the measurement."""
    done = finished_shard(call, shard["digest"], call.op_key)
    if done is not None:
        return done
    clock, context = Clock(), call.context()
    part = shard_input(call, shard)
    columns = call.spec.func.against if call.spec.compares else call.spec.columns
    batch = read_rows(call.input(shard.get("input", 0)), part, columns(call.op_params))
    frame: pl.DataFrame = call.spec.func().partial(batch, call.op_params, context)
    record = finish_shard(call, shard["digest"], {"partial": frame}, Counts(owed=part.rows, kept=part.rows), EMPTY,
                          usage=Usage(seconds=clock.seconds()), key=call.op_key, of=part.part.sha256,
                          counters=context.counters)
    emit({"shard": shard["number"], "counts": Counts().model_dump(), "seconds": clock.seconds()})
    return record


def run_merge_partials(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
                       stopping: Callable[[], bool]) -> ShardRecord:
    """All partials become the step's tables. `shard["digests"]` names the partials in order."""
    done = finished_shard(call, MERGED)
    if done is not None:
        return done
    clock, context, store = Clock(), call.context(), call.warehouse.store
    frames = []
    for digest in shard["digests"]:
        record = finished_shard(call, digest, call.op_key)
        assert record is not None
        if "partial" in record.tables:
            frames.append(read_part(store, record.tables["partial"]))
    tables: dict[str, pl.DataFrame] = call.spec.func().merge(frames, call.op_params, context)
    keys = _row_keys(frames)
    content = EMPTY
    for name in sorted(tables):
        content = content + hash_rows(name.encode() + row for row in _encoded(tables[name], keys))
    rows = 0 if call.spec.judges else int(shard["rows"])  # rows are counted where they are judged
    record = finish_shard(call, MERGED, tables, Counts(owed=rows, kept=rows), content,
                          usage=Usage(seconds=clock.seconds()), counters=context.counters)
    emit({"shard": 0, "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def _row_keys(frames: list[pl.DataFrame]) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    for frame in frames:
        if "row_key" in frame.columns:
            keys.update(zip(frame["row_id"].to_list(), frame["row_key"].to_list(), strict=True))
    return keys


def _encoded(table: pl.DataFrame, keys: dict[int, bytes]) -> list[bytes]:
    """Rows of a table with ids replaced by row keys: ids are local and must not enter a content hash."""
    if table.columns == list(NODES):
        return [keys[row] + keys[node] for row, node in table.iter_rows()]
    if table.columns == list(PAIRS):
        return [b"".join(sorted((keys[left], keys[right]))) + repr(jaccard).encode()
                for left, right, jaccard in table.iter_rows()]
    columns = [name for name in table.columns if name != "row_id"]
    return [repr(row).encode() for row in table.select(columns).iter_rows()]


def run_decide(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
               stopping: Callable[[], bool]) -> ShardRecord:
    """Judge one input part against the merged tables."""
    name = f"decide-{shard['digest']}"
    done = finished_shard(call, name)
    if done is not None:
        return done
    clock, context, store = Clock(), call.context(), call.warehouse.store
    merged = finished_shard(call, MERGED)
    assert merged is not None
    tables = {table: read_part(store, part) for table, part in merged.tables.items()}
    part = shard_input(call, shard)
    batch = read_rows(call.input(), part, call.spec.columns(call.op_params))
    judged = call.spec.func().decide(batch, tables, call.op_params, context)
    kept, failures = score_outcomes(call, batch, judged)
    record = finish_scores(call, part, kept, failures, Usage(seconds=clock.seconds()), context.counters, name,
                           call.work_key)
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record
