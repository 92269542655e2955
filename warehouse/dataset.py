"""A dataset version as something to read: its own rows, and the columns it inherits from its ancestors.

Text is stored once. A sample row holds the response; its prompt is found through its lineage edge. A selection holds
row ids; its rows are those of the dataset it chose from. `scan()` puts the pieces together lazily, so nothing that is
not asked for is read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial

import numpy as np
import polars as pl
import pyarrow as pa

from warehouse.ahead import read_ahead
from warehouse.objectstore import Store
from warehouse.parts import read_rows_with, scan_parts
from warehouse.records import Manifest, Part

PARENT = "parent_row_id"


def pack_schema(frame: pl.DataFrame) -> str:
    """A frame's schema as base64 of its Arrow form (what a manifest stores)."""
    empty = frame.head(0).to_arrow(compat_level=pl.CompatLevel.oldest())
    return base64.b64encode(empty.schema.serialize().to_pybytes()).decode()


def unpack_schema(packed: str) -> dict[str, pl.DataType]:
    """The inverse of `pack_schema`."""
    return dict(_unpacked(packed))


@lru_cache(maxsize=4096)
def _unpacked(packed: str) -> tuple[tuple[str, pl.DataType], ...]:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(packed)))
    empty = pl.from_arrow(pa.Table.from_batches([], schema))  # schema.empty_table() would import pandas
    assert isinstance(empty, pl.DataFrame)
    return tuple(empty.schema.items())


class Dataset:
    """One immutable dataset version.

    `kind` is `rows` (content), `selection`, `scores`, `tables` (dedup nodes and pairs), `report`, `receipt`,
    `checkpoint` or `gate`.
    """

    def __init__(self, store: Store, manifest: Manifest, resolve: Callable[[str], Dataset]):
        self.store, self.manifest, self._resolve = store, manifest, resolve

    def __repr__(self) -> str:
        return f"Dataset({self.ref}, {self.manifest.kind}, {self.manifest.row_count} rows)"

    @property
    def ref(self) -> str:
        return self.manifest.ref

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @cached_property
    def inputs(self) -> list[Dataset]:
        """The datasets this version was made from, in order."""
        return [self._resolve(item.ref) for item in self.manifest.inputs]

    @cached_property
    def contents(self) -> list[Dataset]:
        """The datasets that hold the text of these rows: itself, or what a selection (of selections) chose from."""
        if self.kind == "rows":
            return [self]
        unique: dict[str, Dataset] = {}
        for source in self.inputs[: self.manifest.facts.get("from_inputs", 1)]:
            unique.update((content.ref, content) for content in source.contents)
        return list(unique.values())

    @cached_property
    def parent(self) -> Dataset | None:
        """The dataset whose rows are this one's parents, when every row has exactly one."""
        if self.kind != "rows" or not self.manifest.inputs or not self.manifest.facts.get("inherits"):
            return None
        return self.inputs[0]

    def parts(self, table: str) -> list[Part]:
        """The parts of one table, in shard order."""
        return self.manifest.tables.get(table, [])

    def schema(self, table: str = "rows") -> dict[str, pl.DataType]:
        """Columns and dtypes of a stored table."""
        packed = self.manifest.schemas.get(table)
        return unpack_schema(packed) if packed else {}

    @cached_property
    def all_columns(self) -> dict[str, pl.DataType]:
        """Own and inherited columns of the rows."""
        if self.kind != "rows":
            merged: dict[str, pl.DataType] = {}
            for content in self.contents:
                merged = {**content.all_columns, **merged}
            return merged
        inherited: dict[str, pl.DataType] = {}
        if self.parent is not None:
            for content in self.parent.contents:
                inherited.update(content.all_columns)
        return {**inherited, **self.schema()}

    def table(self, table: str, parts: Sequence[Part] | None = None) -> pl.LazyFrame:
        """One stored table, as it lies in its parts (all of them, or those given)."""
        return scan_parts(self.store, self.parts(table) if parts is None else parts, self.schema(table))

    def scan(self, *, inherit: bool = True) -> pl.LazyFrame:
        """The rows, lazily: `row_id`, `row_key`, own columns, then (unless `inherit` is False) those of the ancestors.

        A selection gives the chosen rows, with `weight` when one is not 1. Score datasets give their score table.
        """
        if self.kind == "rows":
            return self._scan_rows(inherit)
        if self.kind == "selection":
            chosen = self.table("selection")
            rows = pl.concat([content.scan(inherit=inherit) for content in self.contents], how="diagonal_relaxed")
            if not self.manifest.facts.get("weighted"):
                chosen = chosen.select("row_id")
            return rows.join(chosen, on="row_id", how="inner", maintain_order="left")
        return self.table("scores" if self.kind == "scores" else next(iter(self.manifest.tables), "rows"))

    def _scan_rows(self, inherit: bool) -> pl.LazyFrame:
        own = self.schema()
        rows = self.table("rows")
        if self.parts("superseded"):
            rows = rows.join(self.table("superseded"), on="row_id", how="anti", maintain_order="left")
        if not inherit or self.parent is None:
            return rows
        edges = self.table("row_lineage").select(pl.col("child_row_id").alias("row_id"), PARENT)
        rows = rows.join(edges, on="row_id", how="left", maintain_order="left")
        parents = pl.concat([content.scan() for content in self.parent.contents], how="diagonal_relaxed")
        names = [name for name in parents.collect_schema().names() if name not in own and name != PARENT]
        return rows.join(parents.select(pl.col("row_id").alias(PARENT), *names), on=PARENT, how="left",
                         maintain_order="left")

    def lookup(self, row_ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Rows by id, with own or inherited columns, in the order asked for. Unknown ids give null columns.

        Reads only the parts whose id range holds one of the ids.
        """
        wanted = pl.DataFrame({"row_id": row_ids})
        found = [content._lookup_own(wanted, columns) for content in self.contents]
        rows = pl.concat(found, how="diagonal_relaxed")
        if len(found) > 1:  # two datasets made of the same files hold the same rows
            rows = rows.unique("row_id", keep="first")
        return wanted.join(rows, on="row_id", how="left", maintain_order="left")

    def _lookup_own(self, wanted: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        own = [name for name in columns if name in self.schema() and name != "row_id"]
        rest = [name for name in columns if name not in own and name != "row_id"]
        rows = _read_matching(self.store, self.parts("rows"), wanted["row_id"], "row_id", ["row_id", *own],
                              self.schema())
        if rest and self.parent is not None and rows.height:
            edges = _read_matching(self.store, self.parts("row_lineage"), rows["row_id"], "child_row_id",
                                   ["child_row_id", PARENT], self.schema("row_lineage"))
            rows = rows.join(edges, left_on="row_id", right_on="child_row_id", how="left", maintain_order="left")
            unique = rows[PARENT].drop_nulls().unique(maintain_order=True)
            parents = self.parent.lookup(unique, [name for name in rest if name != PARENT])
            rows = rows.join(parents.rename({"row_id": PARENT}), on=PARENT, how="left", maintain_order="left")
            rows = rows if PARENT in rest else rows.drop(PARENT)
        return rows


def overlapping(parts: Sequence[Part], row_ids: pl.Series) -> list[Part]:
    """The parts whose id range could hold one of the ids."""
    return [part for part, _ in _ids_by_part(parts, row_ids)]


def _ids_by_part(parts: Sequence[Part], row_ids: pl.Series) -> list[tuple[Part, pl.Series]]:
    """The parts whose id range could hold one of the ids, each with those ids, ascending."""
    # One search for all bounds: this runs for every shard over every part, and a call of polars costs some 0.1 ms.
    ids = np.sort(row_ids.drop_nulls().to_numpy())
    bounded = [part for part in parts if part.min_row_id is not None and part.max_row_id is not None]
    if not len(ids) or not bounded:
        return []
    bounds = np.array([(part.min_row_id, part.max_row_id) for part in bounded], np.int64)
    begins, ends = np.searchsorted(ids, bounds[:, 0]), np.searchsorted(ids, bounds[:, 1], "right")
    return [(part, pl.Series(ids[begin:end])) for part, begin, end in zip(bounded, begins, ends, strict=True)
            if begin < end]


def _read_matching(store: Store, parts: Sequence[Part], ids: pl.Series, key: str, columns: Sequence[str],
                   schema: dict[str, pl.DataType]) -> pl.DataFrame:
    empty = pl.DataFrame(schema={name: schema.get(name, pl.Int64()) for name in columns})
    calls = [partial(read_rows_with, store, part, key, some, columns) for part, some in _ids_by_part(parts, ids)]
    return pl.concat([empty, *(frame for frame in read_ahead(calls) if frame.height)], how="diagonal_relaxed")
