"""Where a checkpoint comes from: what trained it, what it was trained from, and which checkpoints wrote that data.

A chain follows `base` from one checkpoint to the next, down to a model that is none. A story adds the chains of the
checkpoints that wrote the datasets on a chain, so the whole loop is told, each checkpoint once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from warehouse.errors import NotInWarehouse
from warehouse.records import CheckpointRecord, Manifest

if TYPE_CHECKING:
    from warehouse.store import Warehouse


@dataclass(frozen=True, slots=True)
class Learned:
    """A dataset version that trained a checkpoint: its rows, the op that made it, the checkpoints that wrote its rows
    or their ancestors."""

    ref: str
    rows: int
    op: str
    writers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Training:
    """How one checkpoint was made: `op` (None: its step was never committed) trained `base` on `datasets`. `base` is a
    checkpoint, another model, or, when `untrained`, a config with random weights."""

    checkpoint: str
    op: str | None
    datasets: tuple[Learned, ...]
    base: str | None
    from_checkpoint: bool
    untrained: bool
    run_id: str
    metrics: dict[str, float] = field(default_factory=dict)


def ancestry(warehouse: Warehouse, ref: str) -> list[Training]:
    """The chain of a checkpoint (`name@2`, or the latest of `name`), itself first. Raises NotInWarehouse."""
    return _Family(warehouse).chain(warehouse.checkpoint(ref).ref, set())


def trainings(warehouse: Warehouse, refs: Sequence[str]) -> dict[str, Training]:
    """How each of these was made; refs that are no checkpoints of this warehouse are left out."""
    family = _Family(warehouse)
    return {ref: family.training(family.records[ref]) for ref in refs if ref in family.records}


def story(warehouse: Warehouse, refs: Sequence[str]) -> list[list[Training]]:
    """The chains of these checkpoints, then those of the checkpoints that wrote what trained them, and so on. A chain
    stops before a checkpoint that was told; refs that are no checkpoints of this warehouse are left out."""
    family = _Family(warehouse)
    told: set[str] = set()
    waiting = [ref for ref in refs if ref in family.records]
    chains = []
    while waiting:
        chain = family.chain(waiting.pop(0), told)
        if chain:
            chains.append(chain)
        waiting += [name for training in chain for learned in training.datasets for name in learned.writers]
    return chains


class _Family:
    """The checkpoints of a warehouse, read once."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.records: dict[str, CheckpointRecord] = {found.ref: found for found in warehouse.checkpoints()}

    @cached_property
    def steps(self) -> dict[str, Manifest]:
        """The train step's version of each checkpoint."""
        return {found.facts["checkpoint"]: found for found in self.warehouse.manifests() if found.kind == "checkpoint"}

    def chain(self, ref: str, told: set[str]) -> list[Training]:
        found = []
        at: str | None = ref
        while at in self.records and at not in told:
            told.add(at)
            found.append(self.training(self.records[at]))
            at = found[-1].base
        return found

    def training(self, record: CheckpointRecord) -> Training:
        step = self.steps.get(record.ref)
        model = (step.identity.get("model") or {}) if step is not None else {}
        return Training(record.ref, step.op if step is not None else None,
                        tuple(self.learned(ref) for ref in record.trained_on), record.base,
                        record.base in self.records, "init_seed" in model, record.run_id, record.metrics)

    def learned(self, ref: str) -> Learned:
        try:
            found = self.warehouse.manifest(ref)
        except NotInWarehouse:  # its record is gone, its name is still worth telling
            return Learned(ref, 0, "")
        return Learned(found.ref, found.row_count, found.op, self.writers(found.ref))

    def writers(self, ref: str) -> tuple[str, ...]:
        """The checkpoints that wrote a dataset's rows or their ancestors, nearest first."""
        names: list[str] = []
        seen = [ref]
        for at in seen:
            manifest = self.warehouse.manifest(at)
            by = manifest.facts.get("by_checkpoint")
            if by is not None and manifest.kind == "rows" and by not in names:
                names.append(by)
            sources = manifest.inputs[: manifest.facts.get("from_inputs", 1)]
            seen += [item.ref for item in sources if item.ref not in seen]
        return tuple(names)
