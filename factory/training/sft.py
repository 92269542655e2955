"""train.sft: supervised fine-tuning on the responses of a dataset version (`trainers/sft.py` does it, over TRL)."""

from __future__ import annotations

import polars as pl

from factory.engine.op import Job, Kind, OpContext, TrainResult, op
from factory.engine.prompts import questions, template_identity
from factory.training.launch import CODE, joined_rows, train
from factory.training.settings import SftParams


def _columns(params: SftParams) -> list[str]:
    return list(dict.fromkeys((params.prompt, params.response, *params.columns)))


@op("train.sft", version=1, kind=Kind.TRAIN, params=SftParams, columns=_columns, identity=template_identity,
    provenance=("template",), code=("trainers.sft", *CODE))
def train_sft(job: Job, params: SftParams, ctx: OpContext) -> TrainResult:
    """Train a model on prompts and responses; the loss is on the response, thinking included.

    Several inputs are joined. Rows that lack a prompt or a response are left out and counted (`rows_incomplete`).
    Side table: `curves` (step, loss, learning_rate, …). Metrics: loss, steps, rows, rows_too_long, seconds.

    Raises:
        DataError: no row is left.
        TrainerFailed: the trainer died; the end of its log is in the message.
    """
    whole = joined_rows(job, _columns(params), ctx)
    prompts = [found.content for found in questions(whole, params, ctx.identity["template"])]
    data = pl.DataFrame({"prompt": prompts, "response": whole[params.response]})
    return train(job, "sft", data, params.model_dump(mode="json"), ctx)
