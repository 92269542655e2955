"""Verdicts that a SCORE step hears: what earlier scored steps said of the same rows, as columns beside them.

A step that names `verdicts: [rules, judge]` finds, for each, `rules.label`, `rules.passed`, `rules.reason_code`,
`rules.score` and, where that step has it, `rules.extracted`. They are joined by row id; a row that failed there, or
that the step never saw, has nulls.

Score parts name the input part they belong to, so what is heard of an input part can be read, and named, without a look
at any other. `said_of` names it: as long as it is the same, so are the scores that were made with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import polars as pl

from factory.engine.reading import InputShard
from factory.engine.task import StepCall
from warehouse import Dataset
from warehouse.records import Manifest

COLUMNS = ("label", "passed", "reason_code", "score", "extracted")
"""What is heard of a verdict."""


def heard_columns(step: str, schema: Sequence[str]) -> dict[str, str]:
    """Column of the batch -> column of the step's scores."""
    return {f"{step}.{name}": name for name in COLUMNS if name in schema}


def said_of(part: str, scored: Sequence[Manifest]) -> str:
    """Names what these versions say of an input part (its sha256); "" when nobody is heard."""
    if not scored:
        return ""
    said = "\n".join(" ".join(sorted(found.sha256 for found in manifest.tables.get("scores", []) if found.of == part))
                     for manifest in scored)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def verdicts_on(call: StepCall, part: InputShard) -> pl.DataFrame | None:
    """All that is heard of the rows of an input part, by `row_id`; None for a step that hears nobody."""
    return verdict_table(part, {step: call.input(index) for step, index in call.facts.get("verdicts", {}).items()})


def verdict_table(part: InputShard, said: Mapping[str, Dataset]) -> pl.DataFrame | None:
    """What score datasets, by the names of their steps, say of the rows of an input part."""
    table: pl.DataFrame | None = None
    for step, scored in said.items():
        columns = heard_columns(step, list(scored.schema("scores")))
        parts = [found for found in scored.parts("scores") if found.of == part.part.sha256]
        one = scored.table("scores", parts).select(
            "row_id", *(pl.col(name).alias(column) for column, name in columns.items())).collect()
        table = one if table is None else table.join(one, on="row_id", how="full", coalesce=True)
    return table


def add_verdicts(batch: pl.DataFrame, part: InputShard, said: Mapping[str, Dataset]) -> pl.DataFrame:
    """Rows of an input part with what is said of them."""
    return heard(batch, verdict_table(part, said))


def heard(batch: pl.DataFrame, verdicts: pl.DataFrame | None) -> pl.DataFrame:
    """The batch with what is heard of its rows."""
    return batch if verdicts is None else batch.join(verdicts, on="row_id", how="left", maintain_order="left")
