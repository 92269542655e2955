"""What a GLOBAL op gathers from (`factory.engine.gathered`), and what it finds again of an earlier version.

The tables made of some parts are named under the op's key by those parts, so a version that has grown since, or another
recipe over the same rows, starts from the largest set of its own parts that was merged before. An op says with `grows`
what it can build on: `any` earlier set, or only one that ends where an increment (a wave) ended.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.gathered import Gathered, GatheredPart
from factory.engine.reading import input_shards
from factory.engine.task import StepCall, finished_shard
from warehouse import layout
from warehouse.parts import read_part
from warehouse.records import Part, ShardRecord

_MERGED = "merged-"


@contextmanager
def gathering(call: StepCall, shards: Sequence[dict[str, Any]], parts: Sequence[Part | None]) -> Iterator[Gathered]:
    """What `gather` gets for the measured shards (`digest`, `input`), whose partials are `parts`."""
    waves = _waves(call, shards)
    base = _find_base(call, [str(shard["digest"]) for shard in shards], waves)
    known = frozenset(base.facts["digests"]) if base is not None else frozenset()
    store = call.warehouse.store
    gathered = tuple(
        GatheredPart(wave, str(shard["digest"]) in known, functools.partial(read_part, store, part),
                     tuple(call.inputs[index] for index in shard.get("held", [shard.get("input", 0)])))
        for shard, part, wave in zip(shards, parts, waves, strict=True) if part is not None)
    tables: dict[str, Callable[[], pl.DataFrame]] | None = None
    if base is not None:
        tables = {name: functools.partial(read_part, store, part) for name, part in base.tables.items()}
    with tempfile.TemporaryDirectory(prefix="gather-", dir=store.scratch(), ignore_cleanup_errors=True) as folder:
        yield Gathered(gathered, _rows_of(call, shards), Path(folder), tables, call.runtime.memory)


def remember(call: StepCall, shards: Sequence[dict[str, Any]], merged: ShardRecord) -> None:
    """Name the tables of a merge by the parts they were made of."""
    digests = [str(shard["digest"]) for shard in shards]
    record = merged.model_copy(update={"shard": _name(digests), "facts": {**merged.facts, "digests": digests}})
    call.warehouse.store.put_if_absent(layout.work_shard(call.op_key, record.shard), record.to_json())


def _name(digests: Sequence[str]) -> str:
    return _MERGED + hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:32]


def _find_base(call: StepCall, digests: Sequence[str], waves: Sequence[int]) -> ShardRecord | None:
    """The merge of the most of these parts, if what is new comes after it."""
    grows, store = getattr(call.spec.func, "grows", None), call.warehouse.store
    if grows is None:
        return None
    wave_of = dict(zip(digests, waves, strict=True))
    best: ShardRecord | None = None
    folder = layout.work_shard(call.op_key, _MERGED).rpartition("/")[0]
    for name in sorted(key.rpartition("/")[2].removesuffix(".json") for key in store.keys(folder)):
        record = finished_shard(call, name, call.op_key) if name.startswith(_MERGED) else None
        if record is None or (best is not None and len(record.facts["digests"]) <= len(best.facts["digests"])):
            continue
        of = set(record.facts["digests"])
        if not of <= wave_of.keys() or not of:
            continue
        last = max(wave_of[digest] for digest in of)
        if grows == "any" or all(wave > last for digest, wave in wave_of.items() if digest not in of):
            best = record
    return best


def partials(call: StepCall, shards: Sequence[dict[str, Any]]) -> list[Part | None]:
    """What `partial` left of each measured shard (`digest`); None where it had nothing to say."""
    parts: list[Part | None] = []
    for shard in shards:
        record = finished_shard(call, str(shard["digest"]), call.op_key)
        assert record is not None
        parts.append(record.tables.get("partial"))
    return parts


def _waves(call: StepCall, shards: Sequence[dict[str, Any]]) -> list[int]:
    """The increment of each shard: its place among the id namespaces of the judged rows, in stored order."""
    places: dict[int, int] = {}
    found: dict[str, int] = {}
    for shard in input_shards(call.input()):
        assert shard.part.min_row_id is not None
        found[shard.digest] = places.setdefault(shard.part.min_row_id >> 40, len(places))
    return [-1 if shard.get("input") else found[str(shard["digest"])] for shard in shards]


def measured_columns(call: StepCall, index: int) -> tuple[str, ...]:
    """The columns that `partial` sees of an input: of a dataset of `against` those that it has, where the op is content
    with some."""
    if not index:
        return tuple(call.spec.columns(call.op_params))
    wanted = tuple(call.spec.func.against(call.op_params))
    if not call.spec.takes_some:
        return wanted
    has = call.input(index).all_columns
    return tuple(name for name in wanted if name in has) or wanted


def _rows_of(call: StepCall, shards: Sequence[dict[str, Any]]) -> Callable[[pl.Series], pl.DataFrame]:
    """Input rows by id, from the judged dataset or from those it is compared with."""
    found = [(call.input(index), measured_columns(call, index))
             for index in sorted({int(shard.get("input", 0)) for shard in shards})]

    def rows(ids: pl.Series) -> pl.DataFrame:
        frames, left = [pl.DataFrame({"row_id": ids.clear()})], ids.unique().sort()
        for dataset, columns in found:
            if left.len():
                here = dataset.lookup(left, ["row_key", *columns])
                frames.append(here.filter(pl.col("row_key").is_not_null()))
                left = here.filter(pl.col("row_key").is_null())["row_id"]
        return pl.concat(frames, how="diagonal_relaxed")

    return rows
