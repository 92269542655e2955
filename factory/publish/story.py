"""What the page tells, read from a job: checkpoints, selections, trainings, gates, sample rows. No HTML here.

A checkpoint is told once, with every evaluation of it that the page was given; evaluations know their checkpoint by
reference. Counts are those that the engine recorded: a dataset's `owed` slots are kept, rejected for a first reason, or
failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.engine.op import Job
from factory.publish.chart import LineChart, line_chart, wilson

_METHODS = {"train.sft": "SFT", "train.grpo": "GRPO"}
_FIGURES = ("accuracy", "sampled", "majority", "format")
_REASONS = 12
_POINTS = 30_000
_HAIR = 0.4


@dataclass(frozen=True, slots=True)
class Judged:
    """A line of the table: a checkpoint and one evaluation of it. Either half may be missing."""

    name: str
    checkpoint: str | None
    method: str
    start: str | None
    data: tuple[str, ...]
    amount: str
    evaluation: str | None
    figures: Mapping[str, float]
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a funnel: `left` and `width` are percent of what was owed; the smallest part is still a hair wide."""

    label: str
    kind: str
    count: int
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many slots a dataset was owed and what became of them; `before` are the datasets it was chosen from."""

    name: str
    ref: str
    op: str
    owed: int
    kept: int
    before: tuple[Mapping[str, Any], ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """Curves of one training."""

    name: str
    method: str
    charts: tuple[LineChart, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's verdict."""

    name: str
    passed: bool
    reason: str


def judged_checkpoints(job: Job) -> list[Judged]:
    """Checkpoints in the order in which they, or an evaluation of them, were first named."""
    trained = {note["checkpoint"]: (name, note) for name, note in _of(job, "checkpoint")}
    checks: dict[str, list[tuple[str, dict[str, Any]] | None]] = {}
    order: dict[str, None] = {}
    for name, note in job.notes.items():
        if note["kind"] == "checkpoint":
            order.setdefault(note["checkpoint"])
        elif note["kind"] == "report" and _told(note):
            key = note["checkpoint"] or f"\0{name}"  # a model that is no checkpoint of ours
            order.setdefault(key)
            checks.setdefault(key, []).append((name, note))
    nothing: list[tuple[str, dict[str, Any]] | None] = [None]
    return [_judged(key, trained.get(key), check) for key in order for check in checks.get(key, nothing)]


def other_reports(job: Job) -> list[tuple[str, Mapping[str, float]]]:
    """Reports without any figure of the table, and all their figures."""
    return [(name, note["metrics"]) for name, note in _of(job, "report") if not _told(note)]


def funnels(job: Job) -> list[Funnel]:
    """One for each selection and each dataset of rows that was given."""
    steps = {row.get("ref"): row for row in job.facts.get("funnel") or []}
    found = []
    for name, note in _of(job, "selection", "rows"):
        before = tuple(steps[item["ref"]] for item in note.get("inputs", ())
                       if item["role"] == "from" and item["ref"] in steps)
        counts = note["counts"]
        found.append(Funnel(name, note["ref"], note["op"], counts["owed"], counts["kept"], before, _bars(counts)))
    return found


def trainings(job: Job) -> list[Training]:
    """Curves of each train step that kept some."""
    named = [(name, note) for name, note in _of(job, "checkpoint") if "curves" in note["tables"]]
    tables = [(name, note, job.table(name, "curves").collect()) for name, note in named]
    every = sum(len(series) for _, _, table in tables for _, series in _series(table))
    most = max(24, min(240, _POINTS // max(1, every)))
    found = []
    for name, note, table in tables:
        steps = table["step"].to_list() if "step" in table.columns else list(range(1, table.height + 1))
        charts = (line_chart(title, steps, series, most, noisy=title != "loss") for title, series in _series(table))
        drawn = tuple(chart for chart in charts if chart is not None)
        if drawn:
            found.append(Training(name, _METHODS.get(note["op"], note["op"]), drawn))
    return found


def gates(job: Job) -> list[Gate]:
    """Every gate with what it said."""
    return [Gate(name, bool(note.get("passed")), note.get("reason") or "") for name, note in _of(job, "gate")]


def _of(job: Job, *kinds: str) -> Iterable[tuple[str, dict[str, Any]]]:
    return [(name, job.notes[name]) for name in job.inputs if job.notes[name]["kind"] in kinds]


def _told(note: Mapping[str, Any]) -> bool:
    return any(name in note["metrics"] for name in _FIGURES)


def _judged(key: str, trained: tuple[str, dict[str, Any]] | None,
            check: tuple[str, dict[str, Any]] | None) -> Judged:
    evaluation, metrics = (check[0], check[1]["metrics"]) if check is not None else (None, {})
    figures = {name: value for name, value in metrics.items()
               if value is not None and math.isfinite(value) and (name not in _FIGURES or 0 <= value <= 1)}
    interval = (wilson(figures["accuracy"], figures["problems"]) if {"accuracy", "problems"} <= set(figures) else None)
    if trained is None:
        ours = not key.startswith("\0")
        return Judged(key.rpartition("@")[0].rpartition("/")[2] if ours else key[1:], key if ours else None, "", None,
                      (), "", evaluation, figures, interval)
    name, note = trained
    data = tuple(item["ref"] for item in note.get("inputs", ()) if item["role"] == "from")
    return Judged(name, key, _METHODS.get(note["op"], note["op"]), note["model"], data, _amount(note), evaluation,
                  figures, interval)


def _amount(note: Mapping[str, Any]) -> str:
    """How much was trained on; SFT counts the rows that it used, repeats included."""
    metrics = note["metrics"]
    rows = f"{int(metrics.get('rows', note['counts']['kept'])):,} rows"
    return f"{rows}, {int(metrics['steps']):,} steps" if "steps" in metrics else rows


def _bars(counts: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Kept first, then reasons from the most frequent; together they are as wide as what was owed."""
    parts = [("kept", "kept", counts["kept"])]
    refused = sorted(((name, count) for name, count in counts["reasons"].items()), key=lambda one: (-one[1], one[0]))
    told = refused if counts["rejected"] or counts["failed"] else []
    shown, rest = told[:_REASONS], told[_REASONS:]
    parts += [(name, "failed" if name.startswith("failed:") else "rejected", count) for name, count in shown]
    parts += [(f"{len(rest)} other reasons", "rejected", sum(count for _, count in rest))] if rest else []
    whole, left, bars = max(counts["owed"], sum(count for _, _, count in parts), 1), 0, []
    for label, kind, count in parts:
        width = max(100 * count / whole, _HAIR if count else 0.0)
        bars.append(Bar(label, kind, count, min(100 * left / whole, 100 - width), width))
        left += count
    return tuple(bars)


def _series(table: pl.DataFrame) -> list[tuple[str, dict[str, list[float | None]]]]:
    """The charts of a training: (title, series). Reward with its parts and the length of answers; or the loss."""
    numeric = {name for name, dtype in table.schema.items() if dtype.is_numeric()}
    if "reward" not in numeric:
        return [("loss", {"loss": table["loss"].to_list()})] if "loss" in numeric else []
    parts = [name for name in table.columns
             if name in numeric and name.startswith("rewards/") and name.endswith("/mean")]
    reward = {"reward": table["reward"].to_list(),
              **{name.split("/", 1)[1].removesuffix("/mean"): table[name].to_list() for name in parts}}
    length = "completions/mean_length"
    return [("reward and its parts", reward),
            *([("mean length of an answer, tokens", {"length": table[length].to_list()})] if length in numeric else [])]
