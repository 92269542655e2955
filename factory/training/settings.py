"""What a trainer is told: its settings (identity) and its job (how and where it runs this time).

The op checks the settings when the recipe is planned; the trainer's process reads the same classes from its job file.
Defaults follow DeepSeek-R1's published values where they exist (R1 paper, supplement B.4.1 for RL, B.4.2 for SFT):
two epochs, learning rate 5e-6, cosine to a tenth, batch 64; RL with groups of 16, 32 questions a step, temperature 1,
learning rate 3e-6, KL 0.001, advantages divided by the group's standard deviation. The clip of 10 was published for
the first RL stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from factory.engine.op import Params
from factory.engine.prompts import Asking

RewardName = Literal["accuracy", "format", "language"]


class Schedule(Params):
    """Learning rate over the steps: `warmup` is the share of steps in which it rises, `floor` what is left at the end
    of a cosine, as a share of the peak."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    floor: float = Field(default=0.1, ge=0, le=1)


class Optimizer(Params):
    """AdamW: `lr` is the peak learning rate, `batch` counts sequences for one update over all devices, `micro_batch`
    how many of them a device holds at once (None: all)."""

    lr: float = Field(gt=0)
    batch: int = Field(ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = Field(default=1.0, gt=0)
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _divides(self) -> Optimizer:
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch {self.batch}")
        return self


class SftParams(Asking):
    """`response` is the column that is learned, with its thinking; the prompt is not. `epochs` over the rows, which
    count `weight` times where a selection repeats them; sequences longer than `max_length` tokens are left out and
    counted."""

    response: str = "response"
    epochs: float = Field(default=2.0, gt=0)
    max_length: int = Field(default=32_768, ge=8)
    optimizer: Optimizer = Optimizer(lr=5e-6, batch=64)


class GrpoParams(Asking):
    """`rewards` are weights by name: `accuracy` (`verifier` against the column `answer`: 1 or 0), `format` (`form`: 1
    or 0), `language` (share of words in `target`). `group` answers to each of `prompts_per_step` prompts make a step,
    `steps` of them are done; the rollout of a step serves `updates` parameter updates. `beta` weighs the KL term,
    `clip` bounds the ratio (upper bound 1 + clip), `scale` divides advantages by the group's standard deviation;
    without it the loss is Dr. GRPO's, divided by `max_tokens` and not by the answers' lengths."""

    answer: str = "answer"
    entry: str = "entry"
    rewards: dict[RewardName, Annotated[float, Field(gt=0)]] = Field(
        default={"accuracy": 1.0, "format": 1.0}, min_length=1)
    verifier: Literal["math", "gym"] = "math"
    form: Literal["r1_zero", "r1", "none"] = "r1_zero"
    target: str = "prompt"
    steps: int = Field(ge=1)
    prompts_per_step: int = Field(default=32, ge=1)
    group: int = Field(default=16, ge=2)
    updates: int = Field(default=1, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=32_768, ge=1)
    beta: float = Field(default=0.001, ge=0)
    clip: float = Field(default=0.2, gt=0)
    scale: bool = True
    lr: float = Field(default=3e-6, gt=0)
    micro_batch: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    schedule: Schedule = Schedule(kind="constant", warmup=0.0)

    @model_validator(mode="after")
    def _divides(self) -> GrpoParams:
        rollout = self.group * self.prompts_per_step
        if rollout % self.updates:
            raise ValueError(f"updates {self.updates} does not divide the {rollout} answers of a step")
        if self.micro_batch is not None and (rollout // self.updates) % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide the {rollout // self.updates} answers of "
                             "an update")
        return self


class ModelFiles(BaseModel):
    """Where a trainer finds its model: `kind` hub, folder, gguf or config (`init_seed` draws the weights)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub", "folder", "gguf", "config"]
    location: str
    revision: str | None = None
    tokenizer: str | None = None
    init_seed: int = 0
    chat_template: str | None = None


class TrainJob(BaseModel):
    """A job file. `data` is Parquet: `prompt` (text, or a list of {role, content}), and `response` (SFT) or `prefill`
    and the columns that rewards read (GRPO). Everything is written below `output` (`checkpoint/`, `curves.parquet`,
    `rollouts.parquet`, `done.json` last)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainer: Literal["sft", "grpo"]
    model: ModelFiles
    data: Path
    output: Path
    seed: int
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    threads: int = 0
    params: dict[str, Any]
