"""SCORE steps: measurements beside the rows, one narrow row for each, nothing dropped.

Work is keyed by the op's identity and the input part, not by the step: a later version of the input that shares parts
with this one (a new wave, more samples) is scored only where it is new, and other recipes find the same scores. Where
the step hears verdicts of earlier steps, what they say of the part is in its key too (`part_name`), so a newer verdict
redoes the parts that it changed and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from factory.engine.kinds.checks import check_rows, check_scores
from factory.engine.kinds.heard import heard, verdicts_on
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
    record = take_over(call, part, shard)
    if record is None:
        todo = owed(call, part, shard)
        kept, failures, counters = _measure(call, todo.rows)
        record = finish_part(call, part, shard["marker"], todo, kept, failures, counters,
                             Usage(seconds=clock.seconds()))
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def part_name(digest: str, said: str) -> str:
    """The record of an input part: by the rows' digest and by what the heard verdicts say of them ("" for none)."""
    return f"{digest}-v{said}" if said else digest


def attempt_name(name: str, attempt: int) -> str:
    """The record of an input part's nth retry; the 0th is the first try."""
    return f"{name}-r{attempt}" if attempt else name


def attempts_at(store: Store, op_key: str, name: str) -> int:
    """How often the failures of an input part were tried again."""
    attempt = 0
    while store.exists(layout.work_shard(op_key, attempt_name(name, attempt + 1))):
        attempt += 1
    return attempt


def take_over(call: StepCall, part: InputShard, shard: dict[str, Any]) -> ShardRecord | None:
    """The scores of some rows of a part from a record of the whole part, where there is one."""
    if part.ids is None or shard.get("previous"):
        return None
    name = part_name(part.part.sha256[:40], shard.get("verdicts", ""))
    newest = attempt_name(name, attempts_at(call.warehouse.store, call.op_key, name))
    whole = finished_shard(call, newest, call.op_key)
    return None if whole is None else _narrow(call, part, whole, shard["marker"], Clock())


@dataclass(frozen=True, slots=True)
class Owed:
    """What has to be measured of an input part: `rows` of it. Of a retry these are the failed ones; `standing` are the
    scores of the others, and `spent` is what those took."""

    rows: InputShard
    standing: pl.DataFrame | None = None
    spent: Usage = field(default_factory=Usage)


def owed(call: StepCall, part: InputShard, shard: dict[str, Any]) -> Owed:
    """See `Owed`."""
    if not shard.get("previous"):
        return Owed(part)
    previous = finished_shard(call, shard["previous"], call.op_key)
    assert previous is not None
    again = read_part(call.warehouse.store, previous.tables["failures"])["row_id"].sort()
    before = previous.usage
    spent = before.model_copy(update={"requested": 0, "reused": before.requested + before.reused, "seconds": 0.0})
    return Owed(replace(part, ids=again, rows=again.len()),
                read_part(call.warehouse.store, previous.tables["scores"]), spent)


def _measure(call: StepCall, part: InputShard) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    context = call.context()
    batch = read_rows(call.input(), part, call.spec.columns(call.op_params))
    batch = heard(batch, verdicts_on(call, part))
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


def finish_part(call: StepCall, part: InputShard, marker: str, todo: Owed, kept: pl.DataFrame, failures: pl.DataFrame,
                counters: dict[str, int], usage: Usage, facts: dict[str, Any] | None = None) -> ShardRecord:
    """Write what was measured of a part, with the scores that stand."""
    if todo.standing is not None:
        keys = read_rows(call.input(), part, [])
        old = todo.standing.join(keys, on="row_id", maintain_order="left")
        kept = pl.concat([old.select(kept.columns), kept]).sort("row_id")
    return finish_scores(call, part, kept, failures, todo.spent + usage, counters, marker, call.op_key, facts)


def conform_scores(call: StepCall, frame: pl.DataFrame) -> pl.DataFrame:
    """Ids, keys, the standard columns, the op's own, then the outcome columns; missing standard ones are null."""
    own = dict(call.spec.out(call.op_params))
    schema = {"row_id": pl.Int64(), "row_key": pl.Binary(), **SCORE_SCHEMA, **own, "_failed": pl.String(),
              "_attempts": pl.Int32()}
    return conform(frame, schema)


def finish_scores(call: StepCall, part: InputShard, kept: pl.DataFrame, failures: pl.DataFrame, usage: Usage,
                  counters: dict[str, int], marker: str, key: str, facts: dict[str, Any] | None = None) -> ShardRecord:
    """Write the scores of an input part as the record `marker` of the work `key`."""
    measured = [name for name in kept.columns if name not in ("row_id", "row_key")]
    content = hash_frame(kept, columns=measured)
    counts = Counts(owed=part.rows, kept=kept.height, failed=failures.height, reasons=verdicts_of(kept, failures))
    return finish_shard(call, marker, {"scores": kept.drop("row_key"), "failures": failures}, counts, content,
                        usage=usage, key=key, of=part.part.sha256, counters=counters, facts=facts)


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
    return finish_scores(call, part, kept, failures, Usage(seconds=clock.seconds()), {}, marker, call.op_key)
