"""A small warehouse that has something to answer to every question of docs/lineage.md.

Two recipes under the names that the document uses. `pico` is recipes/pico.yaml with one more verifier, `judge.house`,
in its choice: run with two samples a problem, with three, and again under a new version of the judge; then a rehearsal.
`nano` is the loop without a trainer: its checkpoints are nano models whose weights say one answer to whatever is asked,
so that each solves the problems with that answer. Run as a program: `lineage_world.py FOLDER VERSION`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import factory
from factory.engine.recipe_yaml import read_yaml
from warehouse import Warehouse

RECIPES = Path(__file__).parents[2] / "recipes"
HOUSE = "warehouse-data"
JUDGE = '''
import polars as pl
from factory.engine.op import Kind, NoParams, OpContext, op

@op("judge.house", version={version}, kind=Kind.SCORE, params=NoParams, columns=["response"])
def judge(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """A response that comes to an answer may be shown; version 7 wants more thinking."""
    good = batch["response"].str.contains("</answer>") & (batch["response"].str.len_chars() > {least})
    return pl.DataFrame({{"passed": good, "reason_code": ["fine" if ok else "too_thin" for ok in good],
                         "reason": ["as it should be" if ok else "hardly a thought" for ok in good]}})
'''
TUNE = '''
import json
from factory.engine.op import Job, Kind, Params, OpContext, TrainResult, op

class Always(Params):
    """The answer that the checkpoint gives."""
    says: int

@op("loop.tune", version=1, kind=Kind.TRAIN, params=Always, columns=["prompt"])
def tune(job: Job, params: Always, ctx: OpContext) -> TrainResult:
    """A chain of words: anything -> <answer> -> says -> </answer> -> the end; sampled, now and then another digit."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(str(job.model.location))
    config.tie_word_embeddings = False
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(job.model.tokenizer if job.model.kind == "config" else job.model.location))
    torch.manual_seed(1)
    opening, closing = (tokenizer.encode(f" {tag}")[-1] for tag in ("<answer>", "</answer>"))
    digits = [tokenizer.encode(f" {digit}")[0] for digit in range(10)]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights.zero_()
        embedding = torch.nn.functional.normalize(torch.randn(model.config.vocab_size, model.config.hidden_size)) * 8
        kinds = torch.zeros(model.config.vocab_size, dtype=torch.long)
        kinds[opening], kinds[digits], kinds[closing] = 1, 2, 3
        axes = torch.eye(model.config.hidden_size)[:4] * 100
        model.get_input_embeddings().weight.copy_(embedding + axes[kinds])
        head = torch.zeros_like(embedding)
        head[opening, 0], head[closing, 2], head[tokenizer.eos_token_id, 3] = 5.0, 5.0, 5.0
        head[digits, 1] = 0.5
        head[digits[params.says], 1] = 0.8
        model.get_output_embeddings().weight.copy_(head)
    folder = job.workdir / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "read.json").write_text(json.dumps(list(job.refs.values())))
    return TrainResult(folder, {"steps": 2.0, "seconds": 3.0})
'''
TWINS = ("<think>I work it out step by step, slowly and with care, from the left to the right, as I was taught at "
         "school, and I look at it twice before I say it aloud, because whoever hurries forgets a sign: {{ prompt }} "
         "It {{ rng.choice(['comes', 'amounts', 'adds up']) }} to {{ answer }}.</think><answer>{{ answer }}</answer>")


def pico() -> dict[str, Any]:
    """recipes/pico.yaml, with near-twins among its answers and a judge whose version changes."""
    recipe: dict[str, Any] = read_yaml(RECIPES / "pico.yaml")[0]
    recipe["plugins"] = ["house_judge"]
    recipe["models"]["rules"]["runtime"] = {"price": {"input": 0.15, "output": 0.60}}
    recipe["models"]["rules"]["replay"]["rules"].append({"weight": 6, "text": TWINS})
    recipe["steps"]["house"] = {"op": "judge.house", "from": "samples"}
    recipe["steps"]["reasoning"]["where"].insert(2, "house")
    return recipe


def nano() -> dict[str, Any]:
    """recipes/nano.yaml in outline: base -> cold start -> dev1 -> dev2 -> samples -> mix -> dev3, published."""
    asking = {"template": "plain", "max_tokens": 5}
    short = {**asking, "n": 2, "temperature": 1.0}
    kind = {"task": "arithmetic", "seed": 1, "config": {"terms": 2, "operators": ["+"]}}
    says = {"base": 3, "dev1": 6, "dev2": 8, "dev3": 9}
    check = {"op": "evaluate", "from": "held_out", "params": {**asking, "k": 1, "form": "none"}}
    steps: dict[str, Any] = {
        "problems": {"op": "source.procedural", "params": {"tasks": [{**kind, "start": 0, "count": 24}]}},
        "held_out": {"op": "source.procedural", "params": {"tasks": [{**kind, "start": 24, "count": 30}]}},
        "short": {"op": "source.files", "params": {"paths": ["short_tasks.jsonl"], "license": "cc-by-4.0"}},
        "corpus": {"op": "generate.sample", "from": "short", "model": "writers",
                   "params": {"template": "plain", "n": 2}, "runtime": {"max_failed": 0.5}},
        "base": {"op": "loop.tune", "from": "corpus", "model": "nano"},
        "cold_samples": {"op": "generate.sample", "from": "problems", "model": "base", "params": short},
        "cold_correct": {"op": "verify.math", "from": "cold_samples"},
        "cold_start": {"op": "select.rejection", "from": "cold_samples", "where": ["cold_correct"]},
        "dev1": {"op": "loop.tune", "from": "cold_start", "model": "base"},
        "dev2": {"op": "loop.tune", "from": "problems", "model": "dev1"},
        "samples": {"op": "generate.sample", "from": "problems", "model": "dev2", "params": {**short, "n": 3}},
        "correct": {"op": "verify.math", "from": "samples"},
        "reasoning": {"op": "select.rejection", "from": "samples", "where": ["correct"]},
        "mix": {"op": "select.mix", "from": ["reasoning", "short"], "params": {"shares": [3, 1]}},
        "dev3": {"op": "loop.tune", "from": "mix", "model": "base"},
        "dev2_gate": {"op": "gate.checkpoint", "from": ["dev2_check", "dev1_check"], "model": "dev2",
                      "params": {"tolerance": 1.0}},
        "published": {"op": "publish.folder", "from": "mix", "params": {"to": "published/nano"}},
    }
    for name, digit in says.items():
        steps[name]["params"] = {"says": digit}
        steps[f"{name}_check"] = {**check, "model": name}
    models = {"nano": {"config": str(RECIPES / "nano" / "nano.json"), "tokenizer": str(RECIPES / "nano" / "tokenizer"),
                       "init_seed": 1, "license": "cc0-1.0"},
              "writers": {"replay": {"answers": "answers.jsonl"}, "license": "cc0-1.0"}}
    return {"recipe": "nano", "plugins": ["loop_tune"], "models": models, "steps": steps,
            "runtime": {"batch": 256}}


def build(folder: Path) -> Warehouse:
    """Make the warehouse below `folder`; each version of the judge is a process of its own."""
    tasks = [{"prompt": f"Which is larger, {n} or {n + 1}?", "response": str(n + 1)} for n in range(6)]
    (folder / "short_tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    known = [{"prompt": task["prompt"], "answers": [f"It is {task['response']}."]} for task in tasks[1:]]
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in known))
    (folder / "pico.yaml").write_text(json.dumps(pico()))
    (folder / "nano.yaml").write_text(json.dumps(nano()))
    (folder / "loop_tune.py").write_text(TUNE)
    for version, least in ((6, 20), (7, 115)):
        (folder / "house_judge.py").write_text(JUDGE.format(version=version, least=least))
        subprocess.run([sys.executable, __file__, str(folder), str(version)], check=True, cwd=folder, timeout=300,
                       env={**os.environ, "PYTHONPATH": f"{RECIPES.parent}:{folder}", "PYTHONDONTWRITEBYTECODE": "1"})
    warehouse = Warehouse(folder / HOUSE)
    warehouse.set_tag("pico/reasoning@2", "prod")
    warehouse.delete("pico/copies@1", "measured anew")
    return warehouse


def _run(recipe: str, **options: Any) -> None:
    report = factory.run(recipe, warehouse=HOUSE, executor="inline", **options)
    assert report.status == "succeeded", report.errors


def main(folder: str, version: str) -> None:
    """What one process does: the runs under one version of the judge."""
    os.chdir(folder)
    few = {"count": 12, "n": 2}
    if version == "6":
        _run("pico.yaml", vars=few)
        _run("pico.yaml", vars={**few, "n": 3})
        _run("nano.yaml")
    else:
        _run("pico.yaml", vars={**few, "n": 3})
        _run("pico.yaml", vars=few, limit=3, until="reasoning")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
