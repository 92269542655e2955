"""A recipe: a frozen, declarative list of steps.

`params` is identity, `runtime` never is: two fields, so there is no list of exceptions. Nothing in a recipe is
evaluated; `${name}` is replaced by a value of `vars` and that is all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from factory.engine.errors import RecipeError, UsageError
from factory.engine.recipe_yaml import Positions, fields_of, near, read_yaml, validation_error

STEP_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
RESERVED_NAMES = ("previous.", "last.")
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class StepDecl(_Frozen):
    """One step as written."""

    op: str = Field(description="The op's name, such as generate.sample")
    from_: str | list[str] | None = Field(None, alias="from", description="The step (or steps) whose rows go in")
    against: str | list[str] | None = Field(None, description="For ops that compare: the step (or steps) with whose "
                                            "rows those of `from` are compared")
    verdicts: str | list[str] | None = Field(None, description="For scores that hear others: the scored step (or "
                                             "steps) whose verdicts on the same rows stand beside them")
    model: str | None = Field(None, description="A name of `models`, or an earlier train step")
    params: dict[str, Any] = Field(default_factory=dict, description="The op's parameters; part of the identity")
    runtime: dict[str, Any] = Field(default_factory=dict, description="batch, concurrency, retries, max_failed, "
                                    "shard_rows, …; never part of the identity")
    where: list[str | dict[str, dict[str, Any]]] | None = Field(
        None, description="For select steps: scored steps in order, by their default rule or by a column condition")
    name: str | None = Field(None, description="The dataset's own name (default: recipe/step)")
    seed: int | None = Field(None, description="Overrides the recipe's seed for this step")

    @property
    def sources(self) -> list[str]:
        """The steps named by `from`, in order."""
        if self.from_ is None:
            return []
        return [self.from_] if isinstance(self.from_, str) else list(self.from_)

    @property
    def compared(self) -> list[str]:
        """The steps named by `against`, in order, each once."""
        return list(dict.fromkeys([self.against] if isinstance(self.against, str) else self.against or []))

    @property
    def heard(self) -> list[str]:
        """The steps named by `verdicts`, in order, each once."""
        return list(dict.fromkeys([self.verdicts] if isinstance(self.verdicts, str) else self.verdicts or []))


class Rounds(_Frozen):
    """A block of steps that is repeated; round k's steps are called `r<k>.<step>`, `previous.<step>` is round k-1's."""

    count: int = Field(ge=1, le=1000)
    initial: dict[str, str] = Field(default_factory=dict, description="What previous.<step> means in round 1")
    steps: dict[str, StepDecl]


class Recipe(_Frozen):
    """A recipe as written, after `vars` and overrides."""

    recipe: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="The recipe's name")
    version: int = 1
    description: str | None = None
    seed: int = 0
    vars: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    plugins: list[str] = Field(default_factory=list, description="Python modules to import for their ops")
    runtime: dict[str, Any] = Field(default_factory=dict, description="Defaults for the runtime of every step")
    rounds: Rounds | None = None
    steps: dict[str, StepDecl] = Field(default_factory=dict)


class LoadedRecipe:
    """A recipe with what its errors need: its file, its text and where each field stands."""

    def __init__(self, recipe: Recipe, path: Path, text: str, positions: Positions):
        self.recipe, self.path, self.text, self.positions = recipe, path, text, positions

    @property
    def base_dir(self) -> Path:
        """Relative paths of the recipe are taken from here."""
        return self.path.parent.absolute()

    def error(self, message: str, *field: str | int) -> RecipeError:
        """An error at a field of this recipe."""
        return RecipeError(message, file=str(self.path), line=self.positions.line(field),
                           field=".".join(str(part) for part in field))


def load_recipe(path: str | Path, *, overrides: Mapping[str, Any] | None = None,
                variables: Mapping[str, Any] | None = None) -> LoadedRecipe:
    """Read a recipe file.

    Args:
        path: the YAML file.
        overrides: dotted paths to values (`steps.samples.params.n`), as `--set` gives them.
        variables: values for `vars`, as `--vars` gives them.

    Raises:
        RecipeError: with file, line and field.
    """
    path = Path(path)
    data, positions, text = read_yaml(path)
    known = data.get("vars") or {}
    if not isinstance(known, dict):
        raise RecipeError("expected a mapping of names to values", file=str(path), line=positions.line(("vars",)),
                          field="vars")
    for name, value in (variables or {}).items():
        if name not in known:
            raise UsageError(f"--vars {name}: {path} declares no such variable; it has "
                             f"{', '.join(sorted(known)) or 'none'}{near(name, known)}")
        known[name] = value
    for dotted, value in (overrides or {}).items():
        _set(data, dotted, value, path)
    data = _substitute(data, dict(data.get("vars") or {}), (), path, positions)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise validation_error(error, Recipe, path, positions) from None
    loaded = LoadedRecipe(recipe, path, text, positions)
    if not recipe.steps and recipe.rounds is None:
        raise loaded.error("a recipe needs at least one step under `steps:`", "steps")
    _check_step_names(loaded)
    return loaded


def _check_step_names(loaded: LoadedRecipe) -> None:
    rounds = loaded.recipe.rounds
    places: list[tuple[str | int, ...]] = [("steps", name) for name in loaded.recipe.steps]
    places += [("rounds", "steps", name) for name in (rounds.steps if rounds is not None else ())]
    for place in places:
        name = str(place[-1])
        if not STEP_NAME.fullmatch(name):
            raise loaded.error("a step's name is made of lower-case letters, digits, '_' and '.': rename it", *place)
        if name.startswith(RESERVED_NAMES):
            raise loaded.error(f"{name.split('.')[0]!r} speaks of rounds and cannot begin a step's name: rename it",
                               *place)


def _set(data: dict[str, Any], dotted: str, value: Any, path: Path) -> None:
    at: Any = data
    rest, free = dotted, False  # free: inside params, runtime or vars, whose fields need not be written to be set
    while True:
        key, rest = _first_key(at, rest)
        if isinstance(at, list):
            if not key.isdigit() or int(key) >= len(at):
                raise UsageError(f"--set {dotted}: {path} has a list of {len(at)} there, and no {key!r} in it")
            slot: Any = int(key)
        elif isinstance(at, dict):
            slot = key
            free = free or key in ("params", "runtime", "vars")
            if rest and free and at.get(key) is None:
                at[key] = {}
            if rest and key not in at:
                raise UsageError(f"--set {dotted}: {path} has no {key!r} there{near(key, at)}; it has "
                                 f"{', '.join(map(str, at)) or 'nothing'}")
        else:
            raise UsageError(f"--set {dotted}: {dotted.removesuffix(f'{key}.{rest}' if rest else key).rstrip('.')} "
                             f"in {path} holds no fields")
        if not rest:
            at[slot] = value
            return
        at = at[slot]


def _first_key(at: Any, dotted: str) -> tuple[str, str]:
    """The first key of a dotted path and the rest; a key may itself hold dots (a step `clean.language`)."""
    keys = dotted.split(".")
    if isinstance(at, dict):
        for end in range(len(keys), 1, -1):
            if ".".join(keys[:end]) in at:
                return ".".join(keys[:end]), ".".join(keys[end:])
    return keys[0], ".".join(keys[1:])


def _substitute(value: Any, variables: Mapping[str, Any], at: tuple[str | int, ...], path: Path,
                positions: Positions) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, variables, (*at, key), path, positions) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, variables, (*at, index), path, positions) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    for name in _VARIABLE.findall(value):
        if name not in variables:
            raise RecipeError(f"${{{name}}} is not in `vars`{near(name, variables)}", file=str(path),
                              line=positions.line(at), field=".".join(map(str, at)))
    whole = _VARIABLE.fullmatch(value)
    if whole:
        return variables[whole[1]]
    return _VARIABLE.sub(lambda match: str(variables[match[1]]), value)


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of recipes as they are written: where a number stands, `${name}` may stand for it."""
    schema: dict[str, Any] = _or_variable(Recipe.model_json_schema())
    return schema


def _or_variable(node: Any) -> Any:
    if isinstance(node, list):
        return [_or_variable(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _or_variable(item) for key, item in node.items()}
    if found.get("type") not in ("integer", "number", "boolean"):
        return found
    told = {key: found.pop(key) for key in ("title", "description", "default") if key in found}
    return {**told, "anyOf": [found, {"type": "string", "pattern": f"^{_VARIABLE.pattern}$"}]}


__all__ = ["LoadedRecipe", "Recipe", "Rounds", "StepDecl", "fields_of", "load_recipe", "recipe_schema"]
