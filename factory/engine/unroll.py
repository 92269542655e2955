"""From a recipe as written to a flat list of ordinary steps: rounds are unrolled, composite ops expanded.

Both happen at plan time, before anything is validated, so the rest of the engine knows neither. Round k's steps are
called `r<k>.<step>`; the number of rounds is in no fingerprint, because no step holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from factory.engine.op import get_composite
from factory.engine.recipe import LoadedRecipe, Rounds, StepDecl
from factory.engine.recipe_yaml import near, validation_error

PREVIOUS, LAST = "previous.", "last."


@dataclass(frozen=True, slots=True)
class FlatStep:
    """A step with every reference resolved to a flat name; `at` is where its declaration stands in the recipe."""

    name: str
    decl: StepDecl
    at: tuple[str | int, ...]


def flatten(loaded: LoadedRecipe) -> list[FlatStep]:
    """All steps in the order written, rounds unrolled and composite ops expanded."""
    recipe = loaded.recipe
    steps = [FlatStep(name, decl, ("steps", name)) for name, decl in recipe.steps.items()]
    if recipe.rounds is not None:
        steps = [FlatStep(s.name, _rename(s.decl, _last(loaded, recipe.rounds, s.at)), s.at) for s in steps]
        steps += _unroll(loaded, recipe.rounds)
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise loaded.error(f"step {step.name!r} exists already outside the rounds: rename one", *step.at)
        seen.add(step.name)
    return _expand_composites(loaded, steps)


def _last(loaded: LoadedRecipe, rounds: Rounds, at: tuple[str | int, ...]) -> Callable[[str], str]:
    """Resolves `last.<step>` for a step outside the rounds."""

    def resolve(reference: str) -> str:
        if not reference.startswith(LAST):
            return reference
        wanted = reference[len(LAST):]
        if wanted not in rounds.steps:
            raise loaded.error(f"{reference!r}: the rounds have no step {wanted!r}{near(wanted, rounds.steps)}", *at)
        return f"r{rounds.count}.{wanted}"

    return resolve


def _unroll(loaded: LoadedRecipe, rounds: Rounds) -> list[FlatStep]:
    for name in rounds.initial:
        if name not in rounds.steps:
            raise loaded.error(f"the rounds have no step {name!r}{near(name, rounds.steps)}", "rounds", "initial", name)
    flat = []
    for number in range(1, rounds.count + 1):
        for name, decl in rounds.steps.items():
            at = ("rounds", "steps", name)

            def resolve(reference: str, number: int = number, at: tuple[str, ...] = at) -> str:
                if reference.startswith(PREVIOUS):
                    wanted = reference[len(PREVIOUS):]
                    if wanted not in rounds.steps:
                        raise loaded.error(f"{reference!r}: the rounds have no step {wanted!r}"
                                           f"{near(wanted, rounds.steps)}", *at)
                    if number > 1:
                        return f"r{number - 1}.{wanted}"
                    if wanted not in rounds.initial:
                        raise loaded.error(f"{reference!r} has no meaning in round 1: add `initial: {{{wanted}: …}}`"
                                           f"{near(wanted, rounds.initial)}", *at)
                    return rounds.initial[wanted]
                return f"r{number}.{reference}" if reference in rounds.steps else reference

            flat.append(FlatStep(f"r{number}.{name}", _rename(decl, resolve), at))
    return flat


def _rename(decl: StepDecl, resolve: Callable[[str], str]) -> StepDecl:
    """The declaration with every step it names passed through `resolve`."""

    def each(named: str | list[str] | None) -> str | list[str] | None:
        return [resolve(name) for name in named] if isinstance(named, list) else resolve(named) if named else named

    where = None if decl.where is None else [
        resolve(entry) if isinstance(entry, str) else {resolve(step): body for step, body in entry.items()}
        for entry in decl.where]
    model = resolve(decl.model) if decl.model is not None else None
    return decl.model_copy(update={
        "from_": each(decl.from_), "against": each(decl.against), "verdicts": each(decl.verdicts), "where": where,
        "model": model})


def _expand_composites(loaded: LoadedRecipe, steps: list[FlatStep]) -> list[FlatStep]:
    results: dict[str, str | list[str]] = {}
    flat: list[FlatStep] = []
    pending = list(steps)
    while pending:
        step = pending.pop(0)
        spec = get_composite(step.decl.op)
        if spec is None:
            flat.append(step)
            continue
        try:
            params = spec.params.model_validate(step.decl.params)
        except ValidationError as error:
            raise validation_error(error, spec.params, loaded.path, loaded.positions, (*step.at, "params")) from None
        made, result = spec.expand(step.name, step.decl.model_dump(by_alias=True, exclude_unset=True),
                                   params)
        if step.decl.verdicts is not None and not any("verdicts" in body for body in made.values()):
            raise loaded.error(f"{step.decl.op} hears no verdicts: remove `verdicts`", *step.at, "verdicts")
        results[step.name] = result
        pending[:0] = [FlatStep(name, StepDecl.model_validate(body), step.at) for name, body in made.items()]
    return [_point_to_results(loaded, step, results) for step in flat] if results else flat


def _point_to_results(loaded: LoadedRecipe, step: FlatStep, results: dict[str, str | list[str]]) -> FlatStep:
    def one(reference: str) -> str:
        result = results.get(reference, reference)
        if isinstance(result, list):
            raise loaded.error(f"{reference!r} stands for several scored steps ({', '.join(result)}): only `where` and "
                               "`verdicts` can name it", *step.at, "from")
        return one(result) if result in results and result != reference else result

    where: list[Any] | None = None
    if step.decl.where is not None:
        where = []
        for entry in step.decl.where:
            name, body = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
            result = results.get(name, name)
            if isinstance(result, list) and body is not None and set(body) != {"undecided"}:
                raise loaded.error(f"{name!r} stands for {', '.join(result)}: put the condition on one of them",
                                   *step.at, "where")
            for target in result if isinstance(result, list) else [result]:
                where.append(target if body is None else {target: body})
    verdicts = step.decl.verdicts
    if verdicts is not None:
        listed = [results.get(name, name) for name in step.decl.heard]
        verdicts = [one(target) for found in listed for target in (found if isinstance(found, list) else [found])]
    renamed = _rename(step.decl.model_copy(update={"where": None, "verdicts": None}), one)
    return FlatStep(step.name, renamed.model_copy(update={"where": where, "verdicts": verdicts}), step.at)
