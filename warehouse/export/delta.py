"""A dataset version as a version of a Delta table, for Spark, Databricks, Fabric and whoever reads Delta.

One dataset is one table. The table begins empty (Delta version 0) with the dataset's name and the warehouse's id in its
properties; each export of a dataset version overwrites it in one commit that carries `datasetFactory.ref`,
`.contentHash` and `.warehouseId`. So Delta's time travel goes through the exported versions, and a version that is
there already is found in the table's history instead of being written again. The history is never trimmed by the
writer; what a `VACUUM` removes is the business of who runs it. A table, or a folder with files in it, that is not of
this dataset is refused.

Rows travel part by part: what is held is a shard, the parents of its rows, and the writer's own buffers. A process that
dies leaves files that no version names (`vacuum(full=True)` removes them), never a part of a version. Of two exports to
one table at once, one is first; the other looks again and follows.

Types that Delta lacks are carried over as `warehouse.export.delta_types` says. Needs the extra `delta`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from warehouse import faults, layout
from warehouse.dataset import Dataset
from warehouse.errors import WarehouseError
from warehouse.export.delta_types import delta_schema, to_delta
from warehouse.parts import ROW_GROUP_BYTES, read_part
from warehouse.records import Part

if TYPE_CHECKING:
    from deltalake import DeltaTable

BATCH_BYTES = 2 << 20
"""The writer keeps some batches in flight: small ones keep its memory level."""
TRIES = 8
OWN = "datasetFactory."
_NARROW = {"scores": "scores", "report": "report"}


@dataclass(frozen=True, slots=True)
class DeltaReceipt:
    """What an export did: `delta_version` is the table's version that holds the rows of `ref`. `added` is False when it
    was there already. `carried_over` names columns whose type changed: {column: (polars type, type in Delta)}."""

    ref: str
    target: str
    delta_version: int
    rows: int
    added: bool
    carried_over: dict[str, tuple[str, str]] = field(default_factory=dict)


def export(dataset: Dataset, target: str | Path, *, inherit: bool = True,
           storage_options: dict[str, str] | None = None) -> DeltaReceipt:
    """Write a dataset version to the Delta table at `target`, which is made when it does not exist.

    Args:
        dataset: rows, a selection, scores or a report.
        target: a folder or a URI that deltalake knows (`s3://…` with `storage_options`).
        inherit: also the columns of the rows' ancestors, as `Dataset.scan` gives them.

    Raises:
        WarehouseError: the target is not of this dataset, the version has no rows to read, a column cannot be held, or
            the extra `delta` is not installed.
    """
    write = _writer()
    if dataset.kind not in ("rows", "selection", *_NARROW):
        raise WarehouseError(f"{dataset.ref} is of the kind {dataset.kind}, which has no rows to export: name a "
                             "dataset of rows, a selection, scores or a report")
    source = dict(_scan(dataset, inherit).collect_schema())
    columns = delta_schema(source)
    marks = _marks(dataset, inherit)
    changed = {name: (str(source[name]), str(dtype)) for name, dtype in columns.items() if source[name] != dtype}
    where = str(target)
    for _ in range(TRIES):
        table = _open(dataset, where, columns, storage_options)
        known = _version_of(table, marks)
        if known is not None:
            return DeltaReceipt(dataset.ref, where, known, dataset.manifest.row_count, False, changed)
        if write(table, dataset, columns, marks, inherit):
            found = _version_of(_open(dataset, where, columns, storage_options), marks)
            if found is not None:
                return DeltaReceipt(dataset.ref, where, found, dataset.manifest.row_count, True, changed)
    raise WarehouseError(f"{where}: {TRIES} times another writer was first; export {dataset.ref} again when it is done")


def _writer() -> Any:
    try:
        import deltalake  # noqa: F401
    except ImportError:
        raise WarehouseError("writing Delta tables needs the extra `delta`: pip install 'dataset-factory[delta]'"
                             ) from None
    return _write


def _marks(dataset: Dataset, inherit: bool) -> dict[str, str]:
    """What the commit of this export says; the same marks are the same rows."""
    return {OWN + "ref": dataset.ref, OWN + "contentHash": dataset.manifest.content_hash,
            OWN + "commitId": dataset.manifest.commit_id, OWN + "warehouseId": _warehouse_id(dataset),
            OWN + "inherit": str(inherit).lower()}


def _scan(dataset: Dataset, inherit: bool) -> pl.LazyFrame:
    narrow = _NARROW.get(dataset.kind)
    return dataset.table(narrow) if narrow else dataset.scan(inherit=inherit)


def _warehouse_id(dataset: Dataset) -> str:
    return str(json.loads(dataset.store.get(layout.ROOT_RECORD))["warehouse_id"])


def _open(dataset: Dataset, target: str, columns: dict[str, pl.DataType],
          options: dict[str, str] | None) -> DeltaTable:
    """The table of this dataset at `target`; made, without rows, when nothing is there."""
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import DeltaError

    expected = {OWN + "dataset": dataset.manifest.dataset, OWN + "warehouseId": _warehouse_id(dataset)}
    if _holds_files(target):
        raise WarehouseError(f"{target} holds something that is no Delta table: nothing was written; name a folder "
                             "that is empty or does not exist")
    if not DeltaTable.is_deltatable(target, options):
        try:
            table = DeltaTable.create(  # tried again, who comes second would write its creation as version 1
                target, _arrow_schema(columns), name=dataset.manifest.dataset, storage_options=options,
                configuration={**expected, "delta.enableExpiredLogCleanup": "false"}, raise_if_key_not_exists=False,
                commit_properties=CommitProperties(max_commit_retries=0),
                description=f"Versions of the dataset {dataset.manifest.dataset}")
            faults.point("export.created")
            return table
        except DeltaError:  # another export has just made it
            if not DeltaTable.is_deltatable(target, options):
                raise
    table = DeltaTable(target, storage_options=options)
    found = table.metadata().configuration
    if {name: found.get(name) for name in expected} != expected:
        raise WarehouseError(f"{target} is a Delta table of {found.get(OWN + 'dataset') or 'something else'}, not of "
                             f"{dataset.manifest.dataset} in this warehouse: nothing was written; name another folder")
    return table


def _holds_files(target: str) -> bool:
    """Whether a local target is a file, or a folder that holds files but no Delta log."""
    folder = Path(target)
    if "://" in target or not folder.exists():
        return False
    return not folder.is_dir() or (not (folder / "_delta_log").exists() and any(folder.iterdir()))


def _version_of(table: DeltaTable, marks: dict[str, str]) -> int | None:
    for commit in table.history():
        if {name: commit.get(name) for name in marks} == marks:
            return int(commit["version"])
    return None


def _arrow_schema(columns: dict[str, pl.DataType]) -> pa.Schema:
    return pl.DataFrame(schema=columns).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


def _write(table: DeltaTable, dataset: Dataset, columns: dict[str, pl.DataType], marks: dict[str, str],
           inherit: bool) -> bool:
    """One overwriting commit right after the version that was read; False when another writer was first."""
    from deltalake import CommitProperties, WriterProperties, write_deltalake
    from deltalake.exceptions import CommitFailedError

    failed: list[Exception] = []
    batches = _batches(dataset, columns, inherit, failed)
    first = [batch for batch in (next(batches, None),) if batch is not None]
    group = max(64, min(65_536, ROW_GROUP_BYTES * first[0].num_rows // max(1, first[0].nbytes))) if first else 64
    reader = pa.RecordBatchReader.from_batches(_arrow_schema(columns), chain(first, batches))
    try:
        write_deltalake(
            table, reader, mode="overwrite", schema_mode="overwrite",
            writer_properties=WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=group),
            commit_properties=CommitProperties(custom_metadata=marks, max_commit_retries=0))
    except CommitFailedError:
        return False
    except Exception:
        if failed:  # what the reader met, not what became of it on its way through the writer
            raise failed[0] from None
        raise
    return True


def _batches(dataset: Dataset, columns: dict[str, pl.DataType], inherit: bool,
             failed: list[Exception]) -> Iterator[pa.RecordBatch]:
    try:
        for frame in _frames(dataset, list(columns), inherit):
            ready = to_delta(frame, columns)
            faults.point("export.batch")
            step = max(1, BATCH_BYTES * ready.height // max(1, int(ready.estimated_size())))
            for start in range(0, ready.height, step):
                yield from ready.slice(start, step).to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()
    except Exception as error:
        failed.append(error)
        raise


def _frames(dataset: Dataset, names: list[str], inherit: bool) -> Iterator[pl.DataFrame]:
    """The rows as `Dataset.scan` gives them, part by part."""
    if dataset.kind in _NARROW:
        yield from _scan(dataset, inherit).collect_batches(maintain_order=True)
        return
    weighted = dataset.kind == "selection" and bool(dataset.manifest.facts.get("weighted"))
    weight = "weight_right" if "weight_right" in names else "weight"  # what a join calls it beside a column of the rows
    for content in dataset.contents:
        own = content.schema()
        wanted = [name for name in names if name != "row_id" and (inherit or name in own)]
        gone = content.table("superseded").collect()["row_id"] if content.parts("superseded") else None
        for part in content.parts("rows"):
            ids = read_part(dataset.store, part, ["row_id"])
            if gone is not None:
                ids = ids.filter(~pl.col("row_id").is_in(gone.implode()))
            if dataset.kind == "selection":
                ids = ids.join(_chosen(dataset, part), on="row_id", how="inner", maintain_order="left")
            if not ids.height:
                continue
            rows = content.lookup(ids["row_id"], [name for name in wanted if name != weight or not weighted])
            yield rows.with_columns(ids["weight"].alias(weight)) if weighted else rows


def _chosen(dataset: Dataset, part: Part) -> pl.DataFrame:
    """The chosen rows whose ids lie in a part's range."""
    low, high = part.min_row_id or 0, part.max_row_id or 0
    near = [found for found in dataset.parts("selection") if found.rows and found.min_row_id is not None
            and found.max_row_id is not None and found.min_row_id <= high and found.max_row_id >= low]
    chosen = dataset.table("selection", near).filter(pl.col("row_id").is_between(low, high))
    return chosen.select("row_id", "weight").collect()
