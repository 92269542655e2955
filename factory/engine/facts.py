"""Facts that travel with a step beside its identity: what a select step needs to know of its rules,
what a card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.engine.errors import ModelError
from factory.engine.op import Kind
from factory.engine.plan import Plan, Step
from factory.engine.where import dedup_rule
from factory.models.spec import ModelSpec, ResolvedModel, resolve
from warehouse import NotInWarehouse, Warehouse
from warehouse.records import Manifest, StepReport


def task_facts(plan: Plan, step: Step, inputs: list[Manifest], reports: list[StepReport]) -> dict[str, Any]:
    """What workers of this step need to know of the plan around it."""
    if step.kind is Kind.SELECT:
        dedup = {rule.step: dedup_rule(rule, plan.steps[rule.step].spec.func.threshold(plan.steps[rule.step].params))
                 for rule in step.rules if plan.steps[rule.step].spec.dedup}
        return {"rule_inputs": {rule.step: step.inputs.index(rule.step) for rule in step.rules}, "dedup_rules": dedup}
    if step.kind in (Kind.PUBLISH, Kind.TRAIN, Kind.GATE):
        models = sorted({s.model.name for s in plan.steps.values() if s.model is not None})
        return {"input_names": step.inputs[: step.from_inputs], "recipe": plan.recipe_name,
                "recipe_text": plan.loaded.text, "content_hash": inputs[0].content_hash, "models": models,
                "license": sorted({name for found in inputs for name in found.license}),
                "funnel": [{"step": report.step, **report.counts.model_dump()} for report in reports]}
    return {}


def checkpoint_finder(warehouse: Warehouse | None) -> Any:
    """For `resolve`: lays a checkpoint of the warehouse out in a folder, and says what identifies it."""

    def find(ref: str) -> tuple[Path, dict[str, Any]]:
        if warehouse is None:
            raise ModelError(f"checkpoint {ref!r}: the warehouse that should hold it does not exist: train it first, "
                             "or name another warehouse")
        try:
            record = warehouse.checkpoint(ref)
        except NotInWarehouse as error:
            raise ModelError(str(error)) from None
        folder = warehouse.store.path(f"tmp/checkpoints/{record.commit_id}")
        return warehouse.checkpoint_folder(record, folder), {"files": record.files}

    return find


def model_of(step: Step, warehouse: Warehouse, inputs: list[Manifest]) -> ResolvedModel | None:
    """The model a step asks: the recipe's, or the checkpoint that its train step has made."""
    if step.model_step is None:
        return step.model
    return resolve(ModelSpec(checkpoint=inputs[-1].facts["checkpoint"]), Path("."), checkpoint_finder(warehouse))
