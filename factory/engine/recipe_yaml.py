"""Reading YAML so that every error can name its line.

ruamel.yaml keeps the position of each key; pydantic says which field is wrong; here the two are joined, and a misspelt
field gets the nearest known name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from factory.engine.errors import RecipeError


class Positions:
    """Line numbers (1-based) by field path."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str | int, ...], int] = {}

    def add(self, at: tuple[str | int, ...], line: int) -> None:
        self._lines[at] = line

    def line(self, at: Sequence[str | int]) -> int | None:
        """The line of a field, or of the nearest field that holds it."""
        path = tuple(at)
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None


def near(name: str, known: Iterable[object]) -> str:
    """'; did you mean X?' or an empty string."""
    found = difflib.get_close_matches(name, [str(item) for item in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def fields_of(model: type[BaseModel]) -> list[str]:
    """The field names of a model as a recipe writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def read_yaml(path: Path) -> tuple[dict[str, Any], Positions, str]:
    """Plain data, positions and text of a YAML file that must hold one mapping."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no such recipe; looked in {path.absolute().parent}", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", file=str(path)) from None
    try:
        loaded = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else ""
        raise RecipeError(f"{key!r} is defined twice: give each step or field its own name", file=str(path),
                          line=error.problem_mark.line + 1, field=key) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem or error.context or "bad YAML").split())
        raise RecipeError(f"YAML syntax: {problem}", file=str(path), line=mark.line + 1 if mark else None) from None
    except YAMLError as error:
        raise RecipeError(f"YAML syntax: {' '.join(str(error).split())}", file=str(path)) from None
    if not isinstance(loaded, dict):
        raise RecipeError("a recipe is a mapping with `recipe:`, `models:` and `steps:`", file=str(path), line=1)
    positions = Positions()
    return _plain(loaded, (), positions), positions, text


def _plain(value: Any, at: tuple[str | int, ...], positions: Positions) -> Any:
    if isinstance(value, dict):
        plain = {}
        for key, item in value.items():
            here = (*at, str(key))
            marks = getattr(value, "lc", None)
            if marks is not None and marks.data and key in marks.data:
                positions.add(here, marks.data[key][0] + 1)
            plain[str(key)] = _plain(item, here, positions)
        return plain
    if isinstance(value, list):
        for index in range(len(value)):
            marks = getattr(value, "lc", None)
            if marks is not None and marks.data and index in marks.data:
                positions.add((*at, index), marks.data[index][0] + 1)
        return [_plain(item, (*at, index), positions) for index, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def validation_error(error: ValidationError, model: type[BaseModel], path: Path | str, positions: Positions,
                     prefix: tuple[str | int, ...] = ()) -> RecipeError:
    """The first fault of a pydantic error as a RecipeError with line, field and suggestion."""
    fault = error.errors(include_url=False)[0]
    loc = tuple(part for part in fault["loc"] if not (isinstance(part, str) and _is_branch(part)))
    at = (*prefix, *loc)
    field = ".".join(str(part) for part in at)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _known_fields(model, loc[:-1])
        message = f"unknown field{near(str(loc[-1]), known)}" + (f" (known: {', '.join(known)})" if known else "")
    elif fault["type"] == "missing":
        message = "is required but missing"
    elif "input" in fault and not isinstance(fault["input"], dict | list):
        message = f"{message[0].lower()}{message[1:]}, got {fault['input']!r}"
    return RecipeError(message, file=str(path), line=positions.line(at), field=field)


def _is_branch(part: str) -> bool:
    """Pydantic puts the tried branch of a union into the location; it is no field of the recipe."""
    return part in {"str", "int", "float", "bool"} or part.startswith(("list[", "dict[", "function-"))


def _known_fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The fields allowed where `loc` points, following nested models and dicts of models."""
    from typing import get_args

    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            named = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
            current = named.annotation if named else None
        else:
            current = next((arg for arg in reversed(get_args(current))), None)
        options = [arg for arg in get_args(current) if isinstance(arg, type) and issubclass(arg, BaseModel)]
        if options and not str(current).startswith("dict["):
            current = options[0]
    return fields_of(current) if isinstance(current, type) and issubclass(current, BaseModel) else []
