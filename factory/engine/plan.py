"""From a recipe to a plan: validated steps in order, each with its fingerprint. Needs no warehouse and creates nothing.

Which steps are already there is decided in `factory.engine.resolve`, against a warehouse.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from factory.engine.errors import DataError, ModelError, OpError
from factory.engine.identity import canonical, digest
from factory.engine.op import (
    CONTENT_KINDS,
    SCORE_SCHEMA,
    Kind,
    OpSpec,
    Params,
    PlanContext,
    SourcePlan,
    get_op,
)
from factory.engine.recipe import LoadedRecipe, StepDecl
from factory.engine.recipe_yaml import near, validation_error
from factory.engine.runtime import StepRuntime
from factory.engine.unroll import FlatStep, flatten
from factory.engine.where import Rule, dedup_rule, misfit, parse_where
from factory.models.open import check_runnable
from factory.models.spec import ModelSpec, ResolvedModel, resolve

Settings = TypeVar("Settings", bound=BaseModel)
MODEL_SOURCES = ("hub", "path", "package", "checkpoint", "config", "served", "replay")

SEEDED = frozenset({Kind.SOURCE, Kind.MAP, Kind.EXPAND, Kind.MERGE, Kind.SELECT, Kind.GLOBAL, Kind.TRAIN})
"""Kinds whose result may depend on the seed. Scores that ask no model, gates and receipts do not, so a new seed leaves
them alone."""


@dataclass(slots=True)
class Step:
    """A planned step. `inputs` are step names: first those of `from`, then scored steps of `where`, those of
    `verdicts`, those of `against`, then the train step that provides the model."""

    name: str
    spec: OpSpec
    decl: StepDecl
    params: Params
    runtime: StepRuntime
    inputs: list[str]
    from_inputs: int
    rules: list[Rule]
    model: ResolvedModel | None
    model_step: str | None
    source: SourcePlan | None
    seed: int
    dataset: str
    identity: dict[str, Any]
    fingerprint: str
    family: str
    partial: bool
    at: tuple[str | int, ...]

    @property
    def kind(self) -> Kind:
        return self.spec.kind

    @property
    def op_key(self) -> str:
        """Identity of the op's work on one input part: the fingerprint without inputs."""
        return digest({key: value for key, value in self.identity.items() if key != "inputs"})


@dataclass(slots=True)
class Plan:
    """Steps in an order in which they can run."""

    loaded: LoadedRecipe
    steps: dict[str, Step]
    limit: int | None = None

    @property
    def recipe_name(self) -> str:
        return self.loaded.recipe.recipe


def make_plan(loaded: LoadedRecipe, *, limit: int | None = None, until: str | None = None,
              checkpoints: Any = None) -> Plan:
    """Validate a recipe and fingerprint its steps.

    Args:
        loaded: from `load_recipe`.
        limit: truncate every source to this many records; the outputs are marked partial.
        until: keep only what this step needs.
        checkpoints: callable name -> (folder, identity) for models that are checkpoints of a warehouse.

    Raises:
        RecipeError, OpError, DataError, ModelError: with file, line and field where there is one.
    """
    _import_plugins(loaded)
    _validated(loaded, StepRuntime, loaded.recipe.runtime, "runtime")
    flat = flatten(loaded)
    by_name = {step.name: step for step in flat}
    order = _order(loaded, by_name, until)
    models = _Models(loaded, checkpoints)
    steps: dict[str, Step] = {}
    for name in order:
        steps[name] = _plan_step(loaded, by_name[name], steps, models, limit)
    _check_names(loaded, steps)
    return Plan(loaded, steps, limit)


def _import_plugins(loaded: LoadedRecipe) -> None:
    base = str(loaded.base_dir)
    for index, module in enumerate(loaded.recipe.plugins):
        if base not in sys.path:
            sys.path.append(base)
        try:
            importlib.import_module(module)
        except (ImportError, SyntaxError) as error:
            raise loaded.error(f"plugin module {module!r} cannot be imported ({error}): install it, or put it beside "
                               "the recipe", "plugins", index) from error


def _order(loaded: LoadedRecipe, flat: Mapping[str, FlatStep], until: str | None) -> list[str]:
    """Depth-first topological order in the order written; names a cycle and unknown steps."""
    order: list[str] = []
    state: dict[str, str] = {}

    def visit(name: str, chain: list[str]) -> None:
        if state.get(name) == "done":
            return
        if name in chain:
            cycle = [*chain[chain.index(name):], name]
            raise loaded.error(f"the steps go in a circle: {' -> '.join(cycle)}; break it", *flat[name].at)
        for reference in _references(loaded, flat[name], flat):
            visit(reference, [*chain, name])
        state[name] = "done"
        order.append(name)

    if until is not None and until not in flat:
        raise loaded.error(f"--until {until}: no such step{near(until, flat)}", "steps")
    for name in [until] if until is not None else list(flat):
        visit(name, [])
    return order


def _references(loaded: LoadedRecipe, step: FlatStep, flat: Mapping[str, FlatStep]) -> list[str]:
    named: list[tuple[str, tuple[str | int, ...]]] = [(source, ("from",)) for source in step.decl.sources]
    named += [(reference, ("against",)) for reference in step.decl.compared]
    named += [(reference, ("verdicts",)) for reference in step.decl.heard]
    for index, entry in enumerate(step.decl.where or []):
        named += [(name, ("where", index)) for name in ([entry] if isinstance(entry, str) else entry)]
    for reference, field in named:
        if reference not in flat:
            raise loaded.error(f"there is no step {reference!r}{near(reference, flat) or f'; there are {_few(flat)}'}",
                               *step.at, *field)
    references = [reference for reference, _ in named]
    if step.decl.model is not None and step.decl.model not in loaded.recipe.models:
        if step.decl.model not in flat:
            known = [*loaded.recipe.models, *flat]
            raise loaded.error(f"{step.decl.model!r} is neither in `models` nor a step{near(step.decl.model, known)}",
                               *step.at, "model")
        references.append(step.decl.model)
    return references


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")


class _Models:
    """Resolves the `models` block, each entry once and only when a step uses it."""

    def __init__(self, loaded: LoadedRecipe, checkpoints: Any):
        self.loaded, self.checkpoints = loaded, checkpoints
        self._done: dict[str, ResolvedModel] = {}

    def get(self, name: str) -> ResolvedModel:
        if name not in self._done:
            try:
                spec = ModelSpec.model_validate(self.loaded.recipe.models[name])
            except ValidationError as error:
                raise validation_error(error, ModelSpec, self.loaded.path, self.loaded.positions,
                                       ("models", name)) from None
            try:
                found = resolve(spec, self.loaded.base_dir, checkpoint=self.checkpoints)
                # a model that is nowhere but in the recipe is called as the recipe calls it
                self._done[name] = replace(found, name=name) if found.kind in ("config", "replay") else found
            except (ModelError, DataError) as error:
                given = next(kind for kind in MODEL_SOURCES if getattr(spec, kind) is not None)
                inner = ("answers",) if given == "replay" else ()
                raise self.loaded.error(str(error), "models", name, given, *inner) from None
            self._check_rules(name, spec)
        return self._done[name]

    def _check_rules(self, name: str, spec: ModelSpec) -> None:
        """A rule that is no template is a mistake of the recipe, found before anything runs."""
        if spec.replay is None:
            return
        from jinja2 import Environment, TemplateSyntaxError

        for index, rule in enumerate(spec.replay.rules):
            try:
                Environment().parse(rule.text)
            except TemplateSyntaxError as error:
                raise self.loaded.error(f"no Jinja template over the row's columns and rng ({error.message}): mend it",
                                        "models", name, "replay", "rules", index, "text") from None


def _plan_step(loaded: LoadedRecipe, flat: FlatStep, done: Mapping[str, Step], models: _Models,
               limit: int | None) -> Step:
    decl = flat.decl
    try:
        spec = get_op(decl.op)
    except OpError as error:
        raise loaded.error(str(error), *flat.at, "op") from None
    _check_shape(loaded, flat, spec, done)
    _check_against(loaded, flat, spec, done)
    _check_verdicts(loaded, flat, spec, done)
    params = _validated(loaded, spec.params, decl.params, *flat.at, "params")
    runtime = _validated(loaded, StepRuntime, {**loaded.recipe.runtime, **decl.runtime}, *flat.at, "runtime")
    rules = _rules(loaded, flat, done)
    context = PlanContext(loaded.base_dir, limit, loaded.recipe.seed if decl.seed is None else decl.seed,
                          inputs=len(decl.sources))
    source, extra = _source_and_extra(loaded, flat, spec, params, context)
    model_step = decl.model if decl.model is not None and decl.model not in loaded.recipe.models else None
    resolved = models.get(decl.model) if decl.model is not None and model_step is None else None
    if resolved is not None and spec.asks_model:
        try:
            check_runnable(resolved, runtime.backend.over(resolved.spec.runtime))
        except ModelError as error:
            raise loaded.error(str(error), *flat.at, "runtime") from None
    inputs = [*decl.sources, *dict.fromkeys(rule.step for rule in rules if rule.step not in decl.sources),
              *decl.heard, *decl.compared]
    if model_step is not None:
        inputs.append(model_step)
    seed = context.seed
    identity = _identity(spec, params, seed, extra, resolved, model_step, rules, inputs, done, limit)
    if decl.heard:
        identity["verdicts"] = decl.heard  # the names of the columns
    try:
        canonical(identity, "identity")
    except TypeError as error:
        place, _, said = str(error).partition(": ")
        raise loaded.error(f"{said}; give a plain, finite value", *flat.at, *place.split(".")[1:]) from None
    step = Step(
        name=flat.name, spec=spec, decl=decl, params=params, runtime=runtime, inputs=inputs,
        from_inputs=len(decl.sources), rules=rules, model=resolved, model_step=model_step, source=source, seed=seed,
        dataset=decl.name or f"{loaded.recipe.recipe}/{flat.name}", identity=identity, fingerprint=digest(identity),
        family=digest(_family(spec, identity)), at=flat.at,
        partial=(spec.kind is Kind.SOURCE and limit is not None) or any(done[name].partial for name in inputs))
    _check_columns(loaded, step, done)
    return step


def _validated(loaded: LoadedRecipe, model: type[Settings], values: Mapping[str, Any], *at: str | int) -> Settings:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise validation_error(error, model, loaded.path, loaded.positions, at) from None


def _source_and_extra(loaded: LoadedRecipe, flat: FlatStep, spec: OpSpec, params: Params,
                      context: PlanContext) -> tuple[SourcePlan | None, Any]:
    try:
        if spec.kind is Kind.SOURCE:
            source: SourcePlan = spec.func().plan(params, context)
            return source, source.identity
        return None, spec.identity(params, context) if spec.identity is not None else None
    except (DataError, OpError) as error:
        raise loaded.error(str(error), *flat.at, "params") from None


def _identity(spec: OpSpec, params: Params, seed: int, extra: Any, model: ResolvedModel | None,
              model_step: str | None, rules: list[Rule], inputs: list[str], done: Mapping[str, Step],
              limit: int | None) -> dict[str, Any]:
    kept = {name: value for name, value in params.model_dump(mode="json").items() if name not in spec.provenance}
    identity: dict[str, Any] = {"op": spec.name, "version": spec.version, "params": kept,
                                "inputs": [done[name].fingerprint for name in inputs]}
    if spec.kind in SEEDED or spec.asks_model:
        identity["seed"] = seed
    if extra is not None:
        identity["content"] = extra
    if model is not None:
        identity["model"] = model.identity
    elif model_step is not None:
        identity["model"] = {"step": done[model_step].fingerprint}
    if rules:
        identity["where"] = [rule.identity(inputs.index(rule.step)) for rule in rules]
    if spec.kind is Kind.SOURCE and limit is not None:
        identity["limit"] = limit
    return identity


def _family(spec: OpSpec, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity without what may grow: extensible params, the inputs (and the names of those that are heard), and
    the content of a source."""
    family = {key: value for key, value in identity.items() if key not in ("inputs", "verdicts", "limit")}
    family["params"] = {key: value for key, value in identity["params"].items() if key not in spec.extensible}
    if spec.kind is Kind.SOURCE:
        family.pop("content", None)
    return family


def _check_shape(loaded: LoadedRecipe, flat: FlatStep, spec: OpSpec, done: Mapping[str, Step]) -> None:
    decl, count = flat.decl, len(flat.decl.sources)
    if spec.kind is Kind.SOURCE and count:
        raise loaded.error(f"{decl.op} is a source and takes no `from`", *flat.at, "from")
    if spec.kind is not Kind.SOURCE and not count:
        raise loaded.error(f"{decl.op} needs an input: add `from: <step>`", *flat.at)
    if count > 1 and spec.kind not in (Kind.SELECT, Kind.TRAIN, Kind.REPORT, Kind.GATE, Kind.PUBLISH):
        raise loaded.error(f"{decl.op} takes one input, got {count}: name one step; a select step can join several",
                           *flat.at, "from")
    if spec.asks_model and decl.model is None:
        raise loaded.error(f"{decl.op} asks a model: add `model: <name of models>`", *flat.at)
    if decl.model is not None and not (spec.asks_model or spec.kind in (Kind.TRAIN, Kind.GATE)):
        raise loaded.error(f"{decl.op} asks no model: remove `model`", *flat.at, "model")
    if decl.where is not None and spec.kind is not Kind.SELECT:
        raise loaded.error(f"{decl.op} cannot choose rows: `where` belongs to a select step", *flat.at, "where")
    if decl.model is not None and decl.model in done and done[decl.model].kind is not Kind.TRAIN:
        raise loaded.error(f"step {decl.model!r} makes no checkpoint: name a train step or an entry of `models`",
                           *flat.at, "model")
    for name in decl.sources:
        measures = done[name].kind not in CONTENT_KINDS | {Kind.SELECT}
        if measures and spec.kind not in (Kind.REPORT, Kind.GATE, Kind.PUBLISH):
            raise loaded.error(f"{name!r} ({done[name].spec.name}) measures rows and holds none: name the step it "
                               f"measures, or choose with a select step", *flat.at, "from")


def _check_against(loaded: LoadedRecipe, flat: FlatStep, spec: OpSpec, done: Mapping[str, Step]) -> None:
    """`against` is given to ops that compare, and names steps that hold rows other than the judged ones."""
    decl, at = flat.decl, (*flat.at, "against")
    if decl.against is not None and not spec.compares:
        raise loaded.error(f"{decl.op} compares with nothing: remove `against`", *at)
    if spec.compares and not decl.compared and not spec.measures_both:
        raise loaded.error(f"{decl.op} compares rows with others: add `against: <step>`", *flat.at)
    for name in decl.compared:
        if done[name].kind not in CONTENT_KINDS | {Kind.SELECT}:
            raise loaded.error(f"{name!r} ({done[name].spec.name}) holds no rows to compare with: name a step that "
                               "makes or chooses rows", *at)
        if name in decl.sources:
            raise loaded.error(f"{name!r} is in `from` too, and every row is like itself: name another step", *at)


def _check_verdicts(loaded: LoadedRecipe, flat: FlatStep, spec: OpSpec, done: Mapping[str, Step]) -> None:
    """`verdicts` is given to scores, and names scored steps that were given these rows."""
    decl, at = flat.decl, (*flat.at, "verdicts")
    if spec.hears and not decl.heard:
        raise loaded.error(f"{decl.op} hears what other steps said: add `verdicts: [<scored step>, …]`", *flat.at)
    if not decl.heard:
        return
    if spec.kind is not Kind.SCORE:
        raise loaded.error(f"{decl.op} hears no verdicts, only scores do: remove `verdicts`", *at)
    roots = set().union(*(content_root(done, name) for name in decl.sources))
    scored = [name for name, step in done.items() if step.spec.judges and content_root(done, name) >= roots]
    for name in decl.heard:
        if not done[name].spec.judges:
            raise loaded.error(f"{name!r} ({done[name].spec.name}) scores nothing: `verdicts` names scored steps over "
                               f"{' and '.join(decl.sources)} ({', '.join(scored) or 'there are none'})", *at)
        if name not in scored:
            raise loaded.error(f"{name!r} scored the rows of {' and '.join(sorted(content_root(done, name)))}, not "
                               f"those of {' and '.join(sorted(roots))}: name a step that scored them "
                               f"({', '.join(scored) or 'there are none'})", *at)


def content_root(done: Mapping[str, Step], name: str) -> set[str]:
    """The steps that created the rows of `name`."""
    step = done[name]
    if step.kind in CONTENT_KINDS:
        return {name}
    return set().union(*(content_root(done, source) for source in step.inputs[: step.from_inputs]))


def _rules(loaded: LoadedRecipe, flat: FlatStep, done: Mapping[str, Step]) -> list[Rule]:
    rules = parse_where(flat.decl.where or [], lambda message, index: loaded.error(message, *flat.at, "where", index))
    roots = set().union(*(content_root(done, name) for name in flat.decl.sources)) if flat.decl.where else set()
    scored = [name for name, step in done.items() if step.spec.judges or step.spec.dedup]
    for index, rule in enumerate(rules):
        step = done[rule.step]
        at = (*flat.at, "where", index)
        if rule.step not in scored:
            raise loaded.error(f"{rule.step!r} ({step.spec.name}) scores nothing: `where` names scored steps "
                               f"({', '.join(scored) or 'there are none'})", *at)
        if not content_root(done, rule.step) & roots:
            raise loaded.error(f"{rule.step!r} scored the rows of "
                               f"{' and '.join(sorted(content_root(done, rule.step)))}, "
                               f"not those of {' and '.join(sorted(roots))}", *at)
        known = {"jaccard": pl.Float64()} if step.spec.dedup else {**SCORE_SCHEMA, **step.spec.out(step.params)}
        for condition in rule.conditions:
            if condition.column not in known:
                raise loaded.error(f"{rule.step!r} has no column {condition.column!r}{near(condition.column, known)} "
                                   f"(it has {', '.join(known)})", *at)
            if not step.spec.dedup and (wanted := misfit(condition, known[condition.column])):
                raise loaded.error(f"{rule.step}.{condition.column} is compared with {wanted}, got "
                                   f"{condition.operator} {condition.value!r}", *at)
        if step.spec.dedup:
            _check_dedup_rule(loaded, rule, step, at)
    return rules


def _check_dedup_rule(loaded: LoadedRecipe, rule: Rule, step: Step, at: tuple[str | int, ...]) -> None:
    try:
        threshold, _ = dedup_rule(rule, step.spec.func.threshold(step.params))
    except ValueError as error:
        raise loaded.error(str(error), *at) from None
    floor = getattr(step.params, "floor", 1.0)
    if threshold < floor:
        raise loaded.error(f"{rule.step} stores pairs from jaccard {floor:g} up, so {threshold:g} cannot be judged: "
                           f"set steps.{rule.step}.params.floor to {threshold:g} or less", *at)


def known_columns(done: Mapping[str, Step], name: str) -> dict[str, pl.DataType] | None:
    """Columns of a step's rows, own and inherited, with their dtypes; None when an op does not say."""
    step = done[name]
    if step.kind is Kind.SELECT:
        options = [known_columns(done, source) for source in step.inputs[: step.from_inputs]]
        known = [option for option in options if option is not None]
        return None if len(known) < len(options) else {key: value for one in known for key, value in one.items()}
    if step.source is not None:
        return dict(step.source.schema)
    own = dict(step.spec.out(step.params))
    parents = known_columns(done, step.inputs[0]) if step.inputs and step.kind is not Kind.MERGE else {}
    return None if not own or parents is None else {**parents, **own}


def _check_columns(loaded: LoadedRecipe, step: Step, done: Mapping[str, Step]) -> None:
    """An op that reads a column nobody writes, or text where there is none, is a mistake of the recipe, found before
    anything runs."""
    read = [(source, step.spec.columns(step.params)) for source in step.inputs[: step.from_inputs]]
    compared = step.spec.func.against(step.params) if step.decl.compared else ()
    read += [(source, compared) for source in step.decl.compared]
    for name in step.decl.heard:
        hidden = next((column for column in step.spec.columns(step.params) if column.startswith(f"{name}.")), None)
        if hidden is not None:
            raise loaded.error(f"{step.spec.name} reads the column {hidden!r} of the rows, which is called like what "
                               f"{name!r} says of them: rename the step", *step.at, "verdicts")
    others = [known_columns(done, source) for source in step.decl.compared]
    told = {column for known in others for column in known or ()}
    for source, columns in read:
        known = known_columns(done, source)
        if known is None:
            continue
        some = step.spec.takes_some and source in step.decl.compared and any(column in known for column in columns)
        for column in columns:
            if column not in known and not (some and (column in told or None in others)):
                raise loaded.error(f"{step.spec.name} reads the column {column!r}, which {source!r} does not have"
                                   f"{near(column, known)} (it has {', '.join(sorted(known))})", *step.at, "params")
        _check_texts(loaded, step, source, {column: known[column] for column in columns if column in known})


def _check_texts(loaded: LoadedRecipe, step: Step, source: str, read: Mapping[str, pl.DataType]) -> None:
    """What an op takes for text holds text."""
    for column in step.spec.texts(step.params) if step.spec.texts is not None else ():
        if read.get(column, pl.String()) not in (pl.String, pl.Null):
            raise loaded.error(f"{step.spec.name} reads the column {column!r} as text, and {source!r} has "
                               f"{read[column]} there: name a text column", *step.at, "params")


def _check_names(loaded: LoadedRecipe, steps: Mapping[str, Step]) -> None:
    from warehouse.layout import check_name

    owners: dict[str, str] = {}
    for step in steps.values():
        try:
            check_name(step.dataset)
        except ValueError as error:
            raise loaded.error(str(error), *step.at, "name") from None
        if step.dataset in owners:
            raise loaded.error(f"steps {owners[step.dataset]!r} and {step.name!r} both write {step.dataset!r}: give "
                               "one another `name`", *step.at, "name")
        owners[step.dataset] = step.name
