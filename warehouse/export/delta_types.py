"""What a Delta table can hold of a polars schema, and how the rest is carried over.

| polars | Delta (Spark) | |
|---|---|---|
| UInt8, UInt16, UInt32 | short, int, long | the next signed type, exact |
| UInt64 | decimal(20,0) | exact |
| Float16 | float | exact |
| Datetime | timestamp, or timestamp_ntz without a zone | microseconds: nanoseconds are cut; an instant stays the same |
| Duration | long | microseconds |
| Time | string | `12:34:56.789` |
| Categorical, Enum | string | |
| Null | string | all null |
| Array | array | its fixed length is not declared |
| Struct, List | struct, array | inside out by the same rules |

The other types are the same on both sides; text and binary (`row_key` is binary) have no limit of 2 GB on the way.
Other types and names that Spark cannot write are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from warehouse.errors import WarehouseError

_FORBIDDEN = " ,;{}()\n\t="
_SAME = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date,
         pl.Decimal)
_CHANGED: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(), pl.UInt16: pl.Int32(), pl.UInt32: pl.Int64(), pl.UInt64: pl.Decimal(20, 0),
    pl.Float16: pl.Float32(), pl.Time: pl.String(), pl.Categorical: pl.String(), pl.Enum: pl.String(),
    pl.Null: pl.String(), pl.Duration: pl.Int64(),
}


def delta_schema(columns: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The polars dtypes whose Arrow forms Delta stores without loss.

    Raises:
        WarehouseError: a column that Delta has no type or no name for.
    """
    _check_names("", list(columns))
    return {name: _final(name, dtype) for name, dtype in columns.items()}


def to_delta(frame: pl.DataFrame, target: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The frame with exactly the columns of `target`, in its types; columns that it lacks are null."""
    chosen = []
    for name, dtype in target.items():
        if name not in frame.columns:
            chosen.append(pl.lit(None, dtype=dtype).alias(name))
        elif frame.schema[name] == dtype:
            chosen.append(pl.col(name))
        else:
            chosen.append(pl.col(name).cast(_aligned(frame.schema[name])).cast(dtype))
    return frame.select(chosen)


def _final(where: str, dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    if type(dtype) in _CHANGED:
        return _CHANGED[type(dtype)]
    if isinstance(dtype, pl.Struct):
        _check_names(f"{where}.", [field.name for field in dtype.fields])
    if isinstance(dtype, _SAME):
        return dtype
    nested = _within(dtype, lambda inner, name: _final(f"{where}.{name}", inner))
    if nested is None:
        raise WarehouseError(f"column {where} has the type {dtype}, which Delta cannot hold: leave it out or cast it")
    return nested


def _aligned(dtype: pl.DataType) -> pl.DataType:
    """The same type with durations in microseconds, so that they become plain numbers of one unit."""
    if isinstance(dtype, pl.Duration):
        return pl.Duration("us")
    return _within(dtype, lambda inner, _: _aligned(inner)) or dtype


def _within(dtype: pl.DataType, change: Callable[[pl.DataType, str], pl.DataType]) -> pl.DataType | None:
    """A nested type with its inner types changed; None for a flat one."""
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: change(_made(field.dtype), field.name) for field in dtype.fields})
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(change(_made(dtype.inner), "element"))
    return None


def _made(dtype: Any) -> pl.DataType:
    """An inner dtype, which may stand as its class."""
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def _check_names(where: str, names: list[str]) -> None:
    for name in names:
        if any(letter in _FORBIDDEN for letter in name) or not name:
            raise WarehouseError(f"column {where + name!r} has a name that Delta tables cannot hold (no spaces, no "
                                 "',;{}()='): rename it in the step that makes it")
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        same = sorted(name for name in names if name.lower() == twice[0])
        raise WarehouseError(f"columns {', '.join(where + name for name in same)} differ only in case, which Spark "
                             "does not tell apart: rename one in the step that makes it")
