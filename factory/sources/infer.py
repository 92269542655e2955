"""Column types of data that declares none: a small lattice, joined over all records.

A type is plain JSON, so that it can travel in a split: `null`, `bool`, `int`, `wide` (an integer that a double cannot
hold exactly), `float`, `str`, `json` (the top: text, where all that is not text is written as JSON), `{"list": type}`
and `{"struct": {name: type}}`. Joining two types gives the narrowest that holds both:

    null  + t      = t                 int + float = float
    int   + wide   = wide              wide + float = json (a double would round)
    lists and structs are joined inside; everything else that differs = json

The join is commutative (but for the order of a struct's fields) and associative, so the type of a column does not
depend on how a file is cut. `settle` turns the join into what a column can be stored as: a nested type with `json`
anywhere inside, a struct without fields, or one with more than `MAX_FIELDS`, is stored as JSON text as a whole.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from factory.engine.errors import DataError

Type = str | dict[str, Any]

MAX_FIELDS = 64
"""A struct with more fields is a mapping in disguise; its union over all records would have no bound."""

MAX_DEPTH = 12
_EXACT = 2**53
_INT64 = 2**63
_PLAIN: dict[str, pl.DataType] = {"bool": pl.Boolean(), "int": pl.Int64(), "float": pl.Float64(), "str": pl.String(),
                                  "json": pl.String()}


def infer(value: Any, depth: int = 0) -> Type:
    """The type of one JSON value."""
    if isinstance(value, str):
        return "str"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_EXACT <= value <= _EXACT else "wide" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if depth >= MAX_DEPTH:
        return "json"
    if isinstance(value, list):
        item: Type = "null"
        for element in value:
            item = join(item, infer(element, depth + 1))
        return {"list": item}
    if isinstance(value, dict):
        if len(value) > MAX_FIELDS:
            return "json"
        return {"struct": {key: infer(inner, depth + 1) for key, inner in value.items()}}
    raise TypeError(f"{type(value).__name__} is no JSON value")


def join(a: Type, b: Type) -> Type:
    """The narrowest type that holds both."""
    if a == b or b == "null":
        return a
    if a == "null":
        return b
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        if "list" in a:
            return {"list": join(a["list"], b["list"])}
        fields = dict(a["struct"])
        for key, inner in b["struct"].items():
            fields[key] = join(fields.get(key, "null"), inner)
        return {"struct": fields} if len(fields) <= MAX_FIELDS else "json"
    if isinstance(a, str) and isinstance(b, str):
        if {a, b} == {"int", "wide"}:
            return "wide"
        if {a, b} == {"int", "float"}:
            return "float"
    return "json"


def settle(joined: Type) -> Type:
    """The type a column is stored as: without `null` and `wide`, and `json` at the top or nowhere."""
    inner = _settle_inside(joined)
    return "json" if inner is None else inner


def _settle_inside(joined: Type) -> Type | None:
    if isinstance(joined, str):
        return {"null": "str", "wide": "int", "json": None}.get(joined, joined)
    if "list" in joined:
        item = _settle_inside(joined["list"])
        return None if item is None else {"list": item}
    fields = {key: _settle_inside(inner) for key, inner in joined["struct"].items()}
    return {"struct": fields} if fields and None not in fields.values() else None


def polars_dtype(settled: Type) -> pl.DataType:
    """The polars dtype of a settled type."""
    if isinstance(settled, str):
        return _PLAIN[settled]
    if "list" in settled:
        return pl.List(polars_dtype(settled["list"]))
    return pl.Struct({key: polars_dtype(inner) for key, inner in settled["struct"].items()})


def conform(value: Any, settled: Type) -> Any:
    """Bring a value into a settled type.

    Raises:
        ValueError: an integer that a double cannot hold stands in a column of doubles (only where types were declared,
            as in Parquet; inferred ones never allow it).
    """
    if value is None:
        return None
    if settled == "json":
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if settled == "float":
        if isinstance(value, int) and not -_EXACT <= value <= _EXACT and int(float(value)) != value:
            raise ValueError(f"{value} has no exact double")
        return float(value)
    if isinstance(settled, str):
        return value
    if "list" in settled:
        return [conform(element, settled["list"]) for element in value]
    return {key: conform(value.get(key), inner) for key, inner in settled["struct"].items()}


def from_polars(dtype: pl.DataType, place: str) -> Type:
    """The type of a declared column (Parquet, Arrow). What JSON has no form for becomes text: dates and times in ISO
    form, decimals, categories, and integers that may exceed 64 bits.

    Raises:
        DataError: bytes (images, audio) or another dtype that has no text form; `place` names file and column.
    """
    if isinstance(dtype, pl.List | pl.Array):
        return {"list": from_polars(_instance(dtype.inner), place)}
    if isinstance(dtype, pl.Struct):
        return {"struct": {field.name: from_polars(_instance(field.dtype), place) for field in dtype.fields}}
    if dtype == pl.Null:
        return "null"
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_integer():
        return "str" if dtype in (pl.UInt64, pl.Int128, pl.UInt128) else "int"
    if dtype.is_float():
        return "float"
    if dtype.is_temporal() or dtype.is_decimal() or dtype in (pl.String, pl.Categorical, pl.Enum):
        return "str"
    raise DataError(f"{place} has the type {dtype}, which has no text form: leave it out by naming the others in "
                    "`columns`.")


def _instance(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def readable(declared: Type) -> pl.DataType:
    """The dtype to cast a declared column to before its values are taken as Python objects."""
    if isinstance(declared, str):
        return _PLAIN.get(declared, pl.String())
    if "list" in declared:
        return pl.List(readable(declared["list"]))
    return pl.Struct({key: readable(inner) for key, inner in declared["struct"].items()})
