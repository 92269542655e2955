"""From a planned step to tasks: the increment's frozen plan, and what each worker has to do. Runs in the driver.

An increment's plan (shards, id namespace, the version it extends) is created once, put-if-absent; whoever comes second,
after a crash or beside us, reads and obeys it. That is why the size of shards may change from one attempt to the next
without changing a single row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from factory.engine.identity import digest
from factory.engine.kinds.answers import standing_rows
from factory.engine.kinds.heard import said_of
from factory.engine.kinds.score import attempt_name, attempts_at, part_name
from factory.engine.op import Kind
from factory.engine.plan import Plan, Step
from factory.engine.reading import InputShard, all_rows, input_shards
from factory.engine.task import StepCall, Task, conform
from factory.models.open import choose_name
from factory.models.spec import ResolvedModel
from warehouse import Dataset, Warehouse, layout
from warehouse.ids import claim_namespace
from warehouse.parts import read_part, write_part
from warehouse.records import Manifest, Part, ShardRecord, WorkPlan
from warehouse.tables import STANDING

KINDS = "factory.engine.kinds"


@dataclass(slots=True)
class Prepared:
    """A step ready to run: its call, the frozen plan, and stages of tasks (a stage starts when the one before is done).
    `groundwork` comes before all stages and leaves what they need; its records are no part of the step's result."""

    call: StepCall
    work: WorkPlan
    stages: list[list[Task]]
    inputs: list[Manifest]
    base: Manifest | None
    groundwork: list[Task] = field(default_factory=list)


def work_key(step: Step, inputs: list[Manifest], retried: Manifest | None) -> str:
    """Names one increment: the step, exactly these inputs, and which version's failures are tried again."""
    return digest({"fingerprint": step.fingerprint, "inputs": [found.parts_digest for found in inputs],
                   "retry": retried.ref if retried is not None else None})


def prepare(plan: Plan, step: Step, warehouse: Warehouse, inputs: list[Manifest], run_id: str, *, workers: int,
            retried: Manifest | None = None, model: ResolvedModel | None = None,
            facts: dict[str, Any] | None = None) -> Prepared:
    """Freeze (or read) the increment's plan and make its tasks."""
    key = work_key(step, inputs, retried)
    call = StepCall(
        root=str(warehouse.root), run_id=run_id, step=step.name, op=step.spec.name,
        params=step.params.model_dump(mode="python"), seed=step.seed, extra=step.identity.get("content"),
        inputs=tuple(found.ref for found in inputs), from_inputs=step.from_inputs, rules=tuple(step.rules),
        runtime=step.runtime, model=model, dataset=step.dataset, family=step.family, op_key=_op_key(step, model),
        work_key=key, plugins=tuple(plan.loaded.recipe.plugins), base_dir=str(plan.loaded.base_dir), facts=facts or {})
    makers = {Kind.SOURCE: _prepare_source, Kind.MAP: _prepare_expand, Kind.EXPAND: _prepare_expand,
              Kind.MERGE: _prepare_one, Kind.SCORE: _prepare_score, Kind.GLOBAL: _prepare_global,
              Kind.SELECT: _prepare_one, Kind.TRAIN: _prepare_one, Kind.REPORT: _prepare_one,
              Kind.GATE: _prepare_one, Kind.PUBLISH: _prepare_one}
    return makers[step.kind](step, warehouse, call, inputs, retried, workers)


def _op_key(step: Step, model: ResolvedModel | None) -> str:
    """Names the op's work on an input part. A train step may come to another checkpoint under the same fingerprint, so
    the scores of a checkpoint are named by its files."""
    if step.kind is not Kind.SCORE or step.model_step is None or model is None:
        return step.op_key
    return digest({"op": step.op_key, "model": model.identity})


def _freeze(warehouse: Warehouse, step: Step, draft: WorkPlan, namespace: bool) -> WorkPlan:
    """The plan of this increment: ours if we are first, else the one that is there."""
    store, path = warehouse.store, layout.work_plan(draft.key)
    if not store.exists(path):
        if namespace:
            owner = {"dataset": step.dataset, "step": step.name, "op": step.spec.name, "work_key": draft.key}
            draft = draft.model_copy(update={"namespace": claim_namespace(store, owner)})
        store.put_if_absent(path, draft.to_json())
    return WorkPlan.model_validate_json(store.get(path))


def _frozen(warehouse: Warehouse, key: str) -> WorkPlan | None:
    path = layout.work_plan(key)
    return WorkPlan.model_validate_json(warehouse.store.get(path)) if warehouse.store.exists(path) else None


def _family(step: Step, warehouse: Warehouse, model: Manifest | None) -> list[Manifest]:
    """Versions this increment could extend: same family, written by the same checkpoint. The step's own dataset comes
    first, then whole versions, then the newest.

    A source whose columns or types have changed extends nothing: parts of one version have one schema.
    """
    wanted = model.parts_digest if model is not None else None
    family = [found for found in warehouse.family(step.family) if found.kind == "rows"
              and next((item.parts_digest for item in found.inputs if item.role == "model"), None) == wanted]
    if step.source is not None:
        family = [found for found in family if _own_columns(warehouse, found) == dict(step.source.schema)]
    return sorted(reversed(family), key=lambda found: (found.dataset != step.dataset, found.partial))


def _own_columns(warehouse: Warehouse, found: Manifest) -> dict[str, pl.DataType]:
    schema = warehouse.dataset(found.ref).schema()
    return {name: dtype for name, dtype in schema.items() if name not in ("row_id", "row_key")}


def _prepare_source(step: Step, warehouse: Warehouse, call: StepCall, inputs: list[Manifest], retried: Manifest | None,
                    workers: int) -> Prepared:
    assert step.source is not None
    work = _frozen(warehouse, call.work_key)
    if work is None:
        base = next(iter(_family(step, warehouse, None)), None)
        draft = WorkPlan(key=call.work_key, base=base.ref if base else None, shards=tuple(step.source.splits))
        work = _freeze(warehouse, step, draft, namespace=True)
    schema = dict(step.source.schema)
    call = replace(call, namespace=work.namespace, base=work.base, facts={**call.facts, "schema": schema})
    # the splits of this attempt are used, not the frozen ones: they may lie elsewhere now; their number is content
    numbered = list(enumerate(step.source.splits))
    groups = [numbered] if work.base is not None else [[item] for item in numbered]
    tasks = [Task(f"{KINDS}.source:run_source", call, group, f"{step.name}") for group in groups]
    return Prepared(call, work, [tasks], inputs, warehouse.manifest(work.base) if work.base else None)


def _prepare_expand(step: Step, warehouse: Warehouse, call: StepCall, inputs: list[Manifest],
                    retried: Manifest | None, workers: int) -> Prepared:
    source = warehouse.dataset(inputs[0].ref)
    work = _frozen(warehouse, call.work_key)
    if work is None:
        model = inputs[-1] if step.model_step is not None else None
        draft = _draft_expand(step, warehouse, call, source, retried, model)
        work = _freeze(warehouse, step, draft, namespace=True)
    call = replace(call, namespace=work.namespace, base=work.base, standing=work.standing, occurrences=work.occurrences)
    base = warehouse.manifest(work.base) if work.base else None
    shards = [dict(shard) for shard in work.shards]
    if step.spec.asks_model:
        tasks = _pump_tasks(step, call, shards, workers, "rows_pump:run_pump")
    else:
        tasks = [Task(f"{KINDS}.rows:run_rows", call, shard, step.name) for shard in shards]
    return Prepared(call, work, [tasks], inputs, base)


def _pump_tasks(step: Step, call: StepCall, shards: list[dict[str, Any]], workers: int, function: str) -> list[Task]:
    """Who asks: one process, or as many as there are engines (`data_parallel`), each with its devices and shards. A
    replay model is no engine and runs on every worker."""
    assert call.model is not None
    runtime = call.runtime.backend.over(call.model.spec.runtime)
    backend = choose_name(call.model, runtime)
    engines = 1 if backend == "openai" else runtime.data_parallel  # a server has its own
    groups = step.runtime.processes or (workers if call.model.kind == "replay" else engines)
    dealt = [shards[index::groups] for index in range(groups)]
    calls = [replace(call, facts={**call.facts, "engine": index}) if engines > 1 else call for index in range(groups)]
    return [Task(f"{KINDS}.{function}", own, group, step.name)
            for own, group in zip(calls, dealt, strict=True) if group]


def _draft_expand(step: Step, warehouse: Warehouse, call: StepCall, source: Dataset,
                  retried: Manifest | None, model: Manifest | None) -> WorkPlan:
    """Which slots are owed: all of the input's, less those that stand from an earlier increment."""
    store, wanted = warehouse.store, _wanted(step)
    rows = all_rows(source, []).with_columns(occurrence=pl.int_range(pl.len()).over("row_key"))
    found = _extended(step, warehouse, rows, [retried] if retried is not None else _family(step, warehouse, model),
                      wanted, failures=retried is None)
    repeated = rows.filter(pl.col("occurrence") > 0).select("row_id", "occurrence")
    full = _full(found.settled, wanted) if found else set()
    shards = _slices(input_shards(source), step.runtime.shard_rows, full, warehouse)
    return WorkPlan(key=call.work_key, base=found.base.ref if found else None, shards=tuple(shards),
                    standing=write_part(store, found.settled) if found else None,
                    superseded=_superseded(warehouse, found) if found else None,
                    occurrences=write_part(store, repeated) if repeated.height else None)


def _wanted(step: Step) -> dict[str, int]:
    """What may grow: `n`, the slots of a row (a MAP has one), and `max_tokens`, where the op says that they extend."""
    if step.kind is Kind.MAP:
        return {"n": 1}
    return {name: getattr(step.params, name) for name in ("n", "max_tokens") if name in step.spec.extensible}


@dataclass(slots=True)
class _Extended:
    """A version to extend: its rows that stand, and the slots that owe nothing, because of a row or a refusal."""

    base: Dataset
    kept: pl.DataFrame
    settled: pl.DataFrame


def _extended(step: Step, warehouse: Warehouse, rows: pl.DataFrame, versions: list[Manifest], wanted: dict[str, int], *,
              failures: bool) -> _Extended | None:
    """The version of which most rows stand, the first among equals: after a rehearsal on a few rows, or after fewer
    samples, the newest would not do."""
    best: _Extended | None = None
    for version in versions:
        base = warehouse.dataset(version.ref)
        inputs = rows["row_id"] if not step.spec.asks_model else _same_occurrence(warehouse, version, rows)
        kept = standing_rows(base, inputs, wanted)
        refused = _refused_slots(base, inputs, wanted, failures=failures)
        settled = pl.concat([conform(kept.rename({"row_id": "_", "parent": "row_id"}), STANDING), refused])
        if settled.height and (best is None or kept.height > best.kept.height):
            best = _Extended(base, kept, settled.unique(maintain_order=True))
        if best is not None and best.settled.height == rows.height * wanted.get("n", rows.height + 1):
            break
    return best


def _same_occurrence(warehouse: Warehouse, version: Manifest, rows: pl.DataFrame) -> pl.Series:
    """Ids of rows that are the same one of several equal rows as for that version:
    which one is part of the answer key."""
    plan = _frozen(warehouse, version.work_key)
    if plan is None or plan.occurrences is None:
        return rows.filter(pl.col("occurrence") == 0)["row_id"]
    then = read_part(warehouse.store, plan.occurrences).rename({"occurrence": "then"})
    joined = rows.join(then, on="row_id", how="left", maintain_order="left")
    return joined.filter(pl.col("occurrence") == pl.col("then").fill_null(0))["row_id"]


def _refused_slots(base: Dataset, inputs: pl.Series, wanted: dict[str, int], *, failures: bool) -> pl.DataFrame:
    """Slots of the base that were rejected, and (unless they are tried again) those that failed."""
    frames = [pl.DataFrame(schema=STANDING)]
    for table in ("rejections", "failures") if failures else ("rejections",):
        if base.parts(table):
            frame = base.table(table).select("row_id", "slot").collect()
            frame = frame.filter(pl.col("row_id").is_in(inputs.implode()))
            frames.append(frame.filter(pl.col("slot") < wanted["n"]) if "n" in wanted else frame)
    return conform(pl.concat(frames), STANDING)


def _superseded(warehouse: Warehouse, found: _Extended) -> Part | None:
    """All rows in the base's parts that no longer count, as a part; None when there are none."""
    every = found.base.table("rows").select("row_id").collect()["row_id"]
    gone = every.filter(~every.is_in(found.kept["row_id"].implode())).sort()
    return write_part(warehouse.store, pl.DataFrame({"row_id": gone})) if gone.len() else None


def _full(settled: pl.DataFrame, wanted: dict[str, int]) -> set[int]:
    """Input rows that owe nothing any more, where the op says how many slots a row has."""
    if "n" not in wanted:
        return set()
    return set(settled.group_by("row_id").len().filter(pl.col("len") >= wanted["n"])["row_id"].to_list())


def _slices(shards: list[InputShard], size: int, owed_none: set[int], warehouse: Warehouse) -> list[dict[str, Any]]:
    slices: list[dict[str, Any]] = []
    for shard in shards:
        for start in range(0, shard.rows, size):
            stop = min(start + size, shard.rows)
            if owed_none:
                ids = (shard.ids if shard.ids is not None
                       else read_part(warehouse.store, shard.part, ["row_id"])["row_id"])
                if all(row_id in owed_none for row_id in ids.slice(start, stop - start).to_list()):
                    continue
            slices.append({"number": len(slices), "digest": shard.digest, "start": start, "stop": stop,
                           "rows": stop - start})
    return slices


def _prepare_score(step: Step, warehouse: Warehouse, call: StepCall, inputs: list[Manifest], retried: Manifest | None,
                   workers: int) -> Prepared:
    work = _frozen(warehouse, call.work_key)
    if work is None:
        shards = []
        heard = [inputs[step.inputs.index(name)] for name in step.decl.heard]
        for number, shard in enumerate(input_shards(warehouse.dataset(inputs[0].ref))):
            said = said_of(shard.part.sha256, heard)
            name = part_name(shard.digest, said)
            marker, previous = _score_marker(warehouse, call.op_key, name, retried is not None)
            shards.append({"number": number, "digest": shard.digest, "marker": marker, "previous": previous,
                           "verdicts": said, "rows": shard.rows})
        work = _freeze(warehouse, step, WorkPlan(key=call.work_key, shards=tuple(shards)), namespace=False)
    if step.spec.asks_model:
        asking = _pump_tasks(step, call, [dict(shard) for shard in work.shards], workers, "score_pump:run_score_pump")
        return Prepared(call, work, [asking], inputs, None)
    tasks = [Task(f"{KINDS}.score:run_score", call, dict(shard), step.name) for shard in work.shards]
    return Prepared(call, work, [tasks], inputs, None)


def _score_marker(warehouse: Warehouse, op_key: str, name: str, retry: bool) -> tuple[str, str | None]:
    """The record to use or make for an input part, and the one whose failures it tries again."""
    attempt = attempts_at(warehouse.store, op_key, name)
    newest = attempt_name(name, attempt)
    if retry and warehouse.store.exists(layout.work_shard(op_key, newest)):
        record = ShardRecord.model_validate_json(warehouse.store.get(layout.work_shard(op_key, newest)))
        if record.counts.failed:
            return attempt_name(name, attempt + 1), newest
    return newest, None


def _prepare_global(step: Step, warehouse: Warehouse, call: StepCall, inputs: list[Manifest], retried: Manifest | None,
                    workers: int) -> Prepared:
    """`input` of a shard is the index of its dataset: 0 for the judged rows, above it those of `against`."""
    found = [(index, shard) for index in range(1 + len(step.decl.compared))
             for shard in input_shards(warehouse.dataset(inputs[index].ref))]
    shards = [{"number": number, "input": index, "digest": shard.digest, "rows": shard.rows}
              for number, (index, shard) in enumerate(found)]
    work = _freeze(warehouse, step, WorkPlan(key=call.work_key, shards=tuple(shards)), namespace=False)
    shards = [dict(shard) for shard in work.shards if not shard.get("input")]
    measured = shards
    if step.spec.compares:  # the same rows may be in two datasets of `against`; they are measured once
        others: dict[str, dict[str, Any]] = {}
        for shard in (dict(shard) for shard in work.shards if shard.get("input")):
            held = others.get(shard["digest"], {}).get("held", [])
            others[shard["digest"]] = {**shard, "held": [*held, shard["input"]]}
        own = {str(shard["digest"]): shard for shard in shards} if step.spec.measures_both else {}
        measured = list({**own, **others}.values())
    module = f"{KINDS}.collective"
    named = [{"digest": s["digest"], "input": s.get("input", 0), "held": s.get("held", [0])} for s in measured]
    merge = {"number": 0, "measured": named,
             "rows": sum(int(str(s["rows"])) for s in shards)}
    groundwork = [Task(f"{module}:run_partial", call, shard, step.name) for shard in measured]
    stages = [[Task(f"{module}:run_merge_partials", call, merge, step.name)]]
    if step.spec.judges:
        stages.append([Task(f"{module}:run_decide", call, shard, step.name) for shard in shards])
    return Prepared(call, work, stages, inputs, None, groundwork)


def _prepare_one(step: Step, warehouse: Warehouse, call: StepCall, inputs: list[Manifest], retried: Manifest | None,
                 workers: int) -> Prepared:
    """Kinds that are one task: MERGE, SELECT, TRAIN, REPORT, GATE, PUBLISH."""
    function = {Kind.MERGE: "rows:run_merge", Kind.SELECT: "select:run_select"}.get(step.kind, "deliver:run_deliver")
    draft = WorkPlan(key=call.work_key, shards=({"number": 0},))
    work = _freeze(warehouse, step, draft, namespace=step.kind is Kind.MERGE)
    call = replace(call, namespace=work.namespace)
    return Prepared(call, work, [[Task(f"{KINDS}.{function}", call, {"number": 0}, step.name)]], inputs, None)


def code_digest(step: Step) -> str:
    """sha256 of the op's module source: recorded, and compared to warn when code changed under the same version."""
    return hashlib.sha256(step.spec.source_text().encode()).hexdigest()
