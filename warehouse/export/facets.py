"""What is said of a dataset version or a model checkpoint in an OpenLineage event.

A dataset is (namespace, name); the version it had stands in its `version` facet. Model checkpoints are datasets of
the namespace `<namespace>/checkpoints`, so a graph of datasets shows the whole loop: rows train a checkpoint, the
checkpoint writes rows. Column lineage is given only where it is exact: a column that was inherited or chosen holds the
same values. Column types are those of polars.

Facets of our own are called `datasetFactory_…`; their schemas are in `facets.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from warehouse.dataset import PARENT, Dataset
from warehouse.errors import NotInWarehouse
from warehouse.records import CheckpointRecord, InputRef, Manifest

if TYPE_CHECKING:
    from warehouse.store import Warehouse

SPEC = "https://openlineage.io/spec"
OWN = "urn:dataset-factory:openlineage:1#/$defs/"
Json = dict[str, Any]

_STANDARD = {
    "parent": "1-2-0/ParentRunFacet", "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "processingEngine": "1-1-1/ProcessingEngineRunFacet", "jobType": "2-0-4/JobTypeJobFacet",
    "sourceCode": "1-0-1/SourceCodeJobFacet", "documentation": "1-1-0/DocumentationJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet", "version": "1-0-1/DatasetVersionDatasetFacet",
    "datasetType": "1-0-1/DatasetTypeDatasetFacet", "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
}
_CUSTOM = {
    "datasetFactory_run": "DatasetFactoryRunFacet", "datasetFactory_step": "DatasetFactoryStepRunFacet",
    "datasetFactory_counts": "DatasetFactoryCountsRunFacet", "datasetFactory_usage": "DatasetFactoryUsageRunFacet",
    "datasetFactory_version": "DatasetFactoryVersionDatasetFacet",
    "datasetFactory_checkpoint": "DatasetFactoryCheckpointDatasetFacet",
    "datasetFactory_input": "DatasetFactoryInputDatasetFacet",
}


def factory_version() -> str:
    """The installed version of this package."""
    try:
        return version("dataset-factory")
    except PackageNotFoundError:  # read from a checkout that was never installed
        return "0"


def producer() -> str:
    return f"urn:dataset-factory:{factory_version()}"


def facets(**values: Json) -> Json:
    """Facets by name, each with its producer and the address of its schema."""
    return {name: {"_producer": producer(), "_schemaURL": _schema_url(name), **value}
            for name, value in values.items()}


def _schema_url(name: str) -> str:
    if name in _CUSTOM:
        return OWN + _CUSTOM[name]
    path = _STANDARD[name]
    return f"{SPEC}/facets/{path}.json#/$defs/{path.split('/')[1]}"


@dataclass
class Describer:
    """Describes versions and checkpoints of one warehouse; each is looked up once."""

    warehouse: Warehouse
    namespace: str
    _datasets: dict[str, Dataset] = field(default_factory=dict)

    @property
    def checkpoints_namespace(self) -> str:
        return f"{self.namespace}/checkpoints"

    @cached_property
    def checkpoints(self) -> dict[str, CheckpointRecord]:
        return {record.ref: record for record in self.warehouse.checkpoints()}

    def dataset(self, ref: str) -> Dataset | None:
        """The version, deleted or not; None when its manifest is not there any more."""
        try:
            return self._resolve(ref)
        except NotInWarehouse:
            return None

    def _resolve(self, ref: str) -> Dataset:
        if ref not in self._datasets:
            self._datasets[ref] = Dataset(self.warehouse.store, self.warehouse.any_manifest(ref), self._resolve)
        return self._datasets[ref]

    def output(self, made: Manifest) -> Json:
        """A version as what a step wrote; a train step's version stands for its checkpoint."""
        if made.kind == "checkpoint":
            return self._checkpoint(made.facts["checkpoint"], written=True)
        found = self.dataset(made.ref) or Dataset(self.warehouse.store, made, self._resolve)
        described = self._version(found)
        lineage = self._column_lineage(found)
        if lineage:
            described["facets"].update(facets(columnLineage={"fields": lineage}))
        return {**described, "outputFacets": facets(outputStatistics=_statistics(made))}

    def gone(self, ref: str) -> Json:
        """A version that is known by name only."""
        return {"namespace": self.namespace, "name": ref.rpartition("@")[0],
                "facets": facets(version={"datasetVersion": ref})}

    def inputs(self, made: Manifest) -> list[Json]:
        """What a step read: its pinned inputs, and the checkpoint that it asked, judged or trained on from."""
        roles: dict[str, list[str]] = {}
        versions: dict[str, InputRef | None] = {}
        for item in made.inputs:
            found = self.dataset(item.ref)
            stands_for = found.manifest.facts.get("checkpoint") if found and found.kind == "checkpoint" else None
            _note(roles, versions, stands_for or item.ref, item.role, None if stands_for else item)
        by = made.facts.get("by_checkpoint")
        if by is not None and by not in [ref for ref, item in versions.items() if item is None]:
            _note(roles, versions, by, "base" if made.kind == "checkpoint" else "model", None)
        return [self._input(ref, versions[ref], roles[ref]) for ref in roles]

    def _input(self, ref: str, item: InputRef | None, roles: list[str]) -> Json:
        role = facets(datasetFactory_input={"roles": roles})
        if item is None:
            return {**self._checkpoint(ref, written=False), "inputFacets": role}
        found = self.dataset(ref)
        if found is None:
            return {**self.gone(ref), "inputFacets": role}
        return {**self._version(found), "inputFacets": {**facets(inputStatistics=_statistics(found.manifest)), **role}}

    def _version(self, dataset: Dataset) -> Json:
        made = dataset.manifest
        said = facets(
            version={"datasetVersion": made.ref}, datasetType={"datasetType": "TABLE", "subType": made.kind.upper()},
            datasetFactory_version={
                "kind": made.kind, "contentHash": made.content_hash, "license": list(made.license),
                "partial": made.partial, "model": made.facts.get("model"), "writtenBy": made.facts.get("by_checkpoint"),
                "extends": f"{made.dataset}@{made.parent_version}" if made.parent_version else None})
        columns = _columns(dataset)
        if columns:
            said.update(facets(schema={"fields": [{"name": name, "type": dtype} for name, dtype in columns.items()]}))
        return {"namespace": self.namespace, "name": made.dataset, "facets": said}

    def _checkpoint(self, ref: str, *, written: bool) -> Json:
        said = facets(version={"datasetVersion": ref}, datasetType={"datasetType": "MODEL"})
        found = {"namespace": self.checkpoints_namespace, "name": ref.rpartition("@")[0], "facets": said}
        record = self.checkpoints.get(ref)
        if record is not None:
            said.update(facets(datasetFactory_checkpoint={
                "base": record.base, "trainedOn": record.trained_on, "metrics": record.metrics,
                "files": len(record.files), "partial": record.partial}))
            if written:
                found["outputFacets"] = facets(outputStatistics={"size": record.bytes, "fileCount": len(record.files)})
        return found

    def _column_lineage(self, dataset: Dataset) -> Json:
        try:
            return {name: {"inputFields": [
                {"namespace": self.namespace, "name": source.manifest.dataset, "field": column,
                 "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}]} for source, column in sources]}
                for name, sources in _identical(dataset).items()}
        except NotInWarehouse:  # an ancestor's manifest is gone: which columns came from it is not known any more
            return {}


def _note(roles: dict[str, list[str]], versions: dict[str, InputRef | None], ref: str, role: str,
          item: InputRef | None) -> None:
    known = roles.setdefault(ref, [])
    if role not in known:
        known.append(role)
    versions[ref] = item


def _statistics(made: Manifest) -> Json:
    files = {part.sha256 for parts in made.tables.values() for part in parts}
    return {"rowCount": made.row_count, "size": made.bytes, "fileCount": len(files)}


def _columns(dataset: Dataset) -> dict[str, str]:
    """The columns that reading the version gives; own ones alone when an ancestor is gone."""
    if dataset.kind not in ("rows", "selection"):
        table = {"scores": "scores", "report": "report", "tables": "pairs"}.get(dataset.kind, "")
        return dict(dataset.manifest.columns.get(table, {}))
    try:
        return {name: str(dtype) for name, dtype in _read(dataset).items()}
    except NotInWarehouse:
        return {name: str(dtype) for name, dtype in dataset.schema().items()}


def _read(dataset: Dataset) -> dict[str, Any]:
    """Columns as `Dataset.scan` gives them."""
    columns: dict[str, Any] = dict(dataset.all_columns)
    if any(content.parent is not None for content in dataset.contents):
        columns[PARENT] = columns["row_id"]
    if dataset.kind == "selection" and dataset.manifest.facts.get("weighted"):
        columns["weight"] = dataset.schema("selection")["weight"]
    return columns


def _identical(dataset: Dataset) -> dict[str, list[tuple[Dataset, str]]]:
    """For each column that is the same bytes as one of an input: those inputs, and the column's name there."""
    if dataset.kind == "selection":
        sources = dataset.inputs[: dataset.manifest.facts.get("from_inputs", 1)]
        return _by_column(_read(dataset), sources)
    if dataset.kind == "scores" and dataset.inputs:
        return {"row_id": [(dataset.inputs[0], "row_id")]}
    if dataset.parent is None:
        return {}
    found = _by_column([name for name in dataset.all_columns if name not in dataset.schema()], [dataset.parent])
    return {**found, PARENT: [(dataset.parent, "row_id")]}


def _by_column(names: Iterable[str], sources: list[Dataset]) -> dict[str, list[tuple[Dataset, str]]]:
    found = {name: [(source, name) for source in sources if name in _read(source)] for name in names}
    return {name: listed for name, listed in found.items() if listed}
