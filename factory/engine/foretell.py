"""What the steps after a model-asking step would say of a few of its answers, without a warehouse: for `preview`.

SCORE steps over it measure the answers; of select steps over it, each rule on such a measurement is applied. What
compares rows with one another (dedup, how many are kept of a prompt) cannot be told of a few, and is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from factory.engine.errors import FactoryError
from factory.engine.kinds.heard import heard_columns
from factory.engine.kinds.select import refused_by
from factory.engine.op import SCORE_SCHEMA, Kind, OpContext
from factory.engine.plan import Plan, Step

Verdict = dict[str, Any]
"""`step`, `op`, `passed` (null: undecided), `label`, `score`, `reason_code`, `reason`, `measured`; or `failed`."""


def judging(plan: Plan, name: str) -> list[Step]:
    """The SCORE steps that measure this step's rows, but for those that would ask a model or hear one that is not among
    them."""
    found: dict[str, Step] = {}
    for step in plan.steps.values():
        if (step.kind is Kind.SCORE and not step.spec.asks_model and name in step.decl.sources
                and set(step.decl.heard) <= set(found)):
            found[step.name] = step
    return list(found.values())


def judge(steps: Sequence[Step], rows: pl.DataFrame) -> list[list[Verdict]]:
    """The verdict of each step on each row. `rows` has `row_id` 0, 1, … and every column that the steps read."""
    said: dict[str, list[Verdict]] = {}
    known: dict[str, pl.DataFrame] = {}
    for step in steps:
        said[step.name] = _verdicts(step, rows.hstack([column for name in step.decl.heard for column in known[name]]))
        known[step.name] = _as_heard(step, said[step.name])
    return [[verdicts[index] for verdicts in said.values()] for index in range(rows.height)]


def _as_heard(step: Step, said: Sequence[Verdict]) -> pl.DataFrame:
    """What a step said of each row, as the columns that another one hears."""
    schema = {**SCORE_SCHEMA, **step.spec.out(step.params)}
    values = [{**found, **found.get("measured", {})} for found in said]
    return pl.DataFrame({column: pl.Series([found.get(name) for found in values], dtype=schema[name])
                         for column, name in heard_columns(step.name, list(schema)).items()})


def _verdicts(step: Step, rows: pl.DataFrame) -> list[Verdict]:
    heard = [column for name in step.decl.heard for column in rows.columns if column.startswith(f"{name}.")]
    batch = rows.select(list(dict.fromkeys(["row_id", "row_key", *step.spec.columns(step.params), *heard])))
    try:
        made = step.spec.func(batch, step.params, OpContext(step.name, step.seed, step.identity.get("content")))
    except FactoryError as error:
        return [{"step": step.name, "op": step.spec.name, "failed": str(error)} for _ in range(rows.height)]
    return told(step, made)


def told(step: Step, made: pl.DataFrame) -> list[Verdict]:
    """What an op measured, row by row."""
    head = {"step": step.name, "op": step.spec.name}
    own = [name for name in step.spec.out(step.params) if name not in SCORE_SCHEMA]
    found = []
    for row in made.to_dicts():
        if row.get("_failed") is not None:
            found.append({**head, "failed": row["_failed"]})
        else:
            found.append({**head, **{name: row.get(name) for name in SCORE_SCHEMA},
                          "measured": {name: row.get(name) for name in own}})
    return found


def choices(plan: Plan, name: str, verdicts: Sequence[Sequence[Verdict]]) -> list[list[dict[str, Any]]]:
    """For each row what each select step over this step would say: `step`, `refused` (the rules' reasons), `open` (the
    rules that only all rows together can decide)."""
    selects = [step for step in plan.steps.values() if step.kind is Kind.SELECT and name in step.decl.sources]
    found: list[list[dict[str, Any]]] = [[] for _ in verdicts]
    for step in selects:
        refused: list[list[dict[str, str]]] = [[] for _ in verdicts]
        undecided: list[str] = []
        for rule in step.rules:
            scores = _scores(plan.steps[rule.step], verdicts)
            if scores is None:
                undecided.append(rule.step)
                continue
            rows = pl.DataFrame({"row_id": range(len(verdicts))}, schema={"row_id": pl.Int64})
            for line in refused_by(rule, scores.lazy(), rows).to_dicts():
                refused[line["row_id"]].append({"code": line["reason_code"], "reason": line["reason"] or ""})
        for index, reasons in enumerate(refused):
            found[index].append({"step": step.name, "refused": reasons, "open": undecided})
    return found


def _scores(step: Step, verdicts: Sequence[Sequence[Verdict]]) -> pl.DataFrame | None:
    """The score table of a step that judged these rows; None for one that did not."""
    schema: Mapping[str, Any] = {"row_id": pl.Int64(), **SCORE_SCHEMA, **step.spec.out(step.params)}
    judged = [[(index, found) for found in row if found["step"] == step.name] for index, row in enumerate(verdicts)]
    if not any(judged):
        return None
    lines = [{"row_id": index, **found, **found["measured"]} for row in judged for index, found in row
             if "failed" not in found]
    return pl.DataFrame([{name: line.get(name) for name in schema} for line in lines], schema=schema)
