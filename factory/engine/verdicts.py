"""What stored verdicts say: how two versions of them differ, and which prompts nobody could judge.

Both read committed score tables and nothing else, so the answer is the same whenever it is asked for. A verdict is one
of `correct`, `incorrect`, `undecided`; scores without a label are told by their default rule as `passed`, `refused`,
`undecided`; a row that failed (a time-out) is `failed` and has no verdict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.engine.errors import UsageError
from warehouse import Dataset, Warehouse
from warehouse.dataset import PARENT
from warehouse.records import Manifest

REFERENCES = ("answer", "reference", "gold", "tests", "entry")
"""Params of verifiers that name the column of the reference, the first of them that a verifier has."""

_TOLD = {"row_id": pl.Int64(), **dict.fromkeys(("said", "code", "reason", "extracted"), pl.String())}


@dataclass(frozen=True, slots=True)
class VerdictDiff:
    """What changed from the verdicts `old` to `new`, over `both` rows that both judge (`only_old` and `only_new` are
    judged by one alone). `changes` counts label and reason code before and after, where either changed (columns
    before, after, code_before, code_after, rows); `rows` has each row whose label changed (row_id, before, after,
    code_before, code_after, extracted_before, extracted_after, reason_before, reason_after, reference). `made` names
    what differs in how they were made."""

    old: str
    new: str
    both: int
    only_old: int
    only_new: int
    changes: pl.DataFrame
    rows: pl.DataFrame
    made: dict[str, tuple[Any, Any]]

    @property
    def labels(self) -> dict[tuple[str, str], int]:
        """Rows by label before and after, where it changed."""
        counted: dict[tuple[str, str], int] = {}
        for before, after, rows in self.changes.select("before", "after", "rows").iter_rows():
            if before != after:
                counted[before, after] = counted.get((before, after), 0) + rows
        return counted


def diff_verdicts(warehouse: Warehouse, old: str, new: str) -> VerdictDiff:
    """Compare two versions of verdicts, or those of two verifiers, row by row.

    Raises:
        UsageError: one of them holds no verdicts. NotInWarehouse.
    """
    before, after = (_scores(warehouse, ref) for ref in (old, new))
    then, now = _told(before), _told(after)
    joined = then.join(now, on="row_id", how="inner", suffix="_after", maintain_order="left")
    moved = joined.filter((pl.col("said") != pl.col("said_after")) | pl.col("code").ne_missing(pl.col("code_after")))
    names = {"said": "before", "said_after": "after", "code": "code_before", "code_after": "code_after",
             "reason": "reason_before", "reason_after": "reason_after", "extracted": "extracted_before",
             "extracted_after": "extracted_after"}
    moved = moved.rename(names)
    key = ["before", "after", "code_before", "code_after"]
    changes = moved.group_by(key).len("rows").with_columns(pl.col("rows").cast(pl.Int64))
    changes = changes.sort(pl.col("before") == pl.col("after"), "rows", *key, descending=[False, True, *[False] * 4])
    rows = moved.filter(pl.col("before") != pl.col("after")).select(
        "row_id", *key, "extracted_before", "extracted_after", "reason_before", "reason_after").sort("row_id")
    rows = rows.with_columns(_references(warehouse, after, rows["row_id"]))
    return VerdictDiff(before.ref, after.ref, joined.height, then.height - joined.height, now.height - joined.height,
                       changes, rows, _made(before.manifest, after.manifest))


def _scores(warehouse: Warehouse, ref: str) -> Dataset:
    found = warehouse.dataset(ref)
    if found.kind != "scores":
        raise UsageError(f"{found.ref} is a {found.kind} version and holds no verdicts: name what a verifier wrote "
                         "(`factory ls` shows the ops); `factory diff` compares rows and selections")
    return found


def _told(dataset: Dataset) -> pl.DataFrame:
    """One row for each judged row: what was said, and why."""
    schema = dataset.schema("scores")
    scores = dataset.table("scores").select(
        "row_id", pl.col("label").fill_null(pl.when(pl.col("passed").is_null()).then(pl.lit("undecided")).when(
            pl.col("passed")).then(pl.lit("passed")).otherwise(pl.lit("refused"))).alias("said"),
        pl.col("reason_code").alias("code"), "reason",
        (pl.col("extracted") if "extracted" in schema else pl.lit(None, pl.String)).cast(pl.String).alias("extracted"),
    ).collect() if dataset.parts("scores") else pl.DataFrame(schema=_TOLD)
    if not dataset.parts("failures"):
        return scores
    failed = dataset.table("failures").select(
        "row_id", pl.lit("failed").alias("said"), pl.col("error_type").alias("code"), pl.col("message").alias("reason"),
        pl.lit(None, pl.String).alias("extracted")).collect()
    return pl.concat([scores, failed])


def _references(warehouse: Warehouse, scores: Dataset, row_ids: pl.Series) -> pl.Series:
    """The reference of each row as text, where the verifier has one."""
    params = scores.manifest.identity.get("params") or {}
    judged = warehouse.any_dataset(scores.manifest.inputs[0].ref)
    column = next((params[name] for name in REFERENCES if isinstance(params.get(name), str)), None)
    if column is None or column not in judged.all_columns or not row_ids.len():
        return pl.Series("reference", [None] * row_ids.len(), pl.String)
    found: pl.Series = judged.lookup(row_ids, [column])[column]
    if found.dtype.is_nested():
        texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str)
                 for value in found.to_list()]
        return pl.Series("reference", texts, pl.String)
    found = found.cast(pl.String, strict=False)
    return found.alias("reference")


def _made(before: Manifest, after: Manifest) -> dict[str, tuple[Any, Any]]:
    """What differs in how two versions were made: op, version, params, inputs; the code where nothing else does."""
    made: dict[str, tuple[Any, Any]] = {
        name: (getattr(before, name), getattr(after, name)) for name in ("op", "op_version")
        if getattr(before, name) != getattr(after, name)}
    then, now = (found.identity.get("params") or {} if before.op == after.op else {} for found in (before, after))
    made |= {f"params.{name}": (then.get(name), now.get(name)) for name in sorted({*then, *now})
             if then.get(name) != now.get(name)}
    inputs = tuple([item.ref for item in found.inputs] for found in (before, after))
    if inputs[0] != inputs[1]:
        made["inputs"] = (", ".join(inputs[0]), ", ".join(inputs[1]))
    if not made and before.code_sha256 != after.code_sha256:
        made["code"] = (before.code_sha256[:8], after.code_sha256[:8])
    return made


def unjudged(warehouse: Warehouse, ref: str) -> pl.DataFrame:
    """The prompts whose reference a verifier could not use (reason codes `gold_…`), by what was wrong with it.

    Returns:
        reason_code, reason (names the reference), prompts, rows (answers to them), row_id (of the first such prompt),
        the reasons that meet most prompts first. Empty where all could be judged.
    """
    scores = _scores(warehouse, ref)
    schema = {"reason_code": pl.String, "reason": pl.String, "prompts": pl.Int64, "rows": pl.Int64, "row_id": pl.Int64}
    if not has_unjudged(scores.manifest) or not scores.parts("scores"):
        return pl.DataFrame(schema=schema)
    found = scores.table("scores").filter(
        pl.col("passed").is_null() & pl.col("reason_code").str.starts_with("gold_")).select(
        "row_id", "reason_code", "reason").collect()
    above = warehouse.any_dataset(scores.manifest.inputs[0].ref).lookup(found["row_id"], [PARENT])
    prompt = above[PARENT] if PARENT in above.columns else found["row_id"]
    found = found.with_columns(prompt=pl.coalesce(prompt.cast(pl.Int64), found["row_id"]))
    told = found.group_by("reason_code", "reason").agg(
        prompts=pl.col("prompt").n_unique().cast(pl.Int64), rows=pl.len().cast(pl.Int64), row_id=pl.col("prompt").min())
    return told.sort("prompts", "row_id", descending=[True, False]).select(list(schema))


def has_unjudged(manifest: Manifest) -> bool:
    """Whether any prompt could not be judged, by the counts that every version carries."""
    return any(reason.startswith("undecided:gold_") for reason in manifest.counts.reasons)
