"""The files that `factory apply` reads and writes: JSONL by batches of lines, Parquet and CSV as tables.

A batch holds the columns that the op reads, and what is needed to write its rows again: for JSONL the objects
themselves, so that nothing in them is changed on the way; otherwise the table.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from factory.engine.errors import DataError

BATCH_ROWS = 2048
FORMATS = (".jsonl", ".ndjson", ".parquet", ".csv")
LINES = "bad_line"
"""Error type of a line that is no JSON object."""
_PLAIN = (str, bool, int, float)
_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{309}")


@dataclass(slots=True)
class Batch:
    """Rows in order. `rows` has the op's columns of the good ones; `bad` maps the place of each other line to why;
    `names` are the columns met; `share` is how much of the file is read with it."""

    rows: pl.DataFrame
    height: int
    names: list[str]
    objects: list[dict[str, Any]] | None = None
    table: pl.DataFrame | None = None
    bad: dict[int, str] = field(default_factory=dict)
    share: float = 1.0


def is_lines(path: Path) -> bool:
    """Whether a file holds one JSON object a line."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def read_batches(path: Path, wanted: list[str]) -> Iterator[Batch]:
    """The batches of a file, with the columns that are wanted.

    Raises:
        DataError: the file is missing, of an unknown format, or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; looked in {path.absolute().parent}")
    if is_lines(path):
        yield from _read_lines(path, wanted)
        return
    table = _read_table(path)
    for start in range(0, max(table.height, 1), BATCH_ROWS):
        part = table.slice(start, BATCH_ROWS)
        rows = part.select(name for name in wanted if name in part.columns)
        yield Batch(rows, part.height, table.columns, table=part,
                    share=min(1.0, (start + part.height) / max(table.height, 1)))


def _read_table(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path)
        if suffix == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}") from None
    raise DataError(f"{path}: unknown format {suffix or '(none)'}; use .jsonl, .parquet or .csv")


def _read_lines(path: Path, wanted: list[str]) -> Iterator[Batch]:
    size, read, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while lines := list(islice(file, BATCH_ROWS)):
            read += sum(map(len, lines))
            objects: list[dict[str, Any]] = []
            good: list[dict[str, Any]] = []
            bad: dict[int, str] = {}
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                found, why = _object(line)
                if found is None:
                    bad[len(objects)] = f"{LINES}: line {number} of {path.name} is no JSON object: {why}"
                    objects.append({"line": line.decode("utf-8", "backslashreplace").rstrip("\r\n")})
                else:
                    good.append(found)
                    objects.append(found)
            names = list(dict.fromkeys(name for each in good for name in each))
            columns = [column_of(name, [each.get(name) for each in good]) for name in wanted]
            yield Batch(pl.DataFrame(columns), len(objects), names, objects=objects, bad=bad, share=read / max(size, 1))


def _object(line: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        found = json.loads(line, parse_float=_finite) if _MAY_OVERFLOW.search(line) else json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, str(error).split(": line 1", 1)[0]
    return (found, "") if isinstance(found, dict) else (None, f"it is {type(found).__name__}")


def _finite(text: str) -> float:
    """A number of a line. One beyond what floats hold would be written again as `Infinity`, which is no JSON."""
    found = float(text)
    if found in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is beyond what floats hold")
    return found


def column_of(name: str, values: list[Any]) -> pl.Series:
    """Values of one column as a series; as JSON text where one type cannot hold all of them as they are."""
    types = {type(value) for value in values if value is not None}
    if not types:
        return pl.Series(name, values, pl.String)
    if len(types) == 1:
        with contextlib.suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            series = pl.Series(name, values, strict=True)
            # a list's or struct's type is taken from its first value, even where that cuts the others
            if types.issubset(_PLAIN) or _spelled(series.to_list()) == _spelled(values):
                return series
    return pl.Series(_sound(name), [_as_text(value) for value in values], pl.String)


def _spelled(values: list[Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return _sound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _sound(text: str) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, as a question mark."""
    return text.encode("utf-8", "replace").decode()


@contextlib.contextmanager
def staged_writer(target: Path, without: Collection[str] = ()) -> Iterator[Callable[[Batch, pl.DataFrame], None]]:
    """Writes beside the target and moves into its place at the end; after an error nothing is left. Columns of the
    input that are named in `without` are left out."""
    staged = target.with_name(f".{target.name}.part{target.suffix}")
    tables: list[pl.DataFrame] = []

    def write(batch: Batch, made: pl.DataFrame) -> None:
        if not is_lines(target):
            tables.append(_joined(batch, made, without))
            return
        with _writing(target), staged.open("ab") as file:
            _write_lines(file, batch, made, without)

    try:
        with _writing(target):
            staged.open("wb").close()
        yield write
        with _writing(target):
            if tables:
                _write_table(_stacked(tables), staged)
            staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{target} cannot be written: {str(error).splitlines()[0]}") from None


def _write_lines(file: BinaryIO, batch: Batch, made: pl.DataFrame, without: Collection[str]) -> None:
    if batch.objects is None:
        _joined(batch, made, without).write_ndjson(file)
        return
    for found, columns in zip(batch.objects, made.iter_rows(named=True), strict=True):
        kept = {name: value for name, value in found.items() if name not in columns and name not in without}
        if columns.get("failed", "") is None:
            del columns["failed"]
        try:
            line = json.dumps({**kept, **columns}, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:  # half a surrogate pair goes out as it came in, escaped
            line = json.dumps({**kept, **columns}, default=str).encode()
        file.write(line + b"\n")


def _joined(batch: Batch, made: pl.DataFrame, without: Collection[str]) -> pl.DataFrame:
    table = batch.table
    if table is None:
        assert batch.objects is not None
        names = dict.fromkeys(name for each in batch.objects for name in each)
        table = pl.DataFrame([column_of(name, [each.get(name) for each in batch.objects]) for name in names])
    gone = {*made.columns, *without}
    return table.select(name for name in table.columns if name not in gone).hstack(made.get_columns())


def _stacked(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Tables on top of each other. A column whose type differs between them is typed anew by all of its values."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    return pl.DataFrame([_stacked_column(name, [
        table[name] if name in table.columns else pl.Series(name, [None] * table.height) for table in tables])
        for name in names])


def _stacked_column(name: str, parts: Sequence[pl.Series]) -> pl.Series:
    filled = {part.dtype: None for part in parts if part.null_count() < part.len()}
    if len(filled) > 1:
        return column_of(name, [value for part in parts for value in part.to_list()])
    dtype = next(iter(filled), next((part.dtype for part in parts if part.dtype != pl.Null), pl.Null()))
    return pl.concat([part if part.dtype == dtype else pl.Series(name, [None] * part.len(), dtype) for part in parts])


def _write_table(table: pl.DataFrame, path: Path) -> None:
    if path.suffix.lower() == ".parquet":
        table.write_parquet(path)
        return
    nested = [column for column in table.get_columns() if column.dtype.is_nested()]  # a CSV holds them as JSON text
    table.with_columns(pl.Series(column.name, [_as_text(value) for value in column.to_list()], pl.String)
                       for column in nested).write_csv(path)
