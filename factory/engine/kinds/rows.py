"""MAP, EXPAND and MERGE steps that ask no model, and what all steps that create rows share: ids, keys, edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from factory.engine.errors import ConservationError
from factory.engine.kinds.checks import check_rows, check_slots, declared
from factory.engine.op import Kind
from factory.engine.reading import InputShard, all_rows, input_shards, read_rows
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
from warehouse.content import hash_rows, row_keys
from warehouse.ids import mint_ids
from warehouse.parts import read_part
from warehouse.records import Counts, ShardRecord, Usage
from warehouse.tables import LINEAGE


def standing_slots(call: StepCall) -> set[tuple[int, int]]:
    """(parent row id, slot) pairs that an earlier increment already holds."""
    if call.standing is None:
        return set()
    frame = read_part(call.warehouse.store, call.standing)
    return set(zip(frame["row_id"].to_list(), frame["slot"].to_list(), strict=True))


def shard_input(call: StepCall, shard: dict[str, Any]) -> InputShard:
    """The input shard a frozen plan means, found by its digest; of the first input unless `input` is another index."""
    index = shard.get("input", 0)
    key = call.root, call.inputs[index]
    if key not in _cache:
        _cache.clear()
        _cache[key] = {found.digest: found for found in input_shards(call.input(index))}
    return _cache[key][shard["digest"]]


_cache: dict[tuple[str, str], dict[str, InputShard]] = {}
"""The shards of the last input read in this process, by digest."""


def finish_rows(call: StepCall, number: int, parents: pl.DataFrame, made: pl.DataFrame, usage: Usage, *,
                role: str = "from", counters: dict[str, int] | None = None,
                facts: dict[str, Any] | None = None) -> ShardRecord:
    """Give created rows their ids, keys and edges, and finish the shard.

    Args:
        parents: the input rows, with `row_id` and `row_key`.
        made: one row per owed slot, with `_parent` (index into `parents`), `_slot`, perhaps `_rejected`/`_failed`,
            `answer_key`, and the op's own columns.
    """
    frame = made.with_columns(
        parents["row_id"].gather(made["_parent"]).alias("_parent_id"),
        parents["row_key"].gather(made["_parent"]).alias("_parent_key"))
    kept, rejections, failures = split_outcomes(call, frame, "_parent_id", "_slot")
    content = declared(call, kept.drop(["_parent", "_slot", "_parent_id", "_parent_key", "answer_key"], strict=False))
    keys = row_keys(content, content.columns, kept["_parent_key"].to_list())
    row_ids = mint_ids(call.namespace or 0, number, kept.height)
    columns = [row_ids, pl.Series("row_key", keys, dtype=pl.Binary)]
    if "answer_key" in kept.columns:
        columns.append(kept["answer_key"])
    rows = pl.DataFrame([*columns, *content.get_columns()])
    lineage = conform(pl.DataFrame({"child_row_id": row_ids, "parent_row_id": kept["_parent_id"],
                                    "slot": kept["_slot"]})
                      .with_columns(role=pl.lit(role), op=pl.lit(call.op)), LINEAGE)
    counts = Counts(owed=made.height, kept=kept.height, rejected=rejections.height, failed=failures.height,
                    reasons=reasons_of(rejections, failures))
    tables = {"rows": rows, "row_lineage": lineage, "rejections": rejections, "failures": failures}
    return finish_shard(call, number, tables, counts, hash_rows(keys), counters=counters, facts=facts,
                        usage=usage)


def run_rows(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
             stopping: Callable[[], bool]) -> ShardRecord:
    """One shard of a MAP or EXPAND step without a model."""
    done = finished_shard(call, shard["number"])
    if done is not None:
        return done
    clock, context = Clock(), call.context()
    batch = read_rows(call.input(), shard_input(call, shard), call.spec.columns(call.op_params), shard["start"],
                      shard["stop"])
    standing = standing_slots(call)
    if call.spec.kind is Kind.MAP:
        batch = batch.filter([(row_id, 0) not in standing for row_id in batch["row_id"].to_list()])
    made: pl.DataFrame = call.spec.func(batch, call.op_params, context)
    if call.spec.kind is Kind.MAP:
        check_rows(call, batch, made)
        made = made.drop([c for c in ("row_id", "row_key") if c in made.columns]).with_columns(
            pl.int_range(made.height, dtype=pl.UInt32).alias("_parent"), pl.lit(0, pl.Int32).alias("_slot"))
    else:
        if "_slot" not in made.columns:
            made = made.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).over("_parent").alias("_slot"))
        check_slots(call, batch.height, made["_parent"], made["_slot"])
        ids = batch["row_id"].gather(made["_parent"]).to_list()
        made = made.filter([(row_id, slot) not in standing
                            for row_id, slot in zip(ids, made["_slot"].to_list(), strict=True)])
    record = finish_rows(call, shard["number"], batch, made, Usage(seconds=clock.seconds()),
                         counters=context.counters)
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def run_merge(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
              stopping: Callable[[], bool]) -> ShardRecord:
    """A MERGE step: rows grouped by the op's columns become one row per group, with an edge from each."""
    done = finished_shard(call, shard["number"])
    if done is not None:
        return done
    clock, context, params = Clock(), call.context(), call.op_params
    by = list(params.group_by)  # type: ignore[attr-defined]
    columns = list(dict.fromkeys([*by, *call.spec.columns(params)]))
    source = call.input()
    rows = all_rows(source, columns)
    made, edges, parent_keys = [], [], []
    for _, group in rows.sort("row_key").group_by(by, maintain_order=True):
        result = call.spec.func(group.sort("row_key"), params, context)
        if result.height != 1:
            raise ConservationError(f"step {call.step}: {call.op} returned {result.height} rows for one group; a MERGE "
                                    "op returns exactly one. Nothing was committed.")
        made.append(result)
        edges.append(group["row_id"].to_list())
        parent_keys.append(b"".join(sorted(group["row_key"].to_list())))
    frame = pl.concat(made, how="vertical_relaxed") if made else pl.DataFrame()
    content = declared(call, frame.drop([name for name in ("row_id", "row_key") if name in frame.columns]))
    keys = row_keys(content, content.columns, parent_keys)
    ids = mint_ids(call.namespace or 0, shard["number"], frame.height)
    out = pl.DataFrame([ids, pl.Series("row_key", keys, dtype=pl.Binary), *content.get_columns()])
    lineage = pl.DataFrame([(child, parent, "merged_from", call.op, slot) for child, parents in
                            zip(ids, edges, strict=True) for slot, parent in enumerate(parents)],
                           schema=LINEAGE, orient="row")
    merged = sum(len(parents) for parents in edges)
    record = finish_shard(call, shard["number"], {"rows": out, "row_lineage": lineage},
                          Counts(owed=merged, kept=merged), hash_rows(keys), usage=Usage(seconds=clock.seconds()))
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record
