"""GLOBAL steps: what only all rows together can say (near-duplicates, contamination), by partial, merge and decide.

`partial` runs per input part and is keyed by it, so a later version pays only for its new parts. `merge` sees all
partials and gives small tables; an op whose rows may be more than memory has `gather` in its place (`gather.py`).
`decide`, where an op has it, judges each input part against those tables, as a score; where the op can tell what the
tables say about a part, verdicts are found again as long as that is the same. Where an op compares, the parts
measured are those of `against` (of both, if it says so), and the parts judged those of `from`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import polars as pl

from factory.engine.kinds.gather import gathering, measured_columns, partials, remember
from factory.engine.kinds.rows import shard_input
from factory.engine.kinds.score import finish_scores, score_outcomes
from factory.engine.reading import InputShard, read_rows
from factory.engine.task import Clock, Event, StepCall, finish_shard, finished_shard
from warehouse import layout
from warehouse.content import EMPTY, hash_rows
from warehouse.parts import read_part
from warehouse.records import Counts, Part, ShardRecord, Usage
from warehouse.tables import NODES, PAIRS

MERGED = "merged"


def run_partial(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
                stopping: Callable[[], bool]) -> ShardRecord:
    """One input part's share of the measurement."""
    done = finished_shard(call, shard["digest"], call.op_key)
    if done is not None:
        return done
    _LAST.clear()
    clock, context = Clock(), call.context()
    part = shard_input(call, shard)
    index = shard.get("input", 0)
    batch = read_rows(call.input(index), part, measured_columns(call, index))
    frame: pl.DataFrame = call.spec.func().partial(batch, call.op_params, context)
    record = finish_shard(call, shard["digest"], {"partial": frame}, Counts(owed=part.rows, kept=part.rows), EMPTY,
                          usage=Usage(seconds=clock.seconds()), key=call.op_key, of=part.part.sha256,
                          counters=context.counters)
    emit({"shard": shard["number"], "counts": Counts().model_dump(), "seconds": clock.seconds()})
    return record


def run_merge_partials(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
                       stopping: Callable[[], bool]) -> ShardRecord:
    """All partials become the step's tables. `shard["measured"]` names the parts in order."""
    done = finished_shard(call, MERGED)
    if done is not None:
        return done
    clock, context = Clock(), call.context()
    measured: list[dict[str, Any]] = shard["measured"]
    parts = partials(call, measured)
    func = call.spec.func()
    if hasattr(func, "gather"):
        with gathering(call, measured, parts) as gathered:
            tables: dict[str, pl.DataFrame] = func.gather(gathered, call.op_params, context)
    else:
        tables = func.merge(_Frames(call, parts), call.op_params, context)
    keys = _row_keys(call, parts, tables)
    content = EMPTY
    for name in sorted(tables):
        content = content + hash_rows(map(name.encode().__add__, _encoded(tables[name], keys)))
    rows = 0 if call.spec.judges else int(shard["rows"])  # rows are counted where they are judged
    record = finish_shard(call, MERGED, tables, Counts(owed=rows, kept=rows), content,
                          usage=Usage(seconds=clock.seconds()), counters=context.counters)
    if getattr(func, "grows", None) is not None:
        remember(call, measured, record)
    emit({"shard": 0, "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


class _Frames(Sequence[pl.DataFrame]):
    """The partials in order, each read when it is asked for."""

    def __init__(self, call: StepCall, parts: Sequence[Part | None]):
        self._parts, self._store = [part for part in parts if part is not None], call.warehouse.store

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return read_part(self._store, self._parts[index])


def _row_keys(call: StepCall, parts: Sequence[Part | None], tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """(row_id, row_key) of the rows that the tables name, by row_id."""
    named = [table[column] for table in tables.values() if table.columns in (list(NODES), list(PAIRS))
             for column in table.columns if column != "jaccard"]
    found = [pl.DataFrame(schema={"row_id": pl.Int64, "row_key": pl.Binary})]
    if named:
        wanted = pl.concat(named).unique()
        for part in parts:
            if part is not None:
                frame = read_part(call.warehouse.store, part, ["row_id", "row_key"])
                found.append(frame.filter(pl.col("row_id").is_in(wanted.implode())))
    return pl.concat(found).unique("row_id").sort("row_id")


def _encoded(table: pl.DataFrame, keys: pl.DataFrame) -> Iterator[bytes]:
    """Rows of a table with ids replaced by row keys: ids are local and must not enter a content hash."""
    ids, names = keys["row_id"], keys["row_key"]

    def keys_of(column: str) -> list[bytes]:
        return names.gather(ids.search_sorted(table[column])).to_list()

    if table.columns == list(NODES):
        return map(bytes.__add__, keys_of("row_id"), keys_of("node"))
    if table.columns == list(PAIRS):
        return ((one + two if one < two else two + one) + repr(jaccard).encode() for one, two, jaccard
                in zip(keys_of("left"), keys_of("right"), table["jaccard"].to_list(), strict=True))
    columns = [name for name in table.columns if name != "row_id"]
    return (repr(row).encode() for row in table.select(columns).iter_rows())


def run_decide(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
               stopping: Callable[[], bool]) -> ShardRecord:
    """Judge one input part against the merged tables."""
    name = f"decide-{shard['digest']}"
    done = finished_shard(call, name)
    if done is not None:
        return done
    clock, context, store = Clock(), call.context(), call.warehouse.store
    part, tables = shard_input(call, shard), _merged_tables(call)
    known = _known_by(call, part, tables)
    earlier = finished_shard(call, known, call.op_key) if known else None
    if earlier is not None:
        record = earlier.model_copy(update={"shard": name, "usage": Usage(seconds=clock.seconds())})
        emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
        return record
    read = getattr(call.spec.func, "judged", call.spec.columns)
    batch = read_rows(call.input(), part, read(call.op_params))
    judged = call.spec.func().decide(batch, tables, call.op_params, context)
    kept, failures = score_outcomes(call, batch, judged)
    record = finish_scores(call, part, kept, failures, Usage(seconds=clock.seconds()), context.counters, name,
                           call.work_key)
    if known and not record.counts.failed:
        again = record.model_copy(update={"shard": known})
        store.put_if_absent(layout.work_shard(call.op_key, known), again.to_json())
    emit({"shard": shard["number"], "counts": record.counts.model_dump(), "seconds": clock.seconds()})
    return record


_LAST: dict[tuple[str, str], dict[str, pl.DataFrame]] = {}
"""The tables of the step whose parts this process judged last; the next GLOBAL step lets go of them."""


def _merged_tables(call: StepCall) -> dict[str, pl.DataFrame]:
    """The step's tables, kept for the next part that is judged by them in this process."""
    place = (str(call.warehouse.store.root), call.work_key)
    tables = _LAST.get(place)
    if tables is None:
        merged = finished_shard(call, MERGED)
        assert merged is not None
        tables = {name: read_part(call.warehouse.store, part) for name, part in merged.tables.items()}
        _LAST.clear()
        _LAST[place] = tables
    return tables


def _known_by(call: StepCall, part: InputShard, tables: dict[str, pl.DataFrame]) -> str | None:
    """The name of a part's verdicts for all versions whose tables say the same of it; None where the op doesn't tell
    what they say of a part."""
    about = getattr(call.spec.func, "about", None)
    if about is None or part.part.min_row_id is None:
        return None
    said = [frame.rows() for frame in about(tables, part.part.min_row_id, part.part.max_row_id)]
    return f"said-{part.digest}-{hashlib.sha256(repr(said).encode()).hexdigest()[:32]}"
