"""What `factory plan --explain` prints: which fields of a step differ from its newest version, and what that redoes."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from rich.text import Text

from factory.engine.errors import UsageError
from factory.lines import clean, console, entry, one_line, print_json

if TYPE_CHECKING:
    from factory.api import Planned
    from factory.engine.plan import Step

_LONG = 300
_COLOURS = {"+": "green", "-": "red", "@": "dim"}


def show_explained(planned: Planned, name: str, as_json: bool) -> None:
    """Why a step would run, or why not."""
    from factory.engine.resolve import explain as differences
    from factory.engine.resolve import previous_version

    if name not in planned.plan.steps:
        raise UsageError(f"--explain {name}: no such step; there are {', '.join(planned.plan.steps)}")
    step, status = planned.plan.steps[name], planned.statuses[name]
    previous = previous_version(step, planned.warehouse) if planned.warehouse else None
    inputs = [planned.statuses[source].manifest for source in step.inputs]
    changes = differences(step, previous, [found for found in inputs if found is not None]) if previous else []
    waiting = [f"{source} will be made again"
               for source, found in zip(step.inputs, inputs, strict=True) if found is None]
    redoes = _redoes(planned, step)
    if as_json:
        print_json({"step": name, "state": status.state, "reason": status.reason, "inputs": waiting, "redoes": redoes,
                    "compared_to": previous.ref if previous else None, "changes": [list(change) for change in changes]})
        return
    against = f", compared to {previous.ref}" if previous is not None and changes else ""
    entry(f"{name} ({step.spec.name}): {status.state}{against}", style="bold")
    if status.manifest is not None:
        entry(f"reuses {status.manifest.ref}: same fingerprint {step.fingerprint[:12]}, same inputs", indent=2)
    elif previous is None:
        entry(f"{step.dataset} has no version yet", indent=2)
    for field, then, now in changes:
        _show_change(field, then, now)
    for line in waiting:
        entry(line, indent=2)
    if previous is not None:
        entry(_MEANING[redoes], indent=2, style="dim")


_MEANING = {
    "nothing": "`runtime` (batch, endpoint, concurrency, …) is not compared: changing it redoes nothing.",
    "missing": "What is there stays; only what is missing is made.",
    "all": "All of it is made anew; `runtime` is not compared."}


def _redoes(planned: Planned, step: Step) -> str:
    """`nothing`, `missing` (an earlier version is extended) or `all`."""
    from factory.engine.op import CONTENT_KINDS, Kind

    if planned.statuses[step.name].state == "reuse":
        return "nothing"
    if planned.warehouse is None or (step.model_step and planned.statuses[step.model_step].manifest is None):
        return "all"
    if step.kind in CONTENT_KINDS or step.kind is Kind.SCORE:
        return "missing" if any(found.kind in ("rows", "scores") for found in planned.warehouse.family(step.family)
                                ) else "all"
    return "all"


def _show_change(field: str, then: Any, now: Any) -> None:
    """One field, then and now; of a text of several lines, the lines that changed."""
    if isinstance(then, str) and isinstance(now, str) and "\n" in then + now:
        entry(f"{field}:", indent=2)
        before, after = ([clean(line) for line in text.split("\n")] for text in (then, now))
        for line in list(difflib.unified_diff(before, after, "then", "now", lineterm="", n=1))[2:]:
            console.print(Text(f"    {line}".rstrip(), _COLOURS.get(line[:1], "")), soft_wrap=True)
        return
    entry(f"{_said(then)} → {_said(now)}", lead=f"{field}: ", indent=2)


def _said(value: Any) -> str:
    return "(not set)" if value is None else one_line(value, _LONG) or '""'
