"""Re-verification: what older versions of the verifiers have judged is judged again, and nothing is generated.

For the latest version of every dataset of verdicts whose verifier is newer now, the same rows are scored with the same
params, and the scores become the next version of that dataset. Each is an ordinary step with an ordinary fingerprint:
lineage and the catalog see no difference, and a recipe that is run afterwards finds its verdicts made. Verdicts that
depend on more than rows (a model that judges, verdicts that are combined) are made anew by their recipe, not here.

A verifier whose code changed under the same version is only named: its verdicts keep their identity, so they would be
found and not made. Raise its version if its results differ.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from factory.engine.errors import FactoryError, OpError, UsageError
from factory.engine.executors.base import Executor
from factory.engine.identity import digest
from factory.engine.op import OpSpec, Params, PlanContext, get_op
from factory.engine.plan import Plan, Step
from factory.engine.progress import Progress, Silent
from factory.engine.recipe import LoadedRecipe, Recipe, StepDecl
from factory.engine.recipe_yaml import Positions
from factory.engine.run import Driver, RunReport
from factory.engine.runtime import StepRuntime
from factory.engine.verdicts import VerdictDiff, diff_verdicts
from warehouse import NotInWarehouse, Warehouse
from warehouse.errors import WarehouseError
from warehouse.records import Manifest


@dataclass(slots=True)
class Stale:
    """Verdicts that an older version of their verifier wrote. `state`: `stale` (can be judged again), `code` (the code
    changed, the version did not), `skipped` (`why` says what is in the way); after `reverify` also `done`, with the new
    version and how it differs (where that can be told, else `why` not), or `failed`."""

    ref: str
    op: str
    then: int
    now: int
    state: str
    why: str = ""
    made: str | None = None
    changed: VerdictDiff | None = None


@dataclass(slots=True)
class _Work:
    told: Stale
    step: Step
    source: Manifest
    recipe: str


def find_stale(warehouse: Warehouse, prefix: str = "", op: str | None = None,
               plugins: Sequence[str] = (), looked: Callable[[int], None] = lambda _datasets: None) -> list[Stale]:
    """Verdicts whose verifier changed since, by dataset. `prefix` and `op` narrow the search; `plugins` are modules
    (of the current folder or installed) that define further verifiers; `looked` hears how many datasets of verdicts
    were looked at.

    Raises:
        UsageError: no dataset of verdicts has the prefix, `op` is no verifier, or a plugin cannot be imported.
    """
    return [work.told if isinstance(work, _Work) else work for work in _survey(warehouse, prefix, op, plugins, looked)]


def reverify(warehouse: Warehouse, executor: Executor, prefix: str = "", op: str | None = None,
             plugins: Sequence[str] = (), progress: Callable[[list[str]], Progress] = lambda _steps: Silent(),
             max_failed: float | None = None, looked: Callable[[int], None] = lambda _datasets: None,
             ) -> tuple[list[Stale], list[RunReport]]:
    """Judge again what is stale (see `find_stale`). `progress` makes what a run tells, from the names of its steps;
    `max_failed` is the share of rows that may fail, in place of the default. Returns every dataset whose verifier
    changed, and the report of each run. After an interruption the rest stays stale."""
    found = _survey(warehouse, prefix, op, plugins, looked)
    reports = []
    for group in _groups([work for work in found if isinstance(work, _Work)]):
        for work in group if max_failed is not None else ():
            work.step.runtime = work.step.runtime.model_copy(update={"max_failed": max_failed})
        plan = _plan(group, plugins)
        driver = Driver(plan, warehouse, executor, progress(list(plan.steps)),
                        given={work.source.ref: work.source for work in group})
        report = driver.run()
        reports.append(report)
        for work, step in zip(group, report.steps, strict=True):
            if step.ref is not None:
                work.told.state, work.told.made = "done", step.ref
                _compare(warehouse, work.told, step.ref)
            elif step.status != "skipped":
                why = step.error or f"the step was {step.status}"
                work.told.state = "failed"
                work.told.why = why.replace(f"steps.{step.step}.runtime.max_failed", "--max-failed")
        if report.status == "interrupted":  # the executor has stopped for good
            break
    return [work.told if isinstance(work, _Work) else work for work in found], reports


def _compare(warehouse: Warehouse, told: Stale, made: str) -> None:
    """Say what changed. The verdicts are committed, so no fault in telling may keep the others from being judged."""
    try:
        told.changed = diff_verdicts(warehouse, told.ref, made)
    except (FactoryError, WarehouseError, pl.exceptions.PolarsError, ValueError) as error:
        told.why = f"what changed cannot be told ({error})"


def _survey(warehouse: Warehouse, prefix: str, op: str | None, plugins: Sequence[str],
            looked: Callable[[int], None]) -> list[_Work | Stale]:
    for module in plugins:
        _import(module)
    if op is not None and not get_op(op).verifies:
        raise UsageError(f"{op} is no verifier: `factory ls --ops verify` lists them")
    latest = (warehouse.manifest(ref) for name, ref in warehouse.latest_versions().items() if name.startswith(prefix))
    verdicts = [found for found in latest if found.kind == "scores" and _verifies(found.op)]
    if prefix and not verdicts:
        raise UsageError(f"no dataset of verdicts has a name that begins with {prefix!r}: `factory ls` shows the names "
                         "and their ops")
    wanted = [found for found in verdicts if op in (None, found.op)]
    looked(len(wanted))
    return [each for each in (_look(warehouse, found) for found in wanted) if each is not None]


def _verifies(op: str) -> bool:
    try:
        return get_op(op).verifies
    except OpError:  # a plugin's that is not loaded
        return op.startswith("verify.")


def _import(module: str) -> None:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.import_module(module)
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"plugin module {module!r} cannot be imported ({error}): install it, or run where it lies") \
            from error


def _look(warehouse: Warehouse, found: Manifest) -> _Work | Stale | None:
    """One dataset: None where its verifier is the same as then, or is none."""
    told = Stale(found.ref, found.op, found.op_version, found.op_version, "skipped")
    try:
        spec = get_op(found.op)
    except OpError:
        told.why = "its op is not known here: name its module with --plugin"
        return told
    told.now = spec.version
    if spec.version < found.op_version:
        return None
    if spec.version == found.op_version:
        told.state = "code"
        return told if _code_changed(spec, found) else None
    if spec.asks_model or len(found.inputs) != 1:
        told.why = "it depends on more than rows: run its recipe again"
        return told
    try:
        params = spec.params.model_validate(found.identity["params"])
        source = warehouse.manifest(found.inputs[0].ref)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        told.why = f"version {spec.version} does not take its params ({'.'.join(map(str, fault['loc']))}: " \
                   f"{fault['msg']}): change the recipe and run it"
        return told
    except NotInWarehouse:
        told.why = f"the rows it judged, {found.inputs[0].ref}, were deleted"
        return told
    told.state = "stale"
    return _Work(told, _step(found, spec, params), source, found.recipe)


def _code_changed(spec: OpSpec, found: Manifest) -> bool:
    return bool(found.code_sha256) and hashlib.sha256(spec.source_text().encode()).hexdigest() != found.code_sha256


def _step(found: Manifest, spec: OpSpec, params: Params) -> Step:
    """The step that wrote a version, as the op would plan it today: the same rows and params, another version."""
    kept = {name: value for name, value in params.model_dump(mode="json").items() if name not in spec.provenance}
    identity: dict[str, Any] = {"op": spec.name, "version": spec.version, "params": kept,
                                "inputs": found.identity["inputs"]}
    extra = spec.identity(params, PlanContext(Path.cwd())) if spec.identity is not None else None
    if extra is not None:
        identity["content"] = extra
    family = {**identity, "params": {name: value for name, value in kept.items() if name not in spec.extensible}}
    del family["inputs"]
    ref = found.inputs[0].ref
    return Step(
        name=found.step, spec=spec, decl=StepDecl.model_validate({"op": spec.name, "from": ref, "name": found.dataset}),
        params=params, runtime=StepRuntime.model_validate({}), inputs=[ref], from_inputs=1, rules=[], model=None,
        model_step=None, source=None, seed=0, dataset=found.dataset, identity=identity, fingerprint=digest(identity),
        family=digest(family), partial=found.partial, at=("steps", found.step))


def _groups(works: list[_Work]) -> list[list[_Work]]:
    """Runs: verdicts of one recipe together, unless two steps have one name."""
    groups: list[list[_Work]] = []
    for work in works:
        for group in groups:
            if group[0].recipe == work.recipe and all(each.step.name != work.step.name for each in group):
                group.append(work)
                break
        else:
            groups.append([work])
    return groups


def _plan(group: list[_Work], plugins: Sequence[str]) -> Plan:
    declared = {work.step.name: work.step.decl for work in group}
    recipe = Recipe(recipe=group[0].recipe, plugins=list(plugins), steps=declared)
    text = "# verdicts made again by a newer verifier\n" + "".join(
        f"# {work.told.ref}: {work.told.op} {work.told.then} -> {work.told.now}\n" for work in group)
    loaded = LoadedRecipe(recipe, Path.cwd() / "reverify", text, Positions())
    return Plan(loaded, {work.step.name: work.step for work in group})
