"""`factory apply`: one row op on one plain file, with no recipe and no warehouse. The code is the op's own.

The output has the input's rows in their order, with the op's columns added: verifiers add `label, reason_code, reason,
extracted, score`, filters `passed, reason_code, reason` and their measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from factory.engine.errors import DataError, UsageError
from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, OpSpec, PlanContext, get_composite, get_op
from factory.engine.recipe_yaml import fields_of, near

BATCH_ROWS = 2048
FORMATS = (".jsonl", ".ndjson", ".parquet", ".csv")


def read_table(path: Path) -> pl.DataFrame:
    """A JSONL, Parquet or CSV file as a frame; DataError names what is wrong with it."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; looked in {path.absolute().parent}")
    suffix = path.suffix.lower()
    try:
        if suffix in (".jsonl", ".ndjson"):
            return pl.read_ndjson(path, infer_schema_length=None)
        if suffix == ".parquet":
            return pl.read_parquet(path)
        if suffix == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}") from None
    raise DataError(f"{path}: unknown format {suffix or '(none)'}; use .jsonl, .parquet or .csv")


def _write_table(frame: pl.DataFrame, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        frame.write_ndjson(path)
    elif suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)


def _check_params(spec: OpSpec, params: Mapping[str, Any]) -> Any:
    try:
        return spec.params.model_validate(dict(params))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        known = fields_of(spec.params)
        hint = near(name, known) + f" ({spec.name} has {', '.join(known) or 'no params'})"
        raise UsageError(f"--set {name}: {fault['msg']}{hint if fault['type'] == 'extra_forbidden' else ''}") from None


def apply_op(name: str, source: Path, target: Path, params: Mapping[str, Any]) -> pl.DataFrame:
    """Run a SCORE or MAP op over a file and write the result.

    Args:
        name: the op, such as `verify.math`.
        source, target: .jsonl, .parquet or .csv; the target is written whole or not at all.
        params: the op's params; column params name columns of the file.

    Returns:
        What was written.

    Raises:
        UsageError, DataError: naming the param, file or column.
    """
    if get_composite(name) is not None:
        raise UsageError(f"{name} stands for several ops: apply them one after the other (`factory ls --ops {name}`)")
    spec = get_op(name)
    if spec.kind not in (Kind.SCORE, Kind.MAP) or spec.asks_model:
        raise UsageError(f"{name} is a {spec.kind.value} op: apply runs ops that measure or map single rows")
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"{target}: unknown output format; use {', '.join(FORMATS)}")
    typed = _check_params(spec, params)
    rows = read_table(source)
    missing = [column for column in spec.columns(typed) if column not in rows.columns]
    if missing:
        raise DataError(f"{source} has no column {missing[0]!r}, which {name} reads{near(missing[0], rows.columns)} "
                        f"(it has {', '.join(rows.columns)}). Name another with --set")
    extra = spec.identity(typed, PlanContext(Path.cwd())) if spec.identity else None
    context = OpContext(step=name, identity=extra)
    batch = rows.with_columns(row_id=pl.int_range(rows.height, dtype=pl.Int64), row_key=pl.lit(b"", pl.Binary))
    parts = list(batch.iter_slices(BATCH_ROWS)) or [batch]
    made = [spec.func(part, typed, context) for part in parts]
    result = _arrange(spec, typed, rows, pl.concat(made, how="diagonal_relaxed"))
    staged = target.with_name(f".{target.name}.part{target.suffix}")
    try:
        _write_table(result, staged)
        staged.replace(target)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{target} cannot be written: {str(error).splitlines()[0]}") from None
    finally:
        staged.unlink(missing_ok=True)
    return result


def _arrange(spec: OpSpec, typed: Any, rows: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    made = made.drop([name for name in ("row_id", "row_key") if name in made.columns])
    if spec.kind is Kind.SCORE:
        wanted = [name for name in (*SCORE_SCHEMA, *spec.out(typed)) if name in made.columns]
        empty = [name for name in ("label", "score") if name in wanted and made[name].null_count() == made.height]
        made = made.select(*(name for name in wanted if name not in empty),
                           *(name for name in ("_failed",) if name in made.columns))
    made = made.rename({"_failed": "failed", "_rejected": "rejected"}, strict=False)
    return rows.drop([name for name in made.columns if name in rows.columns]).hstack(made.get_columns())
