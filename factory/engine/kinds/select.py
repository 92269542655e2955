"""SELECT steps: `where` is applied in order, then the op chooses among what passed. No text is read or written.

Every rule that a row fails is stored; the first in order is the primary reason and the one that is counted. A dedup
rule compares only rows that passed the rules before it, so a wrong twin never ousts a right one.

Where `from` names several datasets, a rule judges the rows of those whose rows its step was given; to the others it
does not apply. Within such a dataset a row that the step never saw is refused as not scored.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import polars as pl

from factory.engine.kinds.checks import check_choice
from factory.engine.kinds.duplicates import find_duplicates
from factory.engine.op import Selection
from factory.engine.reading import all_rows
from factory.engine.task import Clock, Event, StepCall, conform, finish_shard, finished_shard, reasons_of
from factory.engine.where import Condition, Rule
from warehouse import Dataset
from warehouse.content import hash_frame
from warehouse.dataset import PARENT
from warehouse.records import Counts, ShardRecord, Usage
from warehouse.tables import REJECTIONS, SELECTION


def run_select(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
               stopping: Callable[[], bool]) -> ShardRecord:
    """Choose rows of the `from` inputs."""
    done = finished_shard(call, shard["number"])
    if done is not None:
        return done
    clock, context = Clock(), call.context()
    context.sources = call.inputs[:call.from_inputs]
    sources = [call.input(index) for index in range(call.from_inputs)]
    rows = _candidates(call, sources)
    rejections: list[pl.DataFrame] = []
    measured = tuple(getattr(call.spec.func, "measured", ()))
    passed = rows
    for rule in call.rules:
        scored = call.warehouse.dataset(call.inputs[call.facts["rule_inputs"][rule.step]])
        judged = rows.filter(pl.col("_input").is_in(call.facts["rule_covers"][rule.step]))
        refused = (_by_dedup(call, rule, scored, passed) if scored.kind == "tables"
                   else refused_by(rule, scored.table("scores"), judged))
        rejections.append(refused.with_columns(gate=pl.lit(rule.step)))
        passed = passed.join(refused.select("row_id"), on="row_id", how="anti", maintain_order="left")
        if scored.kind != "tables":
            passed = _with_measured(passed, rule.step, scored, measured)
    choice: Selection = call.spec.func(passed, call.op_params, context)
    check_choice(call, passed, choice)
    rejections.append(choice.rejected.with_columns(gate=pl.lit(call.op)))
    record = _finish(call, shard["number"], rows, choice.kept, rejections, clock, context.counters)
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


def _candidates(call: StepCall, sources: list[Dataset]) -> pl.DataFrame:
    """All rows of the inputs: row_id, row_key, answer_key and parent_row_id where there are any, source, op columns."""
    frames = []
    for number, source in enumerate(sources):
        wanted = list(call.spec.columns(call.op_params))
        wanted += [name for name in ("answer_key",) if name in source.all_columns]
        has_parent = any(content.parent is not None for content in source.contents)
        frame = _with_parent(source, wanted) if has_parent else all_rows(source, wanted)
        length = getattr(call.op_params, "length", None)
        if length in frame.columns:
            frame = frame.with_columns(pl.col(length).alias("_length"))
        frames.append(frame.with_columns(pl.lit(number, pl.Int32).alias("_input")))
    rows = pl.concat(frames, how="diagonal_relaxed")
    return rows.unique("row_id", keep="first", maintain_order=True)


def _with_parent(source: Dataset, columns: list[str]) -> pl.DataFrame:
    rows = all_rows(source, columns)
    edges = pl.concat([content.table("row_lineage").select(pl.col("child_row_id").alias("row_id"), PARENT)
                       for content in source.contents if content.parent is not None]).collect()
    return rows.join(edges, on="row_id", how="left", maintain_order="left")


def _with_measured(rows: pl.DataFrame, step: str, scored: Dataset, names: tuple[str, ...]) -> pl.DataFrame:
    """The rows with those measurements of a rule's step that the op names in `measured`, as `<step>.<name>`."""
    wanted = {name: f"{step}.{name}" for name in names if name in scored.schema("scores")}
    if not wanted or set(wanted.values()) <= set(rows.columns):
        return rows
    said = scored.table("scores").select("row_id", *wanted).rename(wanted).collect()
    return rows.join(said, on="row_id", how="left", maintain_order="left")


def refused_by(rule: Rule, scores: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that fail a rule on a score table: `row_id`, `reason_code`, `reason`, `score`, `threshold`. Rows without a
    score (their scoring failed) are undecided. Of the table only what the rule compares is read for all rows."""
    # NaN would be greater than any threshold; it says as little as null
    scores = scores.with_columns(pl.selectors.float().fill_nan(None))
    compared = [condition.column for condition in rule.conditions] or ["passed"]
    said = scores.select(*dict.fromkeys(["row_id", *compared]), _known=pl.lit(True)).collect()
    joined = rows.select("row_id").join(said, on="row_id", how="left", maintain_order="left").with_columns(
        pl.col("_known").fill_null(False))
    if not rule.conditions:
        return _by_default(rule, scores, joined)
    return pl.concat([_by_condition(rule, condition, joined) for condition in rule.conditions])


def _by_condition(rule: Rule, condition: Condition, joined: pl.DataFrame) -> pl.DataFrame:
    """Rows on which one comparison fails or, having no value to compare, says nothing."""
    value = pl.col(condition.column)
    holds = _holds(condition)
    fails = joined.filter(~holds) if rule.keep_undecided else joined.filter(holds.is_null() | ~holds)
    code = pl.when(~pl.col("_known")).then(pl.lit("not_scored")).when(value.is_null()).then(
        pl.lit("undecided")).otherwise(pl.lit(condition.column))
    return fails.select(
        "row_id", (pl.lit(f"{rule.step}.") + code).alias("reason_code"),
        pl.format("{} is {}, wanted {}", pl.lit(condition.column), value.cast(pl.String).fill_null("unknown"),
                  pl.lit(f"{condition.operator} {condition.value}")).alias("reason"),
        _number(joined, condition.column).alias("score"),
        pl.lit(_float(condition.value), pl.Float64).alias("threshold"))


def _by_default(rule: Rule, scores: pl.LazyFrame, joined: pl.DataFrame) -> pl.DataFrame:
    passed = pl.col("passed")
    fails = joined.filter(~passed) if rule.keep_undecided else joined.filter(passed.is_null() | ~passed)
    why = scores.filter(passed.is_null() | ~passed).select("row_id", "reason_code", "reason", "score").collect()
    fails = fails.join(why, on="row_id", how="left", maintain_order="left")
    code = pl.when(~pl.col("_known")).then(pl.lit("not_scored")).otherwise(
        pl.coalesce("reason_code", pl.when(passed.is_null()).then(pl.lit("undecided")).otherwise(pl.lit("refused"))))
    reason = pl.when(~pl.col("_known")).then(pl.lit("the step failed on this row; see failures")).otherwise(
        pl.col("reason"))
    return fails.select("row_id", (pl.lit(f"{rule.step}.") + code).alias("reason_code"), reason.alias("reason"),
                        pl.col("score"), pl.lit(None, pl.Float64).alias("threshold"))


def _holds(condition: Condition) -> pl.Expr:
    column, value = pl.col(condition.column), condition.value
    if condition.operator == "in":
        return column.is_in(value)
    compare: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
        "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt, "eq": operator.eq}
    return compare[condition.operator](column, value)


def _number(frame: pl.DataFrame, column: str) -> pl.Expr:
    numeric = frame.schema[column].is_numeric() or frame.schema[column] == pl.Boolean
    return pl.col(column).cast(pl.Float64) if numeric else pl.lit(None, pl.Float64)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _by_dedup(call: StepCall, rule: Rule, scored: Dataset, passed: pl.DataFrame) -> pl.DataFrame:
    """Rows of `passed` that have a twin which stays."""
    prefer = getattr(call.op_params, "prefer", "shortest")
    threshold, strict = call.facts["dedup_rules"][rule.step]
    nodes, pairs = scored.table("nodes").collect(), scored.table("pairs").collect()
    refused = find_duplicates(passed, nodes, pairs, threshold, strict=strict, prefer=prefer, seed=call.seed)
    return refused.with_columns(
        pl.lit(f"{rule.step}.duplicate").alias("reason_code"),
        pl.when(pl.col("score") < 1).then(
            pl.format("near-duplicate (Jaccard {}) of a row that stays", pl.col("score").round(3))
        ).otherwise(pl.lit("a copy of a row that stays")).alias("reason"))


def _finish(call: StepCall, number: int, rows: pl.DataFrame, kept: pl.DataFrame, rejections: list[pl.DataFrame],
            clock: Clock, counters: dict[str, int]) -> ShardRecord:
    listed = pl.concat([conform(frame, REJECTIONS) for frame in rejections])  # in the order of the rules
    refused = listed.with_columns(step=pl.lit(call.step), slot=pl.lit(0, pl.Int32)).sort("row_id", maintain_order=True)
    refused = refused.with_columns(primary=pl.col("row_id").is_first_distinct())
    chosen = conform(kept.select("row_id", "weight"), SELECTION).sort("row_id")
    keyed = chosen.join(rows.select("row_id", "row_key"), on="row_id", maintain_order="left")
    counts = Counts(owed=rows.height, kept=chosen.height, rejected=int(refused["primary"].sum()),
                    reasons=reasons_of(refused, pl.DataFrame(schema={"error_type": pl.String})))
    content = hash_frame(keyed, columns=["weight"])
    return finish_shard(call, number, {"selection": chosen, "rejections": refused}, counts, content,
                        usage=Usage(seconds=clock.seconds()), counters=counters,
                        facts={"weighted": bool((chosen["weight"] != 1).any())})
