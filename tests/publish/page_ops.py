"""Ops for the tests of the page: a training without a trainer, an evaluation, a gate; named in `plugins:`."""

from __future__ import annotations

import math

import polars as pl

from factory.engine.op import GateResult, Job, Kind, NoParams, OpContext, Params, Report, TrainResult, op


class TuneParams(Params):
    """`steps` of `curve` are logged: sft, grpo or none."""

    steps: int = 40
    curve: str = "sft"


@op("page.tune", version=1, kind=Kind.TRAIN, params=TuneParams)
def tune(job: Job, params: TuneParams, ctx: OpContext) -> TrainResult:
    """A checkpoint of one file, with curves as the trainers write them."""
    folder = job.workdir / "checkpoint"
    folder.mkdir()
    (folder / "weights.txt").write_text(f"{ctx.step} {ctx.seed}", encoding="utf-8")
    steps = pl.DataFrame({"step": range(1, params.steps + 1)}, schema={"step": pl.Int64})
    curves = {"sft": steps.with_columns(loss=1 / pl.col("step")),
              "grpo": steps.with_columns(
                  pl.lit(0.001).alias("loss"), (pl.col("step") / 50).alias("reward"),
                  (pl.col("step") / 60).alias("rewards/accuracy/mean"), pl.lit(0.3).alias("rewards/format/mean"),
                  (pl.col("step") + 20.0).alias("completions/mean_length"))}
    tables = {"curves": curves[params.curve]} if params.curve in curves else {}
    return TrainResult(folder, {"steps": float(params.steps)}, tables)


class CheckParams(Params):
    """`figures` as they shall be found."""

    figures: dict[str, float]


@op("page.check", version=1, kind=Kind.REPORT, params=CheckParams)
def check(job: Job, params: CheckParams, ctx: OpContext) -> Report:
    """Figures of the first input's checkpoint."""
    first = next(iter(job.inputs))
    return Report(pl.DataFrame({"of": [first]}), dict(params.figures), job.notes[first]["checkpoint"])


@op("page.gate", version=1, kind=Kind.GATE, params=NoParams)
def gate(job: Job, params: NoParams, ctx: OpContext) -> GateResult:
    """Passes, with a reason that a browser must not read as markup."""
    return GateResult(True, "<b>0.9</b> & better than \"0.5\"", {"accuracy": math.tau})
