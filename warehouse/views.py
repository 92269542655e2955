"""The text of `catalog/views.sql`: one view per question a user asks of the files.

The fixed views stand in `views.sql` beside this module, readable alone; here the lists of parts are filled in and one
view per dataset is added. Score tables have columns of their own beside the standard ones, so `verdicts` unites them by
schema.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING

from warehouse.dataset import PARENT, Dataset
from warehouse.records import Manifest, Part

if TYPE_CHECKING:
    from warehouse.store import Warehouse

STANDARD = ("row_id", "passed", "label", "score", "reason_code", "reason")

EMPTY = {
    "row_lineage": "NULL::BIGINT child_row_id, NULL::BIGINT parent_row_id, NULL::VARCHAR role, NULL::VARCHAR op, "
                   "NULL::INTEGER slot",
    "rejections": "NULL::BIGINT row_id, NULL::INTEGER slot, NULL::VARCHAR step, NULL::VARCHAR gate, "
                  "NULL::VARCHAR reason_code, NULL::VARCHAR reason, NULL::DOUBLE score, NULL::DOUBLE threshold, "
                  "NULL::BIGINT kept_row_id, NULL::BOOLEAN \"primary\"",
    "failures": "NULL::BIGINT row_id, NULL::INTEGER slot, NULL::VARCHAR step, NULL::VARCHAR error_type, "
                "NULL::VARCHAR message, NULL::INTEGER attempts, NULL::VARCHAR run_id",
    "provenance": "NULL::BIGINT row_id, NULL::VARCHAR origin, NULL::BIGINT line, NULL::VARCHAR native_id",
    "selections": "NULL::BIGINT row_id, NULL::INTEGER weight",
}
_TABLE_OF = {"selections": "selection"}


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _list(parts: list[Part]) -> str:
    return "[" + ", ".join(f"'{part.path}'" for part in parts) + "]"


def _read(parts: list[Part], columns: str = "*", *, filename: bool = False) -> str:
    options = ", filename=true" if filename else ""
    return f"SELECT {columns} FROM read_parquet({_list(parts)}, union_by_name=true{options})"


def build_views(warehouse: Warehouse) -> str:
    """The whole script."""
    manifests = warehouse.manifests()
    script = [files("warehouse").joinpath("views.sql").read_text(encoding="utf-8")]
    for view, empty in EMPTY.items():
        script.append(_table_view(view, manifests, empty))
    script.append(_verdicts(manifests))
    script.append(files("warehouse").joinpath("macros.sql").read_text(encoding="utf-8"))
    latest: dict[str, Manifest] = {}
    for manifest in manifests:
        known = latest.get(manifest.dataset)
        if known is None or not manifest.partial or known.partial:
            latest[manifest.dataset] = manifest
    for name, manifest in sorted(latest.items()):
        sql = dataset_sql(warehouse.dataset(manifest.ref))
        if sql:
            script.append(f"CREATE OR REPLACE VIEW {quote(name)} AS {sql};")
    return "\n".join(script) + "\n"


def _table_view(view: str, manifests: list[Manifest], empty: str) -> str:
    """All parts of one narrow table, each once, with the newest version (`ref`) that holds it."""
    table = _TABLE_OF.get(view, view)
    owner: dict[str, tuple[str, Part]] = {}
    for manifest in manifests:
        for part in manifest.tables.get(table, []):
            if part.rows:
                owner[part.sha256] = (manifest.ref, part)
    if not owner:
        return f"CREATE OR REPLACE VIEW {view} AS SELECT {empty}, NULL::VARCHAR ref WHERE false;"
    parts = [part for _, part in owner.values()]
    if view in ("row_lineage", "provenance"):  # their rows say where they belong by themselves
        return f"CREATE OR REPLACE VIEW {view} AS {_read(parts)};"
    return (f"CREATE OR REPLACE VIEW {view} AS SELECT t.* EXCLUDE (filename), p.ref "
            f"FROM ({_read(parts, filename=True)}) t JOIN ("
            "SELECT sha256, arg_max(ref, split_part(ref, '@', 2)::INTEGER) AS ref FROM dataset_parts "
            f"WHERE table_name = '{table}' GROUP BY 1) p "
            "ON p.sha256 = regexp_extract(t.filename, '([0-9a-f]{64})[.]parquet$', 1);")


def _verdicts(manifests: list[Manifest]) -> str:
    groups: dict[tuple[str, int, str, tuple[str, ...]], dict[str, Part]] = defaultdict(dict)
    for manifest in manifests:
        columns = tuple(manifest.columns.get("scores", {}))
        for part in manifest.tables.get("scores", []):
            if part.rows:
                groups[manifest.op, manifest.op_version, manifest.step, columns][part.sha256] = part
    head = "row_id, step, judge, judge_version, passed, label, score, reason_code, reason, details"
    if not groups:
        return ("CREATE OR REPLACE VIEW verdicts AS SELECT NULL::BIGINT row_id, NULL::VARCHAR step, "
                "NULL::VARCHAR judge, NULL::BIGINT judge_version, NULL::BOOLEAN passed, NULL::VARCHAR label, "
                "NULL::DOUBLE score, NULL::VARCHAR reason_code, NULL::VARCHAR reason, NULL::JSON details WHERE false;")
    selects = []
    for (op, version, step, columns), parts in sorted(groups.items()):
        own = [name for name in columns if name not in STANDARD]
        details = ("to_json(struct_pack(" + ", ".join(f"{quote(n)} := {quote(n)}" for n in own) + "))" if own
                   else "NULL::JSON")
        selects.append(f"SELECT row_id, '{step}' AS step, '{op}' AS judge, {version}::BIGINT AS judge_version, passed, "
                       f"label, score, reason_code, reason, {details} AS details FROM ({_read(list(parts.values()))})")
    return f"CREATE OR REPLACE VIEW verdicts AS SELECT {head} FROM ({' UNION ALL BY NAME '.join(selects)});"


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
