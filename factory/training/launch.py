"""Starting a trainer as a process of its own, watching it, and reading what it left.

The trainer owns its memory and devices while it runs and dies with the process that started it (PR_SET_PDEATHSIG). Its
output goes to a log; if it fails, the tail of the log is the error. Nothing it writes is visible in the warehouse
before the engine has read `done.json` and committed the checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import DataError, Interrupted, MissingExtraError, ModelError, TrainerFailed
from factory.engine.op import Job, OpContext, TrainResult
from factory.engine.orphans import die_with_parent
from factory.training.settings import ModelFiles, TrainJob

_TAIL_LINES, _TAIL_WIDTH, _TAIL_BYTES = 25, 500, 1 << 16
_POLL_SECONDS = 0.2
CODE = ("trainers.data", "trainers.job", "trainers.model", "factory.engine.prompts", "factory.training.launch",
        "factory.training.settings")
"""Modules beside the op's own whose change may change a checkpoint; the plan warns of it."""


def train(job: Job, trainer: str, data: pl.DataFrame, params: dict[str, Any], ctx: OpContext) -> TrainResult:
    """Run `python -m trainers.<trainer>` on `data` and read its result.

    Raises:
        DataError: there is no row to train on.
        TrainerFailed: the trainer ended without a result; the message ends with the tail of its log.
        Interrupted: the run wants to stop; the trainer was ended.
    """
    if data.height == 0:
        raise DataError(f"step {ctx.step}: there is no row to train on in {', '.join(job.refs.values())}")
    output = job.workdir / "trained"
    path, table, log = job.workdir / "job.json", job.workdir / "data.parquet", job.workdir / "log.txt"
    data.write_parquet(table)
    path.write_text(TrainJob(
        trainer=trainer, model=_model_files(job), data=table, output=output, seed=ctx.seed % 2**32,  # type: ignore[arg-type]
        device=job.runtime.device.partition(":")[0], dtype=job.runtime.dtype, threads=job.runtime.threads,
        params=params).model_dump_json(), encoding="utf-8")
    code = _watch([sys.executable, "-P", "-m", f"trainers.{trainer}", str(path)], log, output / "progress.jsonl",
                  job.runtime.device, ctx)
    done = output / "done.json"
    if code != 0 or not done.is_file():
        raise _failure(trainer, code, log, ctx.step)
    tables = {name: pl.read_parquet(output / f"{name}.parquet") for name in ("curves", "rollouts")
              if (output / f"{name}.parquet").is_file()}
    said = json.loads(done.read_bytes())
    return TrainResult(output / "checkpoint", {name: float(value) for name, value in said["metrics"].items()}, tables,
                       made_with=said["made_with"])


def joined_rows(job: Job, needed: list[str], ctx: OpContext) -> pl.DataFrame:
    """The rows of all inputs that have the columns `needed`, those of weighted selections as often as they count, in an
    order that depends on content alone. Others are counted as `rows_incomplete`."""
    frames = []
    for name, scanned in job.inputs.items():
        rows = scanned.collect()
        whole = rows.drop_nulls(needed)
        ctx.count("rows_incomplete", rows.height - whole.height)
        if job.notes[name]["weighted"]:
            weight = "weight_right" if "weight_right" in whole.columns else "weight"  # rows may have a `weight` too
            whole = whole.select(pl.all().repeat_by(weight)).explode(pl.selectors.all())
        frames.append(whole)
    joined = pl.concat(frames, how="diagonal_relaxed")
    return joined.sort(*(key for key in ("row_key", "answer_key") if key in joined.columns), maintain_order=True)


def _model_files(job: Job) -> ModelFiles:
    model = job.model
    if model is None:
        raise ModelError("a train step needs a model to start from: add `model: <name of models, or a train step>`")
    if model.kind not in ("hub", "folder", "gguf", "config"):
        raise ModelError(f"model {model.name} is of kind {model.kind!r} and cannot be trained: name a hub model, a "
                         "folder, a .gguf file, a checkpoint or a config")
    return ModelFiles(kind=model.kind, location=str(model.location), revision=model.spec.revision,
                      tokenizer=str(model.tokenizer) if model.tokenizer is not None else None,
                      init_seed=model.spec.init_seed or 0, chat_template=model.spec.chat_template)


def _environment(scratch: Path, device: str) -> dict[str, str]:
    """One process gets one device: TRL refuses to see several without a launcher."""
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)}
    if device != "cpu":
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        number = int(device.partition(":")[2] or 0)
        environment["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    return environment


def _watch(command: list[str], log: Path, progress: Path, device: str, ctx: OpContext) -> int:
    """Wait for the process, telling its progress; end it when the run wants to stop."""
    scratch = log.parent / "tmp"  # what libraries leave behind goes when the work folder goes
    scratch.mkdir()
    with open(log, "wb") as out:
        # a session of its own: Ctrl-C in the terminal is for the driver to judge
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=_environment(scratch, device), preexec_fn=partial(die_with_parent, os.getpid()),
                                   start_new_session=True)
    told = 0
    try:
        while process.poll() is None:
            if ctx.stopping():
                raise Interrupted(f"step {ctx.step}: training was stopped; it begins again from its model")
            told = _tell(progress, told, ctx)
            time.sleep(_POLL_SECONDS)
        _tell(progress, told, ctx)
        return process.returncode
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.wait()


def _tell(progress: Path, told: int, ctx: OpContext) -> int:
    """Pass on the newest whole line that the progress file has behind byte `told`; gives where it ends."""
    if not progress.exists():
        return told
    with open(progress, "rb") as file:
        file.seek(told)
        whole, newline, _ = file.read().rpartition(b"\n")
    if newline:
        newest = json.loads(whole.rpartition(b"\n")[2])
        ctx.progress(newest["done"], newest["total"], "steps", newest["said"])
    return told + len(whole) + len(newline)


def _failure(trainer: str, code: int, log: Path, step: str) -> Exception:
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    missing = re.findall(r"^ModuleNotFoundError: No module named '(\w+)", text, re.MULTILINE)
    if missing:
        module = missing[-1]
        if module in ("torch", "transformers", "trl", "datasets", "accelerate", "peft"):
            return MissingExtraError(module, "train")
    how = f"was killed by signal {-code} (out of memory kills with signal 9)" if code < 0 else (
        f"ended with exit code {code}" if code else "ended without a result")
    tail = "\n".join(f"  {line[:_TAIL_WIDTH]}" for line in text.splitlines()[-_TAIL_LINES:]) or "  (it printed nothing)"
    return TrainerFailed(f"step {step}: the trainer {trainer} {how}. No checkpoint was made; the next run begins this "
                         f"step again. The end of its log:\n{tail}")
