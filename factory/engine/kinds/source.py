"""SOURCE steps: records become rows with ids, keys and provenance.

A source version may extend an earlier one of its family (a file was added, a line appended): rows whose content is
there already keep their ids and only new content is written. Then the splits are read in order by one worker, because
which of several equal rows stands depends on how many came before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from factory.engine.errors import DataError
from factory.engine.op import Record
from factory.engine.task import (
    Clock,
    Event,
    StepCall,
    conform,
    finish_shard,
    finished_shard,
    reasons_of,
)
from warehouse.content import hash_rows, row_keys
from warehouse.ids import MAX_ROWS_PER_SHARD, first_id
from warehouse.records import Counts, ShardRecord, Usage
from warehouse.tables import FAILURES, PROVENANCE, REJECTIONS


class _Standing:
    """Rows of the base version by key; taking one marks it as still wanted."""

    def __init__(self, call: StepCall):
        self._left: dict[bytes, list[int]] = defaultdict(list)
        if call.base is not None:
            base = call.warehouse.dataset(call.base)
            rows = base.scan(inherit=False).select("row_id", "row_key").collect()
            for row_id, key in rows.sort("row_id", descending=True).iter_rows():
                self._left[key].append(row_id)

    def take(self, key: bytes) -> int | None:
        waiting = self._left.get(key)
        return waiting.pop() if waiting else None


def run_source(call: StepCall, shards: list[tuple[int, dict[str, Any]]], emit: Callable[[Event], None],
               stopping: Callable[[], bool]) -> list[ShardRecord]:
    """Read splits, in order: [(shard number, split)]. Splits done before are read again only where a base needs it."""
    standing = _Standing(call)
    records = []
    for number, split in shards:
        if stopping():
            break
        done = finished_shard(call, number)
        if done is not None and call.base is None:
            records.append(done)
            continue
        clock = Clock()
        made = _read_split(call, number, split, standing, clock, done)
        records.append(made)
        emit({"shard": number, "counts": made.counts.model_dump(), "seconds": clock.seconds()})
    return records


def _read_split(call: StepCall, number: int, split: dict[str, Any], standing: _Standing, clock: Clock,
                done: ShardRecord | None) -> ShardRecord:
    records = list(call.spec.func().read(split, call.op_params))
    if len(records) > MAX_ROWS_PER_SHARD:
        raise DataError(f"step {call.step}: split {number} holds {len(records)} records; a source must split smaller")
    schema: dict[str, pl.DataType] = call.facts["schema"]  # as planned, the same for every split
    good = [record for record in records if record.values is not None]
    frame = pl.DataFrame({name: pl.Series(name, [r.values[name] for r in good], dtype=dtype)
                          for name, dtype in schema.items()})
    keys = row_keys(frame, list(schema))
    stands = [standing.take(key) for key in keys]
    if done is not None:
        return done
    start = first_id(call.namespace or 0, number)
    ids = dict(zip((id(record) for record in records), range(start, start + len(records)), strict=True))
    new = [index for index, row_id in enumerate(stands) if row_id is None]
    rows = pl.DataFrame({"row_id": pl.Series([ids[id(good[i])] for i in new], dtype=pl.Int64),
                         "row_key": pl.Series([keys[i] for i in new], dtype=pl.Binary)}
                        ).hstack(frame[new].get_columns())
    tables = {"rows": rows, "provenance": _provenance((ids[id(good[i])], good[i]) for i in new),
              "standing": pl.DataFrame({"row_id": pl.Series([r for r in stands if r is not None], dtype=pl.Int64)}),
              **_refused(call, records, ids)}
    kept, rejected, failed = len(good), tables["rejections"].height, tables["failures"].height
    counts = Counts(owed=len(records), kept=kept, rejected=rejected, failed=failed,
                    reasons=reasons_of(tables["rejections"], tables["failures"]))
    return finish_shard(call, number, tables, counts, hash_rows(keys), usage=Usage(seconds=clock.seconds()))


def _provenance(rows: Iterable[tuple[int, Record]]) -> pl.DataFrame:
    listed = [(row_id, record.origin, record.line, record.native_id) for row_id, record in rows]
    return pl.DataFrame(listed, schema=PROVENANCE, orient="row")


def _refused(call: StepCall, records: list[Record], ids: dict[int, int]) -> dict[str, pl.DataFrame]:
    rejections, failures = [], []
    for record in records:
        if record.rejected is not None:
            code, _, text = record.rejected.partition(":")
            rejections.append((ids[id(record)], code.strip(), text.strip()))
        elif record.failed is not None:
            kind, _, text = record.failed.partition(":")
            failures.append((ids[id(record)], kind.strip(), text.strip()))
    refused = pl.DataFrame(rejections, schema={"row_id": pl.Int64, "reason_code": pl.String, "reason": pl.String},
                           orient="row")
    failed = pl.DataFrame(failures, schema={"row_id": pl.Int64, "error_type": pl.String, "message": pl.String},
                          orient="row")
    common = {"step": pl.lit(call.step), "slot": pl.lit(0)}
    return {
        "rejections": conform(refused.with_columns(**common, gate=pl.lit(call.op), primary=pl.lit(True)), REJECTIONS),
        "failures": conform(failed.with_columns(**common, attempts=pl.lit(1), run_id=pl.lit(call.run_id)), FAILURES)}
