r"""One contract over all verifiers: `verify(name, response, reference, …) -> Verdict`.

A verifier is a pure function `check(response, reference, *, …) -> Verdict`. Where judging many at once is cheaper than
one by one, there is a batched form beside it, over (response, reference) pairs, with the same verdicts. Verifiers of
this project are imported when they are first asked for, so that a trainer that wants one does not load the others; a
plugin registers its own with the decorator `verifier`.

    from factory.verifiers.contract import verify
    verify("math", r"\boxed{1/2}", "0.5").label        # correct
    verify("choice", "The answer is (B).", "B").seconds  # what it took

The op `verify.<name>` carries the version of a verifier: `versions()` lists them.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, Literal, TypeVar

from factory.engine.errors import UsageError
from factory.verifiers.verdict import Verdict

Check = Callable[..., Verdict]
Many = Callable[..., list[Verdict]]
Checked = TypeVar("Checked", bound=Check)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A registered verifier: its check of one response, and of many where that is a function of its own."""

    name: str
    check: Check
    many: Many | None = None


_BUILTIN: dict[str, tuple[str, str, str]] = {
    "math": ("factory.verifiers.math", "check_math", "check_many"),
    "choice": ("factory.verifiers.choice", "check_choice", ""),
    "format": ("factory.verifiers.format", "judge_format", ""),
    "gym": ("factory.verifiers.gym", "check_gym", "check_gym_many"),
    "code": ("factory.verifiers.code", "check_code", "check_many"),
}
"""Module, function and batched function (where there is one) of the verifiers of this project."""

_KNOWN: dict[str, Verifier] = {}


def verifier(name: str, *, many: Many | None = None) -> Callable[[Checked], Checked]:
    """Register `check(response, reference, **settings)` under a name; `many(pairs, **settings)` may judge
    a batch. A name that another module has taken is a UsageError."""

    def register(check: Checked) -> Checked:
        taken = _BUILTIN[name][0] if name in _BUILTIN else _KNOWN[name].check.__module__ if name in _KNOWN else None
        if taken not in (None, check.__module__):
            raise UsageError(f"verifier {name!r} is already defined in {taken}: choose another name")
        _KNOWN[name] = Verifier(name, check, many)
        return check

    return register


def get_verifier(name: str) -> Verifier:
    """A verifier by name (`math`, or as its op is called, `verify.math`); UsageError names those there are."""
    short = name.removeprefix("verify.")
    if short not in _KNOWN and short in _BUILTIN:
        module, check, many = _BUILTIN[short]
        loaded = importlib.import_module(module)
        _KNOWN[short] = Verifier(short, getattr(loaded, check), getattr(loaded, many, None) if many else None)
    if short not in _KNOWN:
        raise UsageError(f"there is no verifier {name!r}: use one of {', '.join(names())}, or register it with "
                         "factory.verifiers.contract.verifier")
    return _KNOWN[short]


def names() -> list[str]:
    """Every verifier that can be asked for."""
    return sorted({*_BUILTIN, *_KNOWN})


def versions() -> dict[str, int]:
    """The version of each verifier's op; a plugin's verifier without an op has none."""
    from factory.engine.op import all_ops

    known = {spec.name: spec.version for spec in all_ops()}
    return {name: known[f"verify.{name}"] for name in names() if f"verify.{name}" in known}


def verify(name: str, response: str | None, reference: Any = None, **settings: Any) -> Verdict:
    """The verdict of one verifier on one response; `seconds` is what it took.

    Args:
        name: `math`, `choice`, `format`, `gym`, `code`, or a plugin's.
        response: what the model wrote, thinking included.
        reference: what it is compared with: an answer, an option, an item, tests (`format` needs none). Those of
            this project, save `code`, take a number as its text and a list or dict as JSON of it.
        settings: those of the verifier's own function, such as `seconds=5.0` for math.

    Raises:
        UsageError: no such verifier, a setting that it does not have, or a value which that setting cannot have.
    """
    return verify_many(name, [response], [reference], **settings)[0]


def verify_many(name: str, responses: Sequence[str | None], references: Sequence[Any],
                **settings: Any) -> list[Verdict]:
    """`verify` for many pairs, in order; batched where the verifier can. Of a batch without times of its own every
    verdict carries the mean."""
    if len(responses) != len(references):
        raise UsageError(f"{len(responses)} responses and {len(references)} references: give one reference for each")
    found = get_verifier(name)
    if settings:
        _refuse_unknown_values(found, settings)
    if found.name in _BUILTIN and found.name != "code":  # tests may be data that JSON does not know
        references = [_as_text(reference) for reference in references]
    began = time.perf_counter()
    try:
        verdicts = (found.many(list(zip(responses, references, strict=True)), **settings) if found.many is not None else
                    [_timed(found.check, pair, settings) for pair in zip(responses, references, strict=True)])
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UsageError(f"verifier {name!r}: {error}") from error
    if any(verdict.seconds for verdict in verdicts):
        return verdicts
    mean = (time.perf_counter() - began) / max(1, len(verdicts))
    return [dataclasses.replace(verdict, seconds=mean) for verdict in verdicts]


def _as_text(reference: Any) -> Any:
    if isinstance(reference, Number):
        return str(reference)
    if not isinstance(reference, (dict, list, tuple)):
        return reference
    try:
        return json.dumps(reference, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the reference {reference!r:.80} is no JSON ({error}): give it as text") from error


def _refuse_unknown_values(found: Verifier, settings: dict[str, Any]) -> None:
    """A setting that takes one of a few values takes no other."""
    try:
        hints = typing.get_type_hints(found.check)
    except Exception:  # a plugin's annotations need not be resolvable
        return
    for setting, value in settings.items():
        known = typing.get_args(hints.get(setting)) if typing.get_origin(hints.get(setting)) is Literal else (value,)
        if value not in known:
            raise UsageError(f"verifier {found.name!r} has no {setting} {value!r}: use one of {', '.join(known)}")


def _timed(check: Check, pair: tuple[str | None, Any], settings: dict[str, Any]) -> Verdict:
    began = time.perf_counter()
    verdict = check(*pair, **settings)
    return dataclasses.replace(verdict, seconds=time.perf_counter() - began)
