"""From a raw record to the columns a recipe asked for; shared by every source that reads what others wrote.

A *survey* looks at all raw records once (or at declared types) and ends in a *shape*: which of our columns is which of
theirs, its type, whether it may be null, and the constants. A shape is JSON and travels in every split, so reading
one split needs no other. A record either gets exactly the columns of the shape, or says why not: `missing_column`
(failed), `null_value` (rejected), `inexact_number` (failed).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from pydantic import Field

from factory.engine.errors import DataError
from factory.engine.op import Params, Record
from factory.sources.infer import Type, conform, infer, join, polars_dtype, settle

RESERVED = frozenset({"row_id", "row_key"})
MAX_COLUMNS = 512

Scalar = bool | int | float | str | None


class RecordParams(Params):
    """What every source of foreign records takes.

    `columns` maps our names to theirs; None takes all columns as they are, with null where a record has none.
    `nullable` names mapped columns that may be null or missing: elsewhere a null rejects the record, and a missing
    column fails it. `id` names one of their columns, whose value becomes the record's native id. `constants` adds
    columns with one value. `license` is that of the data, as an SPDX name.
    """

    columns: dict[str, str] | None = None
    license: str | None = None
    id: str | None = None
    nullable: tuple[str, ...] = ()
    constants: dict[str, Scalar] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a source, settled. `columns` maps ours to theirs; `types` is keyed by ours, with constants."""

    columns: dict[str, str]
    types: dict[str, Type]
    nullable: tuple[str, ...]
    constants: dict[str, Scalar]
    id: str | None

    def to_json(self) -> dict[str, Any]:
        """For a split."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Shape:
        """Undo `to_json`, also after a trip through a JSON file."""
        return cls(**{**data, "nullable": tuple(data["nullable"])})

    def schema(self) -> dict[str, pl.DataType]:
        """Our columns and their polars dtypes."""
        return {name: polars_dtype(kind) for name, kind in self.types.items()}

    def record(self, raw: Mapping[str, Any], origin: str, line: int, place: str) -> Record:
        """Our columns of one raw record; `place` is how messages name it, such as `data.jsonl:17`."""
        native = raw.get(self.id) if self.id is not None else None
        record = Record(None, origin, line, None if native is None else str(native))
        values: dict[str, Any] = {}
        for ours, theirs in self.columns.items():
            if theirs not in raw and ours not in self.nullable:
                record.failed = f"missing_column: {place}: no column {theirs!r}"
                return record
            value = raw.get(theirs)
            if value is None and ours not in self.nullable:
                record.rejected = f"null_value: {place}: column {theirs!r} is null"
                return record
            try:
                values[ours] = conform(value, self.types[ours])
            except ValueError as error:
                record.failed = f"inexact_number: {place}: column {theirs!r}: {error}"
                return record
        record.values = values | self.constants
        return record


class Survey:
    """What the records of a source hold, gathered record by record or from declared types."""

    def __init__(self, params: RecordParams):
        self.params = params
        ids = [params.id] if params.id is not None else []
        self.wanted = None if params.columns is None else {*params.columns.values(), *ids}
        self.types: dict[str, Type] = {}
        self.seen: dict[str, None] = {}

    def add(self, raw: Mapping[str, Any]) -> None:
        """Take one raw record into account."""
        for name, value in raw.items():
            self._note(name)
            if self.wanted is None or name in self.wanted:
                known = self.types.get(name)
                if known != "str" or not isinstance(value, str):
                    kind = infer(value)
                    self.types[name] = kind if known is None else join(known, kind)

    def declare(self, name: str, kind: Type) -> None:
        """Take a declared column into account."""
        self._note(name)
        if self.wanted is None or name in self.wanted:
            self.types[name] = join(self.types.get(name, "null"), kind)

    def _note(self, name: str) -> None:
        if name in self.seen:
            return
        if len(self.seen) < MAX_COLUMNS:
            self.seen[name] = None
        elif self.wanted is None:
            raise DataError(f"the records have more than {MAX_COLUMNS} different columns: name the ones you need in "
                            "`columns`.")

    def finish(self, source: str) -> Shape:
        """Settle the shape. `source` is how messages name the data.

        Raises:
            DataError: a mapped, nullable or id column that no record has, or a name that is not allowed.
        """
        params = self.params
        columns = params.columns if params.columns is not None else {name: name for name in self.types}
        check_names([*columns, *params.constants])
        for theirs in [*columns.values(), *([params.id] if params.id is not None else [])]:
            if theirs not in self.types:
                raise DataError(f"{source} has no column {theirs!r}{did_you_mean(theirs, self.seen)}: "
                                f"its columns are {', '.join(self.seen)}.")
        for ours in params.nullable:
            if ours not in columns:
                raise DataError(f"`nullable` names {ours!r}{did_you_mean(ours, columns)}, which is none of the columns "
                                f"{', '.join(columns)}.")
        types: dict[str, Type] = {ours: settle(self.types[theirs]) for ours, theirs in columns.items()}
        types |= {name: settle(infer(value)) for name, value in params.constants.items()}
        constants = {name: conform(value, types[name]) for name, value in params.constants.items()}
        nullable = tuple(columns) if params.columns is None else params.nullable
        return Shape(dict(columns), types, nullable, constants, params.id)


def check_names(names: list[str]) -> None:
    """Refuse names that the engine keeps for itself, and names used twice."""
    for name in names:
        if name in RESERVED or name.startswith("_") or not name:
            raise DataError(f"a column may not be called {name!r} (row_id, row_key and names that begin with _ are the "
                            "engine's own): give it another name in `columns`.")
    for name in {name for name in names if names.count(name) > 1}:
        raise DataError(f"column {name!r} is both in the data and in `constants`: rename one of them.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
