"""What is there already: matches a plan against a warehouse, and says why a step has to run.

A step is reused when a version with its fingerprint exists under its dataset name, made from exactly the rows its
inputs have now. Inputs are resolved first, so the answer never depends on names or times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from factory.engine.identity import difference
from factory.engine.op import Kind
from factory.engine.plan import Plan, Step
from factory.engine.prepare import code_digest
from warehouse import Warehouse
from warehouse.records import Manifest


@dataclass(slots=True)
class Status:
    """`reuse` (with the version) or `run` (with the reason)."""

    step: str
    state: str
    manifest: Manifest | None = None
    reason: str = ""
    warnings: list[str] = field(default_factory=list)


def find_version(step: Step, warehouse: Warehouse, inputs: list[Manifest]) -> Manifest | None:
    """The version that this step would make again, if it exists."""
    wanted = [found.parts_digest for found in inputs]
    versions = [found for found in warehouse.find(step.fingerprint)
                if found.dataset == step.dataset and [item.parts_digest for item in found.inputs] == wanted
                and (found.kind != "checkpoint" or warehouse.has_checkpoint(found.facts["checkpoint"]))]
    return max(versions, key=lambda found: found.version, default=None)


def resolve_status(plan: Plan, warehouse: Warehouse | None) -> dict[str, Status]:
    """The status of every step, in plan order. Without a warehouse everything runs."""
    statuses: dict[str, Status] = {}
    for name, step in plan.steps.items():
        missing = [source for source in step.inputs if statuses[source].manifest is None]
        if warehouse is None:
            statuses[name] = Status(name, "run", reason="the warehouse does not exist yet")
        elif missing:
            statuses[name] = Status(name, "run", reason=f"waits for {', '.join(missing)}")
        else:
            inputs = [statuses[source].manifest for source in step.inputs]
            statuses[name] = _status(step, warehouse, [found for found in inputs if found is not None])
    return statuses


def _status(step: Step, warehouse: Warehouse, inputs: list[Manifest]) -> Status:
    found = find_version(step, warehouse, inputs)
    if found is None:
        return Status(step.name, "run", reason=why_not_reused(step, warehouse, inputs))
    warnings = []
    if found.code_sha256 and found.code_sha256 != code_digest(step):
        warnings.append(f"the code of {step.spec.name} changed but its version is still {step.spec.version}: "
                        f"{found.ref} is reused; raise the version if results differ")
    if step.kind is Kind.PUBLISH:
        return Status(step.name, "run", reason="publishing checks its destination every time", warnings=warnings)
    return Status(step.name, "reuse", found, warnings=warnings)


def previous_version(step: Step, warehouse: Warehouse) -> Manifest | None:
    """The newest version of the step's dataset, which a new one is compared to."""
    versions = [found for found in warehouse.manifests() if found.dataset == step.dataset]
    return versions[-1] if versions else None


def why_not_reused(step: Step, warehouse: Warehouse, inputs: list[Manifest]) -> str:
    """One line: what differs from the newest version."""
    previous = previous_version(step, warehouse)
    if previous is None:
        return "never made before"
    changes = explain(step, previous, inputs)
    return f"{previous.ref} differs in {', '.join(name for name, _, _ in changes) or 'nothing that is recorded'}"


def explain(step: Step, previous: Manifest, inputs: list[Manifest]) -> list[tuple[str, Any, Any]]:
    """Every field in which the step differs from an earlier version: (field, then, now)."""
    then = {key: value for key, value in previous.identity.items() if key != "inputs"}
    now = {key: value for key, value in step.identity.items() if key != "inputs"}
    changes = difference(then, now)
    for index, found in enumerate(inputs):
        old = previous.inputs[index] if index < len(previous.inputs) else None
        if old is None or old.parts_digest != found.parts_digest:
            changes.append((f"input {step.inputs[index]}", old.ref if old else None, found.ref))
    if len(previous.inputs) != len(step.inputs):
        changes.append(("inputs", len(previous.inputs), len(step.inputs)))
    return changes
