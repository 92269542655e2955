"""A dataset version of a warehouse, this one or another, as a source.

So a recipe can start from what another recipe made, or compare with it (`against`), without making it again. The
version's content hash is the identity; its name, its number and the warehouse's place are not. Rows come with their
own and inherited columns, but for what only that warehouse knows them by (ids, keys of answers, weights), one split for
each stored part; their native id is the row's key there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.engine.errors import DataError
from factory.engine.op import Kind, PlanContext, Record, SourcePlan, op
from factory.sources.shape import RecordParams, Shape, Survey
from factory.sources.tables import declared, rows

_OWN = frozenset({"row_key", "answer_key", "weight"})


class WarehouseParams(RecordParams):
    """Which version. `dataset` is `name@3`, a tag (`name@best`) or a name for its newest whole version. `warehouse` is
    a folder, from the recipe's on, or `s3://…`."""

    dataset: str
    warehouse: str


@op("source.warehouse", version=1, kind=Kind.SOURCE, params=WarehouseParams,
    provenance=("dataset", "warehouse", "license"))
class WarehouseSource:
    """Read the rows of a dataset version that a warehouse holds."""

    def plan(self, params: WarehouseParams, ctx: PlanContext) -> SourcePlan:
        """Find the version and type its columns.

        Raises:
            DataError: no such warehouse, version or column; the version holds no rows.
        """
        from factory.engine.reading import input_shards

        root = params.warehouse if "://" in params.warehouse else str(ctx.base_dir / params.warehouse)
        dataset = _open(root, params.dataset)
        if dataset.kind not in ("rows", "selection") or not dataset.manifest.row_count:
            raise DataError(f"{dataset.ref} in {root} is a version of kind {dataset.kind} with "
                            f"{dataset.manifest.row_count} rows: name a dataset that holds rows, or a selection.")
        survey = Survey(params)
        schema = {name: dtype for name, dtype in dataset.all_columns.items()
                  if name not in _OWN and not name.endswith("row_id")}
        for name, kind in declared(schema, dataset.ref, survey.wanted).items():
            survey.declare(name, kind)
        shape, left = survey.finish(dataset.ref), ctx.limit
        identity: dict[str, Any] = {"content": dataset.manifest.content_hash}
        if ctx.limit is not None:
            identity["limit"] = ctx.limit
        splits = []
        for number, shard in enumerate(input_shards(dataset)):
            if left == 0:
                break
            stop = shard.rows if left is None else min(shard.rows, left)
            left = None if left is None else left - stop
            splits.append({"warehouse": root, "ref": dataset.ref, "shard": number, "stop": stop,
                           "shape": shape.to_json()})
        license = params.license or " AND ".join(dataset.manifest.license) or None
        return SourcePlan(identity, tuple(splits), shape.schema(), license)

    def read(self, split: dict[str, Any], params: WarehouseParams) -> Iterator[Record]:
        """The records of one split."""
        from factory.engine.reading import input_shards, read_rows

        shape, dataset = Shape.from_json(split["shape"]), _open(split["warehouse"], split["ref"])
        shard = input_shards(dataset)[split["shard"]]
        wanted = list(dict.fromkeys([*shape.columns.values(), *([shape.id] if shape.id is not None else [])]))
        frame = read_rows(dataset, shard, wanted, 0, split["stop"])
        keys, within = frame["row_key"].to_list(), f"{dataset.ref}: part {split['shard']}"
        for row, key in zip(rows(frame.select(wanted), dataset.ref, 0, frame.height), keys, strict=True):
            record = shape.record(row.values or {}, dataset.ref, row.line, f"{within}, row {row.line}")
            record.native_id = record.native_id or key.hex()
            yield record


def _open(root: str, ref: str) -> Any:
    from warehouse import NotInWarehouse, Warehouse

    if "://" not in root and not Path(root).is_dir():
        raise DataError(f"there is no warehouse at {root}: `warehouse` is a folder, from the recipe's on.")
    try:
        return Warehouse(root).dataset(ref)
    except NotInWarehouse as error:
        raise DataError(f"{root}: {error}") from None
