"""A trainer's process around the training itself: read the job, tell how far it is, leave the results whole.

Progress goes to `progress.jsonl`, one JSON object a line. `done.json` is written last: without it the launcher takes
the job for failed, whatever the exit code.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from factory.training.settings import TrainJob


def read_job(trainer: str) -> TrainJob:
    """The job named on the command line."""
    # a worker that ignores or blocks these hands that on to what it starts
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m trainers.{trainer} job.json")
    job = TrainJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    if job.trainer != trainer:
        sys.exit(f"{sys.argv[1]} is a job for the trainer {job.trainer!r}, not {trainer!r}")
    job.output.mkdir(parents=True, exist_ok=True)
    return job


def use_machine(job: TrainJob) -> tuple[str, dict[str, bool]]:
    """Set threads; gives the device and transformers' arguments for it. Called before a model is loaded.

    Weights are kept in float32 whatever the device: at learning rates of 1e-6 an update of a bfloat16 weight is rounded
    away (3.9 % of weights moved in 100 steps, all of them in float32). `dtype` says in what the passes compute.
    """
    # Spinning threads ruin whatever else computes on the same cores; must be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    device = ("cuda" if torch.cuda.is_available() else "cpu") if job.device == "auto" else job.device
    dtype = ("float32" if device == "cpu" else "bfloat16") if job.dtype == "auto" else job.dtype
    return device, {"use_cpu": device == "cpu", "bf16": dtype == "bfloat16", "fp16": dtype == "float16"}


def share_of(batch: int) -> int:
    """This device's part of a batch: `accelerate launch` says how many processes there are."""
    devices = int(os.environ.get("WORLD_SIZE", "1"))
    if batch % devices:
        sys.exit(f"a batch of {batch} cannot be shared by {devices} devices: choose a multiple of {devices}")
    return batch // devices


def progress_callback(job: TrainJob, describe: Callable[[dict[str, Any]], str]) -> Any:
    """A transformers callback that appends (done, total, what was measured) after each logged step."""
    from transformers import TrainerCallback

    class Tell(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "train_runtime" in (logs or {}):
                return
            line = {"done": state.global_step, "total": state.max_steps, "said": describe(logs or {})}
            with open(job.output / "progress.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    return Tell()


def save_results(job: TrainJob, trainer: Any, metrics: dict[str, float], dtype: Any) -> None:
    """Write the model (weights as `dtype`) and its curves, then `done.json`. Only the main process writes.

    Ends the process with an error when training did not reach its last step, or anything is not a finite number.
    """
    import polars as pl
    import torch

    if trainer.state.global_step != trainer.state.max_steps:
        sys.exit(f"training ended at step {trainer.state.global_step} of {trainer.state.max_steps}: there was too "
                 "little data for one more step")
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    wrong += [name for name, weight in trainer.model.named_parameters() if not torch.isfinite(weight).all()]
    if wrong:
        sys.exit(f"training diverged: {wrong[0]} is not finite; lower the learning rate, or compute in float32")
    if not trainer.is_world_process_zero():
        return
    folder = job.output / "checkpoint"
    trainer.model.to(dtype).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    numbers = [{name: float(value) for name, value in entry.items() if isinstance(value, int | float)}
               for entry in history]
    curves = pl.DataFrame(numbers, infer_schema_length=None)
    if "step" in curves.columns:
        curves = curves.with_columns(pl.col("step").cast(pl.Int64)).select("step", pl.exclude("step"))
    curves.write_parquet(job.output / "curves.parquet")
    made_with = {name: version(name) for name in ("torch", "transformers", "trl")}
    settings = trainer.args
    made_with["device"] = str(settings.device)
    made_with["computes_in"] = "bfloat16" if settings.bf16 else "float16" if settings.fp16 else "float32"
    made_with["threads"] = str(torch.get_num_threads())
    staged = job.output / ".done.json"
    staged.write_text(json.dumps({"metrics": metrics, "made_with": made_with}), encoding="utf-8")
    staged.replace(job.output / "done.json")
