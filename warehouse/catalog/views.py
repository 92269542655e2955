"""The views over the catalog's files, as SQL: what `catalog/views.sql` holds and what our own connection runs.

`views.sql` and `macros.sql` beside this module are the fixed part, readable alone. In front of them come the `stored`
tables with their lists of segments; behind them one view for each dataset (its latest version) and for each tag.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import polars as pl

from warehouse.catalog.records import SCHEMAS
from warehouse.dataset import PARENT, Dataset
from warehouse.records import Part
from warehouse.tables import COMPACTED

if TYPE_CHECKING:
    from warehouse.catalog.catalog import Catalog

HEAD = """-- A warehouse in SQL. Made by dataset-factory; disposable.
-- Read it with:  cd <warehouse> && duckdb -init catalog/views.sql
CREATE SCHEMA IF NOT EXISTS stored;
"""
_SQL_TYPES: dict[pl.DataType, str] = {
    pl.Int64(): "BIGINT", pl.Int32(): "INTEGER", pl.Int16(): "SMALLINT", pl.String(): "VARCHAR",
    pl.Boolean(): "BOOLEAN", pl.Float64(): "DOUBLE", pl.List(pl.String()): "VARCHAR[]"}


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def fixed(catalog: Catalog) -> str:
    """The stored tables, then the views and macros that every warehouse has."""
    tables = [_stored(catalog, name, schema) for name, schema in SCHEMAS.items() if name != "dataset_views"]
    tables += [_stored(catalog, name, {**schema, "part_id": pl.Int64()}) for name, (_, _, schema) in COMPACTED.items()]
    folder = files("warehouse.catalog")
    texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in ("views.sql", "macros.sql")]
    return "\n".join([HEAD, *tables, *texts])


def _stored(catalog: Catalog, name: str, schema: dict[str, pl.DataType]) -> str:
    segments = catalog.state.segments.get(name, [])
    if segments:
        listed = ", ".join(f"'{segment.file}'" for segment in segments)
        query = f"SELECT * FROM read_parquet([{listed}], hive_partitioning=false)"
    else:
        columns = ", ".join(f"NULL::{_SQL_TYPES[dtype]} AS {quote(column)}" for column, dtype in schema.items())
        query = f"SELECT {columns} WHERE false"
    return f"CREATE OR REPLACE VIEW stored.{name} AS {query};"


def create_view(name: str, query: str) -> str:
    """The statement that makes one view."""
    return f"CREATE OR REPLACE VIEW {quote(name)} AS {query};"


RESERVED = {"datasets", "dataset_parts", "dataset_inputs", "namespaces", "tags", "row_lineage", "row_roots",
            "provenance", "verdicts", "rejections", "failures", "selections", "shards", "checkpoints", "evaluations",
            "runs", "run_steps", "disagreements", "version_lineage", "version_rows", "costs"}
"""Names of the fixed views: a dataset of such a name is read as `"name@3"`."""


def wanted_views(catalog: Catalog) -> dict[str, str]:
    """Each dataset's name with the version that it stands for, and each tag's."""
    found = {name: ref for name, ref in catalog.warehouse.latest_versions().items() if name.lower() not in RESERVED}
    tags = catalog.live(catalog.frame("tags"))
    there = set(catalog.rows_where("datasets", "ref", tags["ref"])["ref"])
    return found | {f"{dataset}@{tag}": ref for ref, dataset, tag in tags.iter_rows() if ref in there}


def dataset_views(catalog: Catalog) -> dict[str, str]:
    """The query of each dataset's and tag's view; only those whose version changed are written anew."""
    known = {(name, ref): query for name, ref, query in catalog.frame("dataset_views").iter_rows()}
    rows = [(name, ref, known[name, ref] if (name, ref) in known else dataset_sql(catalog.warehouse.any_dataset(ref)))
            for name, ref in sorted(wanted_views(catalog).items())]
    catalog.replace("dataset_views", rows)
    return {name: query for name, _, query in rows if query}


def _read(parts: list[Part], columns: str = "*") -> str:
    listed = ", ".join(f"'{part.path}'" for part in parts)
    return f"SELECT {columns} FROM read_parquet([{listed}], union_by_name=true, hive_partitioning=false)"


def dataset_sql(dataset: Dataset) -> str:
    """The SELECT that reads a version as `Dataset.scan` does; empty for versions that hold no rows to read."""
    if dataset.kind == "rows":
        return _rows_sql(dataset)
    if dataset.kind == "selection":
        chosen = _read(dataset.parts("selection"))
        weight = ", s.weight" if dataset.manifest.facts.get("weighted") else ""
        united = " UNION ALL BY NAME ".join(f"({_rows_sql(content)})" for content in dataset.contents)
        return f"SELECT r.*{weight} FROM ({united}) r JOIN ({chosen}) s ON s.row_id = r.row_id"
    if dataset.kind in ("scores", "report"):
        return _read(dataset.parts("scores" if dataset.kind == "scores" else "report"))
    if dataset.kind == "tables" and dataset.parts("pairs"):
        return _read(dataset.parts("pairs"))
    return ""


def _rows_sql(dataset: Dataset) -> str:
    own = list(dataset.schema())
    rows = _read(dataset.parts("rows"), ", ".join(quote(name) for name in own))
    if dataset.parts("superseded"):
        rows += f" WHERE row_id NOT IN ({_read(dataset.parts('superseded'), 'row_id')})"
    if dataset.parent is None or not dataset.parts("row_lineage"):
        return rows
    inherited = [name for content in dataset.parent.contents for name in content.all_columns if name not in own]
    columns = "".join(f", p.{quote(name)}" for name in dict.fromkeys(inherited) if name != PARENT)
    parents = " UNION ALL BY NAME ".join(f"({_rows_sql(content)})" for content in dataset.parent.contents)
    edges = _read(dataset.parts("row_lineage"), "child_row_id, parent_row_id")
    return (f"SELECT r.*, e.{PARENT}{columns} FROM ({rows}) r LEFT JOIN ({edges}) e ON e.child_row_id = r.row_id "
            f"LEFT JOIN ({parents}) p ON p.row_id = e.{PARENT}")
