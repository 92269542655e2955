"""evaluate: how good is a model on held-out problems? A composite of ordinary steps, ending in one table of figures.

`evaluate` becomes: greedy answers and `k` sampled ones (generate.sample), each verified (verify.math or verify.gym) and
checked for form (verify.format), then `evaluate.summary`. Every answer stays in the warehouse, tied to the checkpoint
that wrote it. Figures (R1 paper, section 3 and supplement D: pass@1 is the mean over k samples; cons@k the majority's):

    pass@1 greedy   share of problems whose greedy answer is right
    mean            share of right answers among the k sampled ones
    majority        share of problems whose most frequent extracted answer is right (ties: the one that came first)
    format          share of greedy answers that keep the form
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import Field

from factory.engine.errors import OpError
from factory.engine.op import Job, Kind, OpContext, Params, Report, composite, op
from factory.engine.prompts import Asking


class EvaluateParams(Asking):
    """`k` sampled answers at `temperature` beside the greedy one; `verifier` (math: against the column `answer`; gym)
    and `form` say what is right and well formed."""

    k: int = Field(default=4, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=2048, ge=1)
    verifier: Literal["math", "gym"] = "math"
    answer: str = "answer"
    form: Literal["r1_zero", "r1", "none"] = "r1_zero"


@composite("evaluate", params=EvaluateParams, asks_model=True)
def evaluate(step_name: str, decl: dict[str, Any], params: EvaluateParams) -> tuple[dict[str, dict[str, Any]], str]:
    """Judge a model on held-out problems: greedy, mean and majority of k samples, format."""
    asking = {name: getattr(params, name) for name in Asking.model_fields}
    for field in ("where", "against"):
        if field in decl:
            raise OpError(f"evaluate takes no `{field}`: remove it")
    shared: dict[str, Any] = {name: decl[name] for name in ("runtime", "seed") if name in decl}
    sample: dict[str, Any] = {"op": "generate.sample", "from": decl.get("from"), "model": decl.get("model"), **shared}
    verify: dict[str, Any] = {"op": f"verify.{params.verifier}"}
    if params.verifier == "math":
        verify["params"] = {"answer": params.answer}
    steps: dict[str, dict[str, Any]] = {}
    for part, settings in (("greedy", {"n": 1, "temperature": 0.0}),
                           ("sampled", {"n": params.k, "temperature": params.temperature, "top_p": params.top_p})):
        name = f"{step_name}.{part}"
        steps[name] = {**sample, "params": {**asking, **settings, "max_tokens": params.max_tokens}}
        steps[f"{name}.correct"] = {**verify, "from": name}
        steps[f"{name}.form"] = {"op": "verify.format", "from": name, "params": {"form": params.form}}
    # the summary takes its inputs by place
    summary: dict[str, Any] = {"op": "evaluate.summary", "from": list(steps)}
    steps[step_name] = summary | {key: decl[key] for key in ("name",) if key in decl}
    return steps, step_name


class SummaryParams(Params):
    """None: it reads what `evaluate` made."""


@op("evaluate.summary", version=1, kind=Kind.REPORT, params=SummaryParams)
def evaluate_summary(job: Job, params: SummaryParams, ctx: OpContext) -> Report:
    """Figures of an evaluation, from (greedy, its verdicts, its forms, sampled, its verdicts, its forms).

    Table `report`: problem_row_id, greedy (right: Boolean), mean (share of right samples), majority (Boolean). Metrics:
    accuracy, sampled, majority, format, sampled_format, tokens (mean length of a greedy answer), problems, answered
    (share of the answers that were had). Undecided verdicts count as wrong, and so do answers that were refused or
    failed (a prompt too long, say).
    """
    if len(job.inputs) != 6:
        raise OpError(f"evaluate.summary takes the six steps that `evaluate` makes, got {len(job.inputs)}: write "
                      "`op: evaluate`")
    names = list(job.inputs)
    greedy, sampled = (_judged(job, names[at: at + 3]) for at in (0, 3))
    by_problem = sampled.group_by("parent_row_id", maintain_order=True).agg(
        pl.col("right").mean().alias("mean"), pl.col("extracted", "right", "sample_index").sort_by("sample_index"))
    majority = [_majority(*row) for row in by_problem.select("extracted", "right").iter_rows()]
    table = greedy.select(pl.col("parent_row_id").alias("problem_row_id"), pl.col("right").alias("greedy")).join(
        by_problem.select(pl.col("parent_row_id").alias("problem_row_id"), "mean").with_columns(
            majority=pl.Series(majority, dtype=pl.Boolean)), on="problem_row_id", how="left", maintain_order="left")
    problems, asked = (job.notes[names[at]]["counts"]["owed"] for at in (0, 3))
    tokens: Any = greedy["tokens_out"].mean() or 0.0
    metrics = {"accuracy": greedy["right"].sum() / max(problems, 1), "sampled": sampled["right"].sum() / max(asked, 1),
               "majority": sum(majority) / max(problems, 1), "format": greedy["formed"].sum() / max(problems, 1),
               "sampled_format": sampled["formed"].sum() / max(asked, 1), "tokens": float(tokens),
               "problems": float(problems), "answered": (greedy.height + sampled.height) / max(problems + asked, 1)}
    return Report(table, metrics, job.notes[names[0]]["by_checkpoint"])


def _judged(job: Job, names: list[str]) -> pl.DataFrame:
    """Answers with `right` and `formed` (False where undecided or not scored) and `extracted`."""
    answers, verdicts, forms = (job.inputs[name] for name in names)
    rows = answers.select("row_id", "parent_row_id", "sample_index", "tokens_out").join(
        verdicts.select("row_id", pl.col("passed").alias("right"), "extracted"), on="row_id", how="left").join(
        forms.select("row_id", pl.col("passed").alias("formed")), on="row_id", how="left")
    return rows.with_columns(pl.col("right", "formed").fill_null(False)).sort("row_id").collect()


def _majority(extracted: list[str | None], right: list[bool]) -> bool:
    """Whether the most frequent extracted answer is right; samples without an answer have no vote."""
    votes: dict[str, list[bool]] = {}
    for answer, verdict in zip(extracted, right, strict=True):
        if answer is not None:
            votes.setdefault(answer.strip(), []).append(verdict)
    return bool(votes) and max(votes.values(), key=len)[0]
