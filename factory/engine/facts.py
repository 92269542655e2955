"""Facts that travel with a step beside its identity: what a select step needs to know of its rules,
what a card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.engine.errors import ModelError
from factory.engine.op import Kind
from factory.engine.plan import Plan, Step, content_root
from factory.engine.where import dedup_rule
from factory.models.spec import ModelSpec, ResolvedModel, resolve
from warehouse import NotInWarehouse, Warehouse
from warehouse.records import Manifest, StepReport


def task_facts(plan: Plan, step: Step, inputs: list[Manifest], reports: list[StepReport]) -> dict[str, Any]:
    """What workers of this step need to know of the plan around it."""
    if step.kind is Kind.SELECT:
        dedup = {rule.step: dedup_rule(rule, plan.steps[rule.step].spec.func.threshold(plan.steps[rule.step].params))
                 for rule in step.rules if plan.steps[rule.step].spec.dedup}
        return {"rule_inputs": {rule.step: step.inputs.index(rule.step) for rule in step.rules}, "dedup_rules": dedup,
                "rule_covers": {rule.step: _covered(plan, step, rule.step) for rule in step.rules}}
    if step.kind is Kind.SCORE:
        return {"verdicts": {name: step.inputs.index(name) for name in step.decl.heard}}
    if step.kind in (Kind.PUBLISH, Kind.TRAIN, Kind.REPORT, Kind.GATE):
        models = sorted({s.model.name for s in plan.steps.values() if s.model is not None})
        return {"input_names": step.inputs[: step.from_inputs], "recipe": plan.recipe_name,
                "recipe_text": plan.loaded.text, "content_hash": inputs[0].content_hash, "models": models,
                "partial": step.partial,
                "notes": {name: note(found) for name, found in zip(step.inputs, inputs, strict=True)},
                "license": sorted({name for found in inputs for name in found.license}),
                "funnel": [{"step": report.step, "ref": report.ref, "op": report.op, **report.counts.model_dump()}
                           for report in reports]}
    return {}


def _covered(plan: Plan, step: Step, scored: str) -> list[int]:
    """The `from` inputs that a scored step speaks of: those with rows of the steps whose rows it was given."""
    roots = content_root(plan.steps, scored)
    return [index for index, source in enumerate(step.inputs[: step.from_inputs])
            if content_root(plan.steps, source) & roots]


def note(found: Manifest) -> dict[str, Any]:
    """What a step that takes several inputs may know of each, beside its rows."""
    return {"ref": found.ref, "kind": found.kind, "op": found.op, "rows": found.row_count,
            "counts": found.counts.model_dump(), "model": found.facts.get("model"),
            "by_checkpoint": found.facts.get("by_checkpoint"), "checkpoint": found.facts.get("checkpoint"),
            "metrics": found.facts.get("metrics", {}), "weighted": bool(found.facts.get("weighted")),
            "tables": sorted(found.tables),
            "passed": found.facts.get("passed"), "reason": found.facts.get("reason"),
            "inputs": [{"role": item.role, "ref": item.ref} for item in found.inputs]}


def checkpoint_finder(warehouse: Warehouse | None, scratch: Path | None = None) -> Any:
    """For `resolve`: lays a checkpoint of the warehouse out in a folder (under `scratch`, else under the warehouse's
    own), and says what identifies it."""

    def find(ref: str) -> tuple[Path, dict[str, Any], str]:
        if warehouse is None:
            raise ModelError(f"checkpoint {ref!r}: the warehouse that should hold it does not exist: train it first, "
                             "or name another warehouse")
        try:
            record = warehouse.checkpoint(ref)
        except NotInWarehouse as error:
            raise ModelError(str(error)) from None
        own = f"tmp/checkpoints/{record.commit_id}"
        folder = scratch / own if scratch is not None else warehouse.store.path(own)
        return warehouse.checkpoint_folder(record, folder), {"files": record.files}, record.ref

    return find


def model_of(step: Step, warehouse: Warehouse, inputs: list[Manifest]) -> ResolvedModel | None:
    """The model a step asks: the recipe's, or the checkpoint that its train step has made."""
    if step.model_step is None:
        return step.model
    return resolve(ModelSpec(checkpoint=inputs[-1].facts["checkpoint"]), Path("."), checkpoint_finder(warehouse))
