"""The files that `factory apply` reads and writes: JSONL by batches of lines, Parquet and CSV as tables.

A batch holds the columns that the op reads, and what is needed to write its rows again: for JSONL the objects
themselves, so that nothing in them is changed on the way; otherwise the table.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
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
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, str(error).split(": line 1", 1)[0]
    return (found, "") if isinstance(found, dict) else (None, f"it is {type(found).__name__}")


def column_of(name: str, values: list[Any]) -> pl.Series:
    """Values of one column as a series; as JSON text where their types have nothing in common."""
    if all(value is None for value in values):
        return pl.Series(name, values, pl.String)
    if len({type(value) for value in values if value is not None}) <= 1:
        with contextlib.suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            return pl.Series(name, values, strict=True)
    return pl.Series(_sound(name), [_as_text(value) for value in values], pl.String)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return _sound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _sound(text: str) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, as a question mark."""
    return text.encode("utf-8", "replace").decode()


@contextlib.contextmanager
def staged_writer(target: Path) -> Iterator[Callable[[Batch, pl.DataFrame], None]]:
    """Writes beside the target and moves into its place at the end; after an error nothing is left."""
    staged = target.with_name(f".{target.name}.part{target.suffix}")
    tables: list[pl.DataFrame] = []

    def write(batch: Batch, made: pl.DataFrame) -> None:
        if not is_lines(target):
            tables.append(_joined(batch, made))
            return
        with _writing(target), staged.open("ab") as file:
            _write_lines(file, batch, made)

    try:
        with _writing(target):
            staged.open("wb").close()
        yield write
        with _writing(target):
            if tables:
                _write_table(pl.concat(tables, how="diagonal_relaxed"), staged)
            staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{target} cannot be written: {str(error).splitlines()[0]}") from None


def _write_lines(file: BinaryIO, batch: Batch, made: pl.DataFrame) -> None:
    if batch.objects is None:
        _joined(batch, made).write_ndjson(file)
        return
    for found, columns in zip(batch.objects, made.iter_rows(named=True), strict=True):
        kept = {name: value for name, value in found.items() if name not in columns}
        if columns.get("failed", "") is None:
            del columns["failed"]
        try:
            line = json.dumps({**kept, **columns}, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:  # half a surrogate pair goes out as it came in, escaped
            line = json.dumps({**kept, **columns}, default=str).encode()
        file.write(line + b"\n")


def _joined(batch: Batch, made: pl.DataFrame) -> pl.DataFrame:
    table = batch.table
    if table is None:
        assert batch.objects is not None
        names = dict.fromkeys(name for each in batch.objects for name in each)
        table = pl.DataFrame([column_of(name, [each.get(name) for each in batch.objects]) for name in names])
    return table.drop([name for name in made.columns if name in table.columns]).hstack(made.get_columns())


def _write_table(table: pl.DataFrame, path: Path) -> None:
    if path.suffix.lower() == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path)
