"""train.grpo: reinforcement learning with rule rewards on the prompts of a dataset version (`trainers/grpo.py`)."""

from __future__ import annotations

import polars as pl

from factory.engine.errors import DataError
from factory.engine.op import Job, Kind, OpContext, TrainResult, op
from factory.engine.prompts import questions, template_identity
from factory.training.launch import CODE, joined_rows, train
from factory.training.settings import GrpoParams


def _columns(params: GrpoParams) -> list[str]:
    judged: list[str] = []
    if "accuracy" in params.rewards:
        judged = [params.entry, "task"] if params.verifier == "gym" else [params.answer]
    return list(dict.fromkeys((params.prompt, *params.columns, *judged)))


@op("train.grpo", version=1, kind=Kind.TRAIN, params=GrpoParams, columns=_columns, identity=template_identity,
    provenance=("template",), code=("trainers.grpo", "trainers.rewards", *CODE))
def train_grpo(job: Job, params: GrpoParams, ctx: OpContext) -> TrainResult:
    """Train a model by GRPO: it answers prompts in groups, verifiers and filters reward the answers.

    Several inputs are joined. Rows that lack a prompt or a reference answer are left out and counted. Side tables:
    `curves` (step, reward, rewards/<name>/mean, completions/mean_length, …), `rollouts` (step, prompt_row_id, response,
    tokens, reward and each reward by name). Metrics: steps, reward_first and reward_last (mean reward of the first and
    last quarter of the steps), seconds.

    Raises:
        DataError: no row is left.
        TrainerFailed: the trainer died; the end of its log is in the message.
    """
    needed = _columns(params)
    whole = joined_rows(job, needed, ctx)
    if 0 < whole.height < params.prompts_per_step:
        raise DataError(f"step {ctx.step}: there are {whole.height} prompts, and a step of training takes "
                        f"{params.prompts_per_step}: give it more, or lower params.prompts_per_step")
    asked = questions(whole, params, ctx.identity["template"])
    read = {params.answer: "answer", params.entry: "entry", "task": "task"}
    columns = [whole[name].cast(pl.String).alias(read[name]) for name in needed if name in read]
    data = pl.DataFrame({"row_id": whole["row_id"], "prompt": [found.content for found in asked],
                         "prefill": [found.prefill for found in asked],
                         "question": whole[params.prompt].cast(pl.String)}).with_columns(columns)
    return train(job, "grpo", data, params.model_dump(mode="json"), ctx)
