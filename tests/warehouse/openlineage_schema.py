"""The OpenLineage specification 2-0-2 as a JSON schema, taken from the classes that OpenLineage generates from it.

The official client ships no schema files, but a class for every definition: its fields, their types, which are
required, and the address of the definition. From these comes a schema stricter than the published one: unknown fields
and unknown facets are refused, `_schemaURL` must be the address of what is there, and our own facets are checked by
`facets.json`, which the package ships.
"""

from __future__ import annotations

import json
import types
import typing
from datetime import datetime
from enum import Enum
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import attr
import jsonschema
from openlineage.client import event_v2, facet_v2
from referencing import Registry, Resource

FORMATS = jsonschema.FormatChecker(["uuid"])
Json = dict[str, Any]

RUN = {"parent": facet_v2.parent_run.ParentRunFacet, "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
       "processingEngine": facet_v2.processing_engine_run.ProcessingEngineRunFacet}
JOB = {"jobType": facet_v2.job_type_job.JobTypeJobFacet, "sourceCode": facet_v2.source_code_job.SourceCodeJobFacet,
       "documentation": facet_v2.documentation_job.DocumentationJobFacet}
DATASET = {"schema": facet_v2.schema_dataset.SchemaDatasetFacet,
           "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
           "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet,
           "columnLineage": facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet}
INPUT = {"inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet}
OUTPUT = {"outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet}


@FORMATS.checks("date-time", ValueError)
def _is_time(value: object) -> bool:
    return "T" in str(value) and datetime.fromisoformat(str(value)).tzinfo is not None


@FORMATS.checks("uri", ValueError)
def _is_uri(value: object) -> bool:
    return bool(urlsplit(str(value)).scheme)


def _of(hint: Any) -> Json:
    """The schema of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(argument) for argument in arguments if argument is not type(None)]}
    if origin is list:
        return {"type": "array", "items": _of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if attr.has(hint):
        return _object(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]}


_FORMAT_OF = {"runId": "uuid", "eventTime": "date-time", "producer": "uri", "_producer": "uri"}


def _object(cls: type) -> Json:
    if cls is facet_v2.schema_dataset.SchemaDatasetFacetFields:  # holds itself; nested columns are not told
        return {"type": "object", "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
                "required": ["name"], "additionalProperties": False}
    hints = typing.get_type_hints(cls)
    properties = {}
    required = []
    for field in attr.fields(cls):
        if field.name == "_deleted":
            continue
        properties[field.name] = {**_of(hints[field.name]), **(
            {"format": _FORMAT_OF[field.name]} if field.name in _FORMAT_OF else {})}
        if field.default is attr.NOTHING or field.name in ("producer", "_producer"):
            required.append(field.name)
        if field.name in ("schemaURL", "_schemaURL"):
            properties[field.name] = {"const": cls._get_schema()}  # type: ignore[attr-defined]
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _facets(known: dict[str, type], entity: str) -> Json:
    own = {name: {"$ref": f"urn:dataset-factory:openlineage:1#/$defs/{definition}"}
           for name, definition in OWN.items() if definition.endswith(f"{entity}Facet")}
    return {"type": "object", "properties": {**{name: _object(cls) for name, cls in known.items()}, **own},
            "additionalProperties": False}


OWN = {"datasetFactory_run": "DatasetFactoryRunFacet", "datasetFactory_step": "DatasetFactoryStepRunFacet",
       "datasetFactory_counts": "DatasetFactoryCountsRunFacet", "datasetFactory_usage": "DatasetFactoryUsageRunFacet",
       "datasetFactory_version": "DatasetFactoryVersionDatasetFacet",
       "datasetFactory_checkpoint": "DatasetFactoryCheckpointDatasetFacet",
       "datasetFactory_input": "DatasetFactoryInputDatasetFacet"}


def validator() -> jsonschema.Draft202012Validator:
    """Checks one run event and every facet in it."""
    event = _object(event_v2.RunEvent)
    parts = event["properties"]
    parts["run"], parts["job"] = _object(event_v2.Run), _object(event_v2.Job)
    parts["run"]["properties"]["facets"] = _facets(RUN, "Run")
    parts["job"]["properties"]["facets"] = _facets(JOB, "Job")
    for side, cls, known, entity in (("inputs", event_v2.InputDataset, INPUT, "InputDataset"),
                                     ("outputs", event_v2.OutputDataset, OUTPUT, "OutputDataset")):
        dataset = _object(cls)
        dataset["properties"]["facets"] = _facets(DATASET, "Dataset")
        dataset["properties"][f"{side[:-1]}Facets"] = _facets(known, entity)
        parts[side] = {"type": "array", "items": dataset}
    event["required"] += ["eventType"]
    shipped = json.loads(files("warehouse").joinpath("export/facets.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(shipped)
    jsonschema.Draft202012Validator.check_schema(event)
    registry: Registry[Any] = Registry().with_resource(shipped["$id"], Resource.from_contents(shipped))
    return jsonschema.Draft202012Validator(event, registry=registry, format_checker=FORMATS)
