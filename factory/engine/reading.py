"""How a step reads its input: in shards that follow the stored parts, with the columns its op asked for.

A shard of work is a stored part of the input, less the rows that the input (a selection, or a version with superseded
rows) leaves out. Its `digest` names exactly those rows, so work done on it can be found again by anyone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from factory.engine.errors import DataError
from warehouse import Dataset
from warehouse.parts import read_part
from warehouse.records import Part


@dataclass(frozen=True, slots=True)
class InputShard:
    """Rows of one part: `ids` is None when all of the part's rows are meant."""

    content: str
    part: Part
    rows: int
    ids: pl.Series | None
    digest: str


def _digest(part: Part, ids: pl.Series | None) -> str:
    if ids is None:
        return part.sha256[:40]
    return f"{part.sha256[:40]}-{hashlib.sha256(ids.to_numpy().tobytes()).hexdigest()[:16]}"


def input_shards(dataset: Dataset) -> list[InputShard]:
    """The shards of a dataset of rows or a selection, in stored order; empty ones are left out. A part that several
    datasets of a selection hold (they were made of the same files) is one shard."""
    shards: list[InputShard] = []
    seen: set[str] = set()
    chosen = dataset.table("selection").select("row_id").collect()["row_id"] if dataset.kind == "selection" else None
    for content in dataset.contents:
        superseded = content.table("superseded").collect()["row_id"] if content.parts("superseded") else None
        for part in content.parts("rows"):
            if part.path in seen:
                continue
            seen.add(part.path)
            ids = _ids_in(dataset, part, chosen, superseded)
            rows = part.rows if ids is None else ids.len()
            if rows:
                shards.append(InputShard(content.ref, part, rows, ids, _digest(part, ids)))
    return shards


def _ids_in(dataset: Dataset, part: Part, chosen: pl.Series | None, superseded: pl.Series | None) -> pl.Series | None:
    if part.rows == 0 or (chosen is None and superseded is None):
        return None
    if chosen is not None:
        inside = chosen.filter((chosen >= part.min_row_id) & (chosen <= part.max_row_id)).sort()
        return None if inside.len() == part.rows else inside
    assert superseded is not None
    gone = superseded.filter((superseded >= part.min_row_id) & (superseded <= part.max_row_id))
    if gone.len() == 0:
        return None
    ids = read_part(dataset.store, part, ["row_id"])["row_id"]
    return ids.filter(~ids.is_in(gone.implode())).sort()


def read_rows(dataset: Dataset, shard: InputShard, columns: Sequence[str], start: int = 0,
              stop: int | None = None) -> pl.DataFrame:
    """Rows `start:stop` of a shard: `row_id`, `row_key`, then `columns`, own or inherited.

    Raises:
        DataError: a column that neither the rows nor their ancestors have.
    """
    content = next(found for found in dataset.contents if found.ref == shard.content)
    missing = [name for name in columns if name not in content.all_columns]
    if missing:
        raise DataError(f"{content.ref} has no column {missing[0]!r}; it and its ancestors have "
                        f"{', '.join(n for n in content.all_columns if n not in ('row_id', 'row_key'))}")
    ids = shard.ids if shard.ids is not None else read_part(dataset.store, shard.part, ["row_id"])["row_id"]
    ids = ids.slice(start, None if stop is None else stop - start)
    wanted = list(dict.fromkeys(["row_key", *columns]))
    return content.lookup(ids, wanted).select("row_id", *wanted)


def all_rows(dataset: Dataset, columns: Sequence[str]) -> pl.DataFrame:
    """Every row of a dataset with narrow columns, in stored order (whole in memory: not for text)."""
    frames = [read_rows(dataset, shard, columns) for shard in input_shards(dataset)]
    if frames:
        return pl.concat(frames, how="vertical_relaxed")
    schema = dataset.all_columns
    return pl.DataFrame(schema={"row_id": pl.Int64(), "row_key": pl.Binary(),
                                **{name: schema.get(name, pl.String()) for name in columns}})
