"""A loop without a trainer: an untrained nano model writes rows, `loop.tune` makes new checkpoints of it by copying."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from factory.engine.op import Job, Kind, NoParams, OpContext, TrainResult, op

NANO = Path(__file__).parents[2] / "recipes" / "nano"
SUMS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(1, 4)]
ASKING = {"template": "plain", "max_tokens": 6}


@op("loop.tune", version=1, kind=Kind.TRAIN, columns=["prompt"])
def tune(job: Job, params: NoParams, ctx: OpContext) -> TrainResult:
    """The model as it is, and one file that says what it was trained on. A config is given random weights."""
    import torch
    import transformers

    folder = job.workdir / "checkpoint"
    if job.model.kind == "config":
        torch.manual_seed(ctx.seed)
        config = transformers.AutoConfig.from_pretrained(str(job.model.location))
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(str(job.model.tokenizer)).save_pretrained(folder)
    else:
        shutil.copytree(job.model.location, folder)
    (folder / "read.json").write_text(json.dumps({"step": ctx.step, "refs": list(job.refs.values())}))
    for done in (1, 2):
        ctx.progress(done, 2, "steps", f"loss {1 / done:.1f}")
    return TrainResult(folder, {"steps": 2.0, "loss_first": 1.0, "loss_last": 0.5, "seconds": 65.0})


def recipe(folder: Path, **top: Any) -> dict[str, Any]:
    """base -> written -> chosen -> dev (on chosen and more, from base), both evaluated, a gate, chosen published."""
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    (folder / "more.jsonl").write_text('{"prompt": "What is 4 + 4?", "answer": "8"}\n')
    check = {"op": "evaluate", "from": "sums", "params": {**ASKING, "k": 2}}
    steps = {
        "sums": {"op": "source.files", "params": {"paths": ["sums.jsonl"]}},
        "more": {"op": "source.files", "params": {"paths": ["more.jsonl"]}},
        "base": {"op": "loop.tune", "from": "sums", "model": "nano"},
        "base_check": {**check, "model": "base"},
        "written": {"op": "generate.sample", "from": "sums", "model": "base",
                    "params": {**ASKING, "n": 2, "temperature": 0.5}},
        "length": {"op": "filter.length", "from": "written"},
        "chosen": {"op": "select.rejection", "from": "written",
                   "where": [{"length": {"passed": {"in": [True, False]}}}]},
        "dev": {"op": "loop.tune", "from": ["chosen", "more"], "model": "base"},
        "dev_check": {**check, "model": "dev"},
        "gate": {"op": "gate.checkpoint", "from": ["dev_check", "base_check"], "model": "dev"},
        "out": {"op": "publish.folder", "from": "chosen", "params": {"to": "out"}},
    }
    models = {"nano": {"config": str(NANO / "nano.json"), "tokenizer": str(NANO / "tokenizer"), "init_seed": 1}}
    return {"recipe": "loop", "plugins": ["tiny_loop"], "models": models, "steps": steps, **top}


def after() -> dict[str, Any]:
    """Another recipe that takes a checkpoint of the first by its name."""
    return {"recipe": "after", "plugins": ["tiny_loop"], "models": {"dev": {"checkpoint": "loop/dev"}}, "steps": {
        "more": {"op": "source.files", "params": {"paths": ["more.jsonl"]}},
        "written": {"op": "generate.sample", "from": "more", "model": "dev", "params": {**ASKING, "n": 1}},
        "tuned": {"op": "loop.tune", "from": "written", "model": "dev"}}}
