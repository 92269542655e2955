"""From finished shards to one manifest: the only moment at which a step's result becomes visible.
Runs in the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from factory.engine.errors import OpError, TooManyFailures
from factory.engine.op import CONTENT_KINDS, SCORE_SCHEMA, Kind
from factory.engine.plan import Plan, Step
from factory.engine.prepare import Prepared, code_digest
from factory.engine.task import conform, reasons_of
from factory.models.spec import ResolvedModel
from warehouse import Dataset, Warehouse
from warehouse.content import EMPTY, ContentHash, hash_rows
from warehouse.dataset import pack_schema
from warehouse.lineage.roots import row_roots
from warehouse.parts import part_schema, read_part, write_part
from warehouse.records import Counts, InputRef, Manifest, Part, ShardRecord, Usage
from warehouse.tables import FAILURES, LINEAGE, PROVENANCE, REJECTIONS, SELECTION, SHARDS

KIND_OF = {Kind.SCORE: "scores", Kind.GLOBAL: "tables", Kind.SELECT: "selection", Kind.TRAIN: "checkpoint",
           Kind.REPORT: "report", Kind.GATE: "gate", Kind.PUBLISH: "receipt"}


def commit_step(plan: Plan, step: Step, warehouse: Warehouse, prepared: Prepared, records: Sequence[ShardRecord],
                run_id: str) -> Manifest:
    """Assemble the version and commit it.

    Raises:
        TooManyFailures: more slots failed than the step's `max_failed` allows; nothing is committed.
    """
    tables, counts, content = _assemble(warehouse, records)
    usage = sum((record.usage for record in records), Usage())
    if step.kind is Kind.SOURCE and prepared.base is not None:
        _extend_source(warehouse, prepared, tables)
    elif step.kind in (Kind.MAP, Kind.EXPAND) and prepared.base is not None:
        counts, content = _extend_rows(warehouse, prepared, step, tables, counts, content)
    tables.pop("standing", None)
    tables.pop("partial", None)
    _check_failures(step, warehouse, tables, counts)
    tables["shards"] = _told_shards(warehouse, prepared, records)
    if step.kind is Kind.PUBLISH and step.from_inputs == 1 and prepared.inputs[0].kind in ("rows", "selection"):
        tables["row_roots"] = _roots(step, warehouse, prepared.inputs[0])
    kind = "rows" if step.kind in CONTENT_KINDS else "scores" if step.spec.judges else KIND_OF[step.kind]
    row_table = {"rows": "rows", "selection": "selection", "scores": "scores", "report": "report"}.get(kind)
    rows = sum(part.rows for part in tables.get(row_table, [])) if row_table else counts.kept
    if "superseded" in tables:
        rows -= sum(part.rows for part in tables["superseded"])
    schemas, columns = _schemas(warehouse, step, tables)
    roles = _roles(step)
    draft = Manifest(
        dataset=step.dataset, version=0, commit_id="", kind=kind, op=step.spec.name, op_version=step.spec.version,
        recipe=plan.recipe_name, step=step.name, run_id=run_id, fingerprint=step.fingerprint, family=step.family,
        identity=step.identity, work_key=prepared.call.work_key, content_hash=str(content), row_count=rows,
        bytes=sum(part.bytes for parts in tables.values() for part in parts), columns=columns, schemas=schemas,
        tables=tables, counts=counts, usage=usage, partial=step.partial, license=_license(step, prepared),
        inputs=[InputRef(dataset=found.dataset, version=found.version, role=role, content_hash=found.content_hash,
                         parts_digest=found.parts_digest, fingerprint=found.fingerprint)
                for role, found in zip(roles, prepared.inputs, strict=True)],
        facts={"from_inputs": step.from_inputs, "inherits": step.kind in (Kind.MAP, Kind.EXPAND),
               "model": prepared.call.model.name if prepared.call.model is not None else None,
               "by_checkpoint": _checkpoint(prepared.call.model),
               "where": [_rule_text(rule) for rule in step.rules],
               "counters": _counters(records),
               **{name: fact for record in records for name, fact in record.facts.items()}},
        code_sha256=code_digest(step))
    return warehouse.commit(draft)


def _checkpoint(model: ResolvedModel | None) -> str | None:
    """The checkpoint that wrote the rows, was trained on, or was judged, where the model is one."""
    return model.name if model is not None and model.spec.checkpoint is not None else None


def _rule_text(rule: Any) -> str:
    shown = ", ".join(str(condition) for condition in rule.conditions) or "default rule"
    return f"{rule.step}: {shown}" + (" (undecided kept)" if rule.keep_undecided else "")


def _counters(records: Sequence[ShardRecord]) -> dict[str, int]:
    total: dict[str, int] = {}
    for record in records:
        for name, count in record.counters.items():
            total[name] = total.get(name, 0) + count
    return total


def _roles(step: Step) -> list[str]:
    against, heard, model = len(step.decl.compared), len(step.decl.heard), int(step.model_step is not None)
    rules = len(step.inputs) - step.from_inputs - against - heard - model
    return (["from"] * step.from_inputs + ["where"] * rules + ["verdicts"] * heard + ["against"] * against
            + ["model"] * model)


def _license(step: Step, prepared: Prepared) -> list[str]:
    """What the rows may be used under; rows that were only compared with leave nothing of theirs."""
    declared = {name for role, found in zip(_roles(step), prepared.inputs, strict=True) if role != "against"
                for name in found.license}
    if step.source is not None and step.source.license:
        declared.add(step.source.license)
    if step.model is not None and step.model.license:
        declared.add(step.model.license)
    return sorted(declared)


def _assemble(warehouse: Warehouse,
              records: Sequence[ShardRecord]) -> tuple[dict[str, list[Part]], Counts, ContentHash]:
    tables: dict[str, list[Part]] = {}
    counts, content = Counts(), EMPTY
    for record in records:
        for name, part in record.tables.items():
            tables.setdefault(name, []).append(part)
        counts, content = counts + record.counts, content + ContentHash.parse(record.content_hash)
    return tables, counts, content


def _told_shards(warehouse: Warehouse, prepared: Prepared, records: Sequence[ShardRecord]) -> list[Part]:
    """How each shard came about, after those of the version that this one extends."""
    rows = [(r.shard, r.run_id, r.worker, r.finished_at, r.counts.owed, r.counts.kept, r.counts.rejected,
             r.counts.failed, r.usage.tokens_in, r.usage.tokens_out, r.usage.requested, r.usage.reused, r.usage.seconds,
             r.usage.cost, r.facts.get("currency"))
            for r in records]
    before = prepared.base.tables.get("shards", []) if prepared.base is not None else []
    return [*before, write_part(warehouse.store, pl.DataFrame(rows, schema=SHARDS, orient="row"))]


def _roots(step: Step, warehouse: Warehouse, published: Manifest) -> list[Part]:
    """Which source rows the published rows descend from; taken over where the same version was published before."""
    for known in reversed(warehouse.find(step.fingerprint)):
        if known.inputs[0].ref == published.ref and known.tables.get("row_roots"):
            return known.tables["row_roots"]
    return [write_part(warehouse.store, frame) for frame in row_roots(warehouse.any_dataset(published.ref))]


def _extend_source(warehouse: Warehouse, prepared: Prepared, tables: dict[str, list[Part]]) -> None:
    """Add the base's rows that still stand; the rest of the base's parts is superseded. Counts cover both already."""
    base = Dataset(warehouse.store, prepared.base, warehouse.dataset)  # type: ignore[arg-type]
    frames = [read_part(warehouse.store, part) for part in tables.get("standing", [])]
    standing = pl.concat(frames)["row_id"] if frames else pl.Series("row_id", [], dtype=pl.Int64)
    every = base.table("rows").select("row_id").collect()["row_id"]
    _adopt_parts(warehouse, base, tables, standing, every, ("rows", "provenance"))


def _adopt_parts(warehouse: Warehouse, base: Dataset, tables: dict[str, list[Part]], standing: pl.Series,
                 every: pl.Series, names: tuple[str, ...]) -> None:
    alive = [part for part in base.parts("rows") if part.min_row_id is not None and standing.filter(
        (standing >= part.min_row_id) & (standing <= part.max_row_id)).len()]
    ranges = [(part.min_row_id, part.max_row_id) for part in alive]
    for name in names:
        kept = [part for part in base.parts(name) if part.rows and any(
            low is not None and high is not None and part.min_row_id is not None and low <= part.min_row_id <= high
            for low, high in ranges)]
        tables[name] = [*kept, *(part for part in tables.get(name, []) if part.rows)] or tables.get(name, [])
    gone = every.filter(~every.is_in(standing.implode())).sort()
    inside = [gone.filter((gone >= low) & (gone <= high)) for low, high in ranges]
    left = pl.concat(inside) if inside else gone.head(0)
    if left.len():
        tables["superseded"] = [write_part(warehouse.store, pl.DataFrame({"row_id": left.sort()}))]


def _extend_rows(warehouse: Warehouse, prepared: Prepared, step: Step, tables: dict[str, list[Part]], counts: Counts,
                 content: ContentHash) -> tuple[Counts, ContentHash]:
    """Join an increment with the rows and refusals of its base that stand."""
    store = warehouse.store
    base = Dataset(store, prepared.base, warehouse.dataset)  # type: ignore[arg-type]
    every = base.table("rows").select("row_id").collect()["row_id"]
    gone = (read_part(store, prepared.work.superseded)["row_id"] if prepared.work.superseded is not None
            else pl.Series("row_id", [], dtype=pl.Int64))
    standing = every.filter(~every.is_in(gone.implode()))
    _adopt_parts(warehouse, base, tables, standing, every, ("rows", "row_lineage"))
    keys = base.table("rows").filter(pl.col("row_id").is_in(standing.implode())).select("row_key").collect()["row_key"]
    settled = set(read_part(store, prepared.work.standing).iter_rows()) if prepared.work.standing is not None else set()
    carried = {}
    for name, schema in (("rejections", REJECTIONS), ("failures", FAILURES)):
        old = conform(base.table(name).collect(), schema) if base.parts(name) else pl.DataFrame(schema=schema)
        old = old.filter([slot in settled for slot in old.select("row_id", "slot").iter_rows()])
        if old.height:
            tables.setdefault(name, []).insert(0, write_part(store, old))
        carried[name] = old
    kept, rejected, failed = standing.len(), carried["rejections"].height, carried["failures"].height
    before = Counts(owed=kept + rejected + failed, kept=kept, rejected=rejected, failed=failed,
                    reasons=reasons_of(carried["rejections"], carried["failures"]))
    return before + counts, hash_rows(keys.to_list()) + content


def _check_failures(step: Step, warehouse: Warehouse, tables: dict[str, list[Part]], counts: Counts) -> None:
    allowed = step.runtime.max_failed
    if counts.failed == 0 or counts.failed <= allowed * counts.owed:
        return
    frames = [read_part(warehouse.store, part) for part in tables.get("failures", [])[:4]]
    shown = [f"  {kind}: {message}"[:300] for kind, message in
             pl.concat(frames).select("error_type", "message").unique(maintain_order=True).head(3).iter_rows()
             ] if frames else []
    raise TooManyFailures(
        f"step {step.name}: {counts.failed} of {counts.owed} failed, more than max_failed {allowed:g} allows. "
        f"Nothing was committed; what succeeded is kept. Mend the cause and run again, or raise "
        f"steps.{step.name}.runtime.max_failed. For example:\n" + "\n".join(shown))


def _schemas(warehouse: Warehouse, step: Step,
             tables: dict[str, list[Part]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Each table's schema, packed and readable. A table without parts has the one that the op declares, so that a
    version without a row reads like any other.

    Parts may differ (a source's column came later, an op declares no columns): they are unified by name.
    """
    found = _expected(step)
    for name, parts in tables.items():
        varied = name == "rows" and step.kind is not Kind.SOURCE and not step.spec.out(step.params)
        merged: dict[str, pl.DataType] = {}
        for part in {part.sha256: part for part in (parts if varied else (parts[0], parts[-1]))}.values():
            for column, dtype in part_schema(warehouse.store, part).items():
                if merged.setdefault(column, dtype) != dtype:
                    raise OpError(f"step {step.name}: {step.spec.name} wrote the column {column!r} as {merged[column]} "
                                  f"in one shard and as {dtype} in another: declare it in the op's `out`")
        found[name] = merged
    packed = {name: pack_schema(pl.DataFrame(schema=schema)) for name, schema in found.items()}
    readable = {name: {column: str(dtype) for column, dtype in schema.items()} for name, schema in found.items()}
    return packed, readable


def _expected(step: Step) -> dict[str, dict[str, pl.DataType]]:
    """The tables that readers look for, as they are when there is nothing in them."""
    out = dict(step.spec.out(step.params))
    head: dict[str, pl.DataType] = {"row_id": pl.Int64(), "row_key": pl.Binary()}
    if step.spec.asks_model:
        head["answer_key"] = pl.Binary()
    if step.kind is Kind.SOURCE:
        return {"rows": {**head, **(step.source.schema if step.source else {})}, "provenance": dict(PROVENANCE)}
    if step.kind in CONTENT_KINDS:
        return {"rows": {**head, **out}, "row_lineage": dict(LINEAGE)}
    if step.spec.judges:
        return {"scores": {"row_id": pl.Int64(), **SCORE_SCHEMA, **out}}
    return {"selection": dict(SELECTION)} if step.kind is Kind.SELECT else {}

