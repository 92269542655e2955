"""What is printed of the loop: trainings and their figures, checkpoints side by side, gates, what trained what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.engine.told import figure, figures, span, took
from factory.lines import console, entry, fields, one_line, table

if TYPE_CHECKING:
    from factory.engine.run import RunReport
    from warehouse import Warehouse
    from warehouse.lineage.ancestry import Training
    from warehouse.records import Manifest, StepReport

EVALUATED = {"greedy": "accuracy", "sampled": "sampled", "majority": "majority", "format": "format"}
"""Columns of the table of checkpoints, and the metric in each."""


def show_loop(steps: Sequence[StepReport], report: RunReport, warehouse: Warehouse) -> None:
    """What the trainings, reports and gates of a run came to, each in a table of its own."""
    done = [step for step in steps if step.status == "done"]
    trained = [[step.step, f"{step.counts.owed:,}", took(step), figures(step.facts["metrics"], 4)]
               for step in done if step.kind == "checkpoint"]
    _section(["trained", "rows", "time", "figures"], trained, ("rows", "time"))
    judged = [step for step in done if step.kind == "report" and _evaluates(step)]
    others = [[step.step, took(step), figures(step.facts["metrics"])]
              for step in done if step.kind == "report" and step not in judged]
    _section(["report", "time", "figures"], others, ("time",))
    gates = [[step.step, "passed" if step.facts["passed"] else "not passed", step.facts["reason"]]
             for step in done if step.kind == "gate"]
    _section(["gate", "", "because"], gates, (), [("" if row[1] == "passed" else "red") for row in gates])
    if judged:
        _show_checkpoints(judged, report, warehouse)


def _section(header: list[str], rows: list[list[str]], numbers: Sequence[str], styles: Sequence[str] = ()) -> None:
    if rows:
        console.print()
        table(header, rows, numbers=numbers, styles=styles)


def _evaluates(step: StepReport) -> bool:
    return any(metric in step.facts["metrics"] for metric in EVALUATED.values())


def _show_checkpoints(judged: Sequence[StepReport], report: RunReport, warehouse: Warehouse) -> None:
    """One line for each evaluated checkpoint: its figures on held-out problems, and what trained it."""
    from warehouse.lineage.ancestry import trainings

    names = [step.facts["checkpoint"] or _model(report.manifests[step.step], warehouse) for step in judged]
    rows, known = [], trainings(warehouse, names)
    for step, name in zip(judged, names, strict=True):
        metrics = step.facts["metrics"]
        by, seconds, on = "", "", ""
        if name in known:
            training = known[name]
            by = (training.op or "").removeprefix("train.")
            seconds = span(training.metrics["seconds"]) if "seconds" in training.metrics else ""
            on = _datasets(training, report.recipe)
        shown = _short(name, report.recipe) + (f" ({step.step})" if names.count(name) > 1 else "")
        values = [f"{metrics[metric]:.3f}" if metric in metrics else "" for metric in EVALUATED.values()]
        rows.append([shown, by, *values, seconds, on])
    _section(["checkpoint", "by", *EVALUATED, "time", "trained on (rows)"], rows, (*EVALUATED, "time"))


def _model(manifest: Manifest, warehouse: Warehouse) -> str:
    """The model that was judged, when it is no checkpoint: the one that wrote what the report reads."""
    wrote = [warehouse.manifest(item.ref).facts.get("model") for item in manifest.inputs[:1]]
    return (wrote[0] if wrote else None) or manifest.step


def _short(ref: str, recipe: str) -> str:
    """A ref of this recipe by its step's name; the run's report speaks of the version it made or used."""
    return ref.removeprefix(f"{recipe}/").rpartition("@")[0] if ref.startswith(f"{recipe}/") else ref


def _datasets(training: Training, recipe: str) -> str:
    return ", ".join(f"{_short(learned.ref, recipe)} ({learned.rows:,})" for learned in training.datasets)


def show_story(chains: Sequence[Sequence[Training]], *, metrics: bool = False) -> None:
    """What trained each checkpoint, one entry each, down to the model that is none; then the same for the checkpoints
    that wrote what it was trained on. `metrics` adds what each training measured."""
    told: set[str] = set()
    for number, chain in enumerate(chains):
        if number:
            console.print()
        for training in chain:
            told.add(training.checkpoint)
            entry(_told(training), lead=f"{training.checkpoint}: ", lead_style="bold cyan")
            if metrics and training.metrics:
                fields([("metrics", figures(training.metrics)),
                        ("took", span(training.metrics["seconds"]) if "seconds" in training.metrics else ""),
                        ("run", training.run_id)], indent=2)
        last = chain[-1]
        if last.from_checkpoint:
            entry(f"{last.base} (above)" if last.base in told else str(last.base), style="dim")
        elif last.base is not None:
            entry(f"random weights ({last.base})" if last.untrained else last.base, style="dim")


def _told(training: Training) -> str:
    """`train.sft on nano/cold_start@1 (612 rows by nano/zero@1), from`."""
    on = []
    for learned in training.datasets:
        by = f" by {', '.join(learned.writers)}" if learned.writers else ""
        on.append(f"{learned.ref} ({learned.rows:,} row{'s' if learned.rows != 1 else ''}{by})")
    return f"{training.op or 'a training'} on {', '.join(on)}" + (", from" if training.base is not None else "")


def about(manifest: Manifest) -> str:
    """What a version that holds no rows has to say, in one line for a list."""
    facts: Mapping[str, Any] = manifest.facts
    if manifest.kind == "checkpoint":
        return figures(facts["metrics"], 3)
    if manifest.kind == "report":
        return figures(facts["metrics"], 2).removesuffix(", …")
    if manifest.kind == "gate":
        return "passed" if facts["passed"] else "not passed"
    if manifest.kind == "receipt":
        return one_line(facts["receipt"].get("path", ""))
    return ""


def figures_of(manifest: Manifest) -> list[tuple[str, str]]:
    """What `factory show` says of a checkpoint, a report or a gate, by name."""
    facts: Mapping[str, Any] = manifest.facts
    told = [("verdict", ("passed: " if facts["passed"] else "not passed: ") + facts["reason"])
            ] if manifest.kind == "gate" else []
    told.append(("base" if manifest.kind == "checkpoint" else "about",
                 (facts.get("model") if manifest.kind == "checkpoint" else
                  facts.get("checkpoint") or facts.get("by_checkpoint")) or ""))
    told += [(name, figure(value)) for name, value in facts.get("metrics", {}).items()]
    return told
