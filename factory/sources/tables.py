"""Tables that declare their types: Parquet files, and Arrow tables of `datasets`.

Their values become what the same rows would be as JSON lines (dates in ISO form, decimals as text), so that rows keep
their identity whatever the file format they came in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import DataError
from factory.sources.formats import Row
from factory.sources.infer import Type, from_polars, readable


def declared(schema: Mapping[str, pl.DataType], place: str, wanted: set[str] | None) -> dict[str, Type]:
    """The types of the wanted columns (None: of all); columns not wanted get `json`, whatever they hold."""
    return {name: from_polars(dtype, f"{place}: column {name!r}") if wanted is None or name in wanted else "json"
            for name, dtype in schema.items()}


def plain(frame: pl.DataFrame, place: str) -> pl.DataFrame:
    """The frame with the dtypes that JSON has a form for."""
    return frame.with_columns(_plain(frame[name], f"{place}: column {name!r}") for name in frame.columns)


def _plain(series: pl.Series, place: str) -> pl.Series:
    kind = from_polars(series.dtype, place)
    if series.dtype in (pl.Datetime, pl.Time, pl.Duration):
        return series.dt.to_string("iso:strict")
    return series.cast(readable(kind))


def parquet_schema(path: Path, origin: str) -> tuple[dict[str, pl.DataType], int, int]:
    """Columns with dtypes, number of rows, and bytes of a row (uncompressed, on average).

    Raises:
        DataError: no Parquet, or a truncated file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts = pq.read_metadata(path)
        schema = dict(pl.read_parquet_schema(path))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{origin} cannot be read as Parquet ({str(error).splitlines()[0]}): the file is truncated or "
                        "of another format. Fetch it again.") from None
    size = sum(facts.row_group(index).total_byte_size for index in range(facts.num_row_groups))
    return schema, facts.num_rows, size // max(1, facts.num_rows)


def read_parquet(path: Path, origin: str, start: int, stop: int, wanted: set[str] | None) -> Iterator[Row]:
    """Rows `start` to `stop` (counted from 0) of a Parquet file.

    Raises:
        DataError: the pages are damaged.
    """
    try:
        lazy = pl.scan_parquet(path, glob=False)
        names = lazy.collect_schema().names()
        chosen = [name for name in names if wanted is None or name in wanted]
        frame = lazy.slice(start, stop - start).select(chosen).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{origin}: rows {start + 1} to {stop} cannot be read ({str(error).splitlines()[0]}): the file "
                        "is damaged. Fetch it again.") from None
    yield from rows(frame, origin, start, stop)


def rows(frame: pl.DataFrame, origin: str, start: int, stop: int) -> Iterator[Row]:
    """The rows of a frame that holds the rows `start` to `stop` of a table, as plain values."""
    if not frame.width:
        yield from (Row(number, number, number + 1, {}) for number in range(start + 1, stop + 1))
        return
    for number, values in enumerate(plain(frame, origin).iter_rows(named=True), start + 1):
        yield Row(number, number, number + 1, values)


def as_schema(table: Any) -> dict[str, pl.DataType]:
    """The polars schema of an empty Arrow table."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return dict(frame.schema)
