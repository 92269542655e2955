"""The verbs as Python functions: plan, run, preview, apply. The command line calls these and prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import UsageError
from factory.engine.executors.base import make_executor
from factory.engine.facts import checkpoint_finder
from factory.engine.plan import Plan, make_plan
from factory.engine.progress import Progress
from factory.engine.recipe import load_recipe
from factory.engine.resolve import Status, resolve_status
from factory.engine.run import Driver, RunReport
from warehouse import NotInWarehouse, Warehouse
from warehouse.store import DEFAULT_ROOT


@dataclass(slots=True)
class Planned:
    """A plan and what of it is there already: `statuses[step].state` is `reuse` or `run`."""

    plan: Plan
    statuses: dict[str, Status]
    warehouse: Warehouse | None


def plan(recipe: str | Path, *, warehouse: str | Path = DEFAULT_ROOT, vars: Mapping[str, Any] | None = None,
         overrides: Mapping[str, Any] | None = None, limit: int | None = None, until: str | None = None) -> Planned:
    """What a run would do. Creates nothing.

    Args:
        recipe: path of a YAML recipe.
        warehouse: folder of the warehouse; it need not exist.
        vars: values for the recipe's `vars`.
        overrides: dotted paths to values, as `{"steps.samples.params.n": 8}`.
        limit: truncate every source to this many records.
        until: plan only what this step needs.

    Raises:
        RecipeError: the recipe is wrong (file, line and field are named).
    """
    opened = _opened(warehouse)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give at least 1 record")
    loaded = load_recipe(recipe, overrides=overrides, variables=vars)
    made = make_plan(loaded, limit=limit, until=until, checkpoints=checkpoint_finder(opened))
    return Planned(made, resolve_status(made, opened), opened)


def run(recipe: str | Path, *, warehouse: str | Path = DEFAULT_ROOT, vars: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None, limit: int | None = None, until: str | None = None,
        executor: str = "local", workers: int | None = None, retry_failed: bool = False,
        progress: Progress | None = None) -> RunReport:
    """Run a recipe: make what is missing, reuse what is there.

    Takes what `plan` takes, and:
        executor: `local` (worker processes) or `inline` (this process).
        workers: worker processes (default: the cores there are).
        retry_failed: also try failed rows again, as an increment.

    Returns:
        RunReport: `status` (succeeded, failed, stopped, interrupted), `steps` with counts, `manifests` by step. A step
        that fails is in the report; only a wrong recipe raises.
    """
    planned = plan(recipe, warehouse=warehouse, vars=vars, overrides=overrides, limit=limit, until=until)
    return execute(planned, warehouse=warehouse, executor=executor, workers=workers, retry_failed=retry_failed,
                   progress=progress)


def execute(planned: Planned, *, warehouse: str | Path = DEFAULT_ROOT, executor: str = "local",
            workers: int | None = None, retry_failed: bool = False, progress: Progress | None = None) -> RunReport:
    """Run what `plan` planned, without reading recipe, sources and models again. Otherwise as `run`."""
    if "://" in str(warehouse):
        raise UsageError(f"{warehouse}: recipes run on a warehouse in a folder; one on object storage can be read, "
                         "published from and kept, and committed to through the warehouse's own API")
    opened = planned.warehouse or Warehouse(warehouse, create=True)
    runner = make_executor(executor, workers)
    try:
        return Driver(planned.plan, opened, runner, progress, retry_failed=retry_failed).run()
    finally:
        runner.close()


def preview(recipe: str | Path, step: str, *, rows: int = 3, vars: Mapping[str, Any] | None = None,
            overrides: Mapping[str, Any] | None = None, ask: bool = True,
            warehouse: str | Path = DEFAULT_ROOT) -> list[dict[str, Any]]:
    """Show what a model-asking step would ask, what the model answers and what the steps after it would say of that;
    writes nothing. Checkpoints are looked up in `warehouse`. See `factory.engine.preview`."""
    from factory.engine.preview import preview_step

    loaded = load_recipe(recipe, overrides=overrides, variables=vars)
    return preview_step(loaded, step, rows, ask=ask, warehouse=_opened(warehouse))


def _opened(root: str | Path) -> Warehouse | None:
    try:
        return Warehouse(root)
    except NotInWarehouse:
        return None


def apply(op: str, source: str | Path, target: str | Path, *, params: Mapping[str, Any] | None = None,
          tell: Callable[[int, float], None] = lambda _rows, _share: None) -> pl.DataFrame:
    """Run a row op on a plain file, with no recipe and no warehouse; returns the op's columns, a row for each row of
    the file. See `factory.engine.apply`."""
    from factory.engine.apply import apply_op

    return apply_op(op, Path(source), Path(target), params or {}, tell)
