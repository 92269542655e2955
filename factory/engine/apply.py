"""`factory apply`: one row op on one plain file, with no recipe and no warehouse. The code is the op's own.

The output has the input's rows in their order, with the op's columns added: verifiers add `label, reason_code, reason,
extracted, score`, filters `passed, reason_code, reason` and their measurements. Where a row could not be judged (a
time-out), `failed` says why and the label is `undecided`; the column is there only where a row failed.

From JSONL to JSONL a file is never held whole: a batch of lines is read, judged and written, and every object comes out
as it went in. A line that is no JSON object comes out in its place with its text as `line` and `failed` naming it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from factory.engine.apply_files import FORMATS, Batch, is_lines, read_batches, staged_writer
from factory.engine.errors import DataError, UsageError
from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, OpSpec, PlanContext, get_composite, get_op
from factory.engine.recipe_yaml import fields_of, near

VERDICT_COLUMNS = ("label", "reason_code", "reason", "extracted", "score")
Tell = Callable[[int, float], None]


def apply_op(name: str, source: Path, target: Path, params: Mapping[str, Any],
             tell: Tell = lambda _rows, _share: None) -> pl.DataFrame:
    """Run a SCORE or MAP op over a file and write the result.

    Args:
        name: the op, such as `verify.math`.
        source, target: .jsonl, .parquet or .csv; the target is written whole or not at all.
        params: the op's params; column params name columns of the file.
        tell: hears how many rows are done, and which share of the file.

    Returns:
        The op's columns, one row for each row of the file, in order.

    Raises:
        UsageError, DataError: naming the param, file or column.
    """
    spec, typed = _checked(name, target, params)
    context = OpContext(step=name, identity=spec.identity(typed, PlanContext(Path.cwd())) if spec.identity else None)
    wanted = list(dict.fromkeys(spec.columns(typed)))
    rows, good, made = 0, 0, []
    with staged_writer(target, ("failed",) if spec.verifies else ()) as write:  # an earlier pass may have left one
        for number, batch in enumerate(read_batches(source, wanted)):
            if number == 0:
                _check_columns(name, source, wanted, batch.names)
            made.append(_measured(spec, typed, context, batch))
            write(batch, made[-1])
            rows, good = rows + batch.height, good + batch.rows.height
            tell(rows, batch.share)
        if not good and is_lines(source):
            first = made[0]["failed"][0] if rows else "it holds no row"
            raise DataError(f"{source} cannot be read as {source.suffix[1:]}: {first}")
    return pl.concat(made, how="diagonal_relaxed")


def _checked(name: str, target: Path, params: Mapping[str, Any]) -> tuple[OpSpec, Any]:
    if get_composite(name) is not None:
        raise UsageError(f"{name} stands for several ops: apply them one after the other (`factory ls --ops {name}`)")
    spec = get_op(name)
    if spec.kind not in (Kind.SCORE, Kind.MAP) or spec.asks_model:
        raise UsageError(f"{name} is a {spec.kind.value} op{' that asks a model' if spec.asks_model else ''}: apply "
                         "runs ops that measure or map single rows")
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"{target}: unknown output format; use {', '.join(FORMATS)}")
    try:
        return spec, spec.params.model_validate(dict(params))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        known = fields_of(spec.params)
        hint = near(field, known) + f" ({spec.name} has {', '.join(known) or 'no params'})"
        raise UsageError(f"--set {field}: {fault['msg']}{hint if fault['type'] == 'extra_forbidden' else ''}") from None


def _check_columns(op: str, source: Path, wanted: list[str], names: list[str]) -> None:
    missing = [column for column in wanted if column not in names]
    if missing and names:
        raise DataError(f"{source} has no column {missing[0]!r}, which {op} reads{near(missing[0], names)} "
                        f"(it has {', '.join(names)}). Name another with --set")


def _measured(spec: OpSpec, typed: Any, context: OpContext, batch: Batch) -> pl.DataFrame:
    """The op's columns for a batch; lines that are no rows are failed in their places."""
    good = batch.rows.with_columns(row_id=pl.int_range(batch.rows.height, dtype=pl.Int64),
                                   row_key=pl.lit(b"", pl.Binary))
    result = _named(spec, typed, spec.func(good, typed, context))
    if not batch.bad:
        return result
    places = [number for number in range(batch.height) if number not in batch.bad]
    result = result.with_columns(pl.Series("_at", places, pl.Int64))
    bad = pl.DataFrame({"_at": list(batch.bad), "failed": list(batch.bad.values())},
                       schema={"_at": pl.Int64, "failed": pl.String})
    joined = pl.concat([result, bad], how="diagonal_relaxed").sort("_at").drop("_at")
    return _undecided(joined) if spec.verifies else joined


def _named(spec: OpSpec, typed: Any, made: pl.DataFrame) -> pl.DataFrame:
    """What is written of an op's frame, under the names it is written by."""
    made = made.drop([name for name in ("row_id", "row_key") if name in made.columns])
    outcome = [name for name in ("_failed",) if name in made.columns]
    if spec.verifies:
        schema = {**SCORE_SCHEMA, "extracted": pl.String(), **spec.out(typed)}
        further = [name for name in spec.out(typed) if name not in VERDICT_COLUMNS]
        made = made.select(*((pl.col(name) if name in made.columns else pl.lit(None)).cast(schema[name]).alias(name)
                             for name in (*VERDICT_COLUMNS, *further)), *outcome)
    elif spec.kind is Kind.SCORE:
        kept = [name for name in (*SCORE_SCHEMA, *spec.out(typed)) if name in made.columns]
        empty = [name for name in ("label", "score") if name in kept and made[name].null_count() == made.height]
        made = made.select(*(name for name in kept if name not in empty), *outcome)
    made = made.rename({"_failed": "failed", "_rejected": "rejected"}, strict=False)
    if "failed" in made.columns and made["failed"].null_count() == made.height:
        made = made.drop("failed")
    return _undecided(made) if spec.verifies and "failed" in made.columns else made


def _undecided(made: pl.DataFrame) -> pl.DataFrame:
    """A row without a verdict is undecided, for the reason that it failed for."""
    failed, cut = pl.col("failed").is_not_null(), pl.col("failed").str.splitn(": ", 2)
    return made.with_columns(
        pl.when(failed).then(pl.lit("undecided")).otherwise("label").alias("label"),
        pl.when(failed).then(cut.struct.field("field_0")).otherwise("reason_code").alias("reason_code"),
        pl.when(failed).then(cut.struct.field("field_1")).otherwise("reason").alias("reason"))
