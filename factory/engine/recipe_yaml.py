"""Reading YAML so that every error can name its line.

ruamel.yaml keeps the position of each key; pydantic says which field is wrong; here the two are joined, and a misspelt
field gets the nearest known name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from factory.engine.errors import RecipeError


class Positions:
    """Line numbers (1-based) by field path."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str | int, ...], int] = {}

    def add(self, at: tuple[str | int, ...], line: int) -> None:
        self._lines[at] = line

    def __contains__(self, at: object) -> bool:
        return at in self._lines

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
    except UnicodeDecodeError as error:
        raise RecipeError(f"byte {error.start + 1} is no UTF-8: save the file as UTF-8", file=str(path),
                          line=error.object.count(b"\n", 0, error.start) + 1) from None
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror}): name a YAML file", file=str(path)) from None
    try:
        loaded = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else ""
        raise RecipeError(f"{key!r} is defined twice: give each step or field its own name", file=str(path),
                          line=error.problem_mark.line + 1, field=key) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = [error.context, error.problem] if str(error.problem or "but").startswith("but") else [error.problem]
        problem = " ".join(" ".join(part for part in said if part).split()) or "not readable"
        raise RecipeError(f"YAML syntax: {problem}", file=str(path), line=mark.line + 1 if mark else None) from None
    except YAMLError as error:
        raise RecipeError(f"YAML syntax: {' '.join(str(error).split())}", file=str(path)) from None
    if not isinstance(loaded, dict):
        found = "the file is empty" if loaded is None else f"found {_name_of(loaded)}"
        raise RecipeError(f"{found}: a recipe is a mapping with `recipe:`, `models:` and `steps:`", file=str(path),
                          line=1)
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
    faults = error.errors(include_url=False)
    # a misspelt field is also a missing one: the misspelling is what there is to mend
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    loc: tuple[str | int, ...] = ()
    for part in fault["loc"]:
        if (*prefix, *loc, part) in positions or not (isinstance(part, str) and _is_branch(part)):
            loc = (*loc, part)
    at = (*prefix, *loc)
    field = ".".join(str(part) for part in at)
    if fault["type"] == "extra_forbidden":
        known = _known_fields(model, loc[:-1])
        message = f"unknown field{near(str(loc[-1]), known)}" + (f" (known: {', '.join(known)})" if known else "")
    elif fault["type"] == "missing":
        message = "is required but missing"
    else:
        last = [str(other["loc"][-1]) for other in faults if other["loc"] and other["loc"][:-1] == fault["loc"][:-1]]
        message = _fault_text(fault, last if len(loc) < len(fault["loc"]) else [])
    return RecipeError(message, file=str(path), line=positions.line(at), field=field)


_EXPECTED = {
    "string": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list",
    "tuple": "a list", "dict": "a mapping", "model": "a mapping", "str": "text", "finite": "a finite number",
}
"""What a recipe's author calls the types, by the first word of pydantic's name of a fault or of a union's branch."""

_BOUNDS = {"greater_than_equal": "at least {ge}", "greater_than": "more than {gt}", "less_than_equal": "at most {le}",
           "less_than": "less than {lt}", "too_short": "at least {min_length} items", "string_too_short": "some text",
           "too_long": "at most {max_length} items"}


def _fault_text(fault: Any, branches: Sequence[str]) -> str:
    """What was expected and what was found; `branches` are the types that a union would have taken."""
    if fault["type"] in _BOUNDS:
        return f"expected {_BOUNDS[fault['type']].format(**fault['ctx'])}, got {_name_of(fault['input'])}"
    kinds = [re.split(r"[_\[]", name)[0] for name in branches] or [str(fault["type"]).split("_", maxsplit=1)[0]]
    expected = list(dict.fromkeys(_EXPECTED[kind] for kind in kinds if kind in _EXPECTED))
    if fault["type"] == "value_error":
        message = str(fault["msg"]).removeprefix("Value error, ")
        found = fault.get("input") if "not shown" not in message else None
        return message if isinstance(found, dict | list | BaseModel) or found is None else f"{message}, got {found!r}"
    if expected and str(fault["type"]).endswith(("_type", "_parsing", "_from_float", "_number")):
        quotes = ": put it in quotes" if "text" in expected and isinstance(fault["input"], date) else ""
        return f"expected {' or '.join(expected)}, got {_name_of(fault['input'])}{quotes}"
    wanted = str(fault["msg"]).removeprefix("Input should be ")
    close = near(str(fault["input"]), re.findall(r"'([^']*)'", wanted)) if fault["type"] == "literal_error" else ""
    wanted = wanted if fault["type"] == "literal_error" else f"{wanted[0].lower()}{wanted[1:]}"
    return f"expected {wanted}, got {_name_of(fault['input'])}{close}"


def _name_of(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _is_branch(part: str) -> bool:
    """Pydantic puts the tried branch of a union into the location; it is no field of the recipe."""
    return part in {"str", "int", "float", "bool"} or part.startswith(("list[", "dict[", "function-"))


def _known_fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The fields allowed where `loc` points, following nested models and containers of models."""
    current: Any = model
    for part in loc:
        if _is_model(current):
            named = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
            current = named.annotation if named else None
        else:
            current = next((arg for arg in reversed(get_args(current)) if arg is not Ellipsis), None)
        if get_origin(current) in (Union, UnionType):
            options = [arg for arg in get_args(current) if _is_model(arg) or get_args(arg)]
            current = next(iter(sorted(options, key=_is_model, reverse=True)), None)
    return fields_of(current) if _is_model(current) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
