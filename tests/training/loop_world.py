"""A loop of the smallest size that is still real: a rule-made corpus, TRL trainings of an untrained nano model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
NANO = REPOSITORY / "recipes" / "nano"
ARITHMETIC = {"task": "arithmetic", "seed": 3, "config": {"terms": 2, "operators": ["+"]}}
RIGHT = " <think> I add: {{ prompt[8:-1] }} = {{ answer }}. </think> <answer> {{ answer }} </answer>"


def recipe(**changed: dict[str, Any]) -> dict[str, Any]:
    """Sources, a corpus, `sft` and `grpo`, an evaluation and a gate; `changed` replaces or adds steps."""
    asking = {"template": "plain", "max_tokens": 24}
    steps: dict[str, Any] = {
        "problems": {"op": "source.procedural", "params": {"tasks": [{**ARITHMETIC, "start": 0, "count": 24}]}},
        "held_out": {"op": "source.procedural", "params": {"tasks": [{**ARITHMETIC, "start": 24, "count": 6}]}},
        "corpus": {"op": "generate.sample", "from": "problems", "model": "rules", "params": {**asking, "n": 2}},
        "sft": {"op": "train.sft", "from": "corpus", "model": "nano", "params": {
            "epochs": 2, "max_length": 96, "optimizer": {"lr": 1e-3, "batch": 16}}},
        "grpo": {"op": "train.grpo", "from": "problems", "model": "sft", "params": {
            "rewards": {"accuracy": 1.0, "format": 0.5, "language": 0.2}, "target": "en", "steps": 2,
            "prompts_per_step": 2, "group": 4, "lr": 1e-4, "max_tokens": 24}},
        "check": {"op": "evaluate", "from": "held_out", "model": "grpo", "params": {**asking, "k": 2}},
        "before": {"op": "evaluate", "from": "held_out", "model": "sft", "params": {**asking, "k": 2}},
        "gate": {"op": "gate.checkpoint", "from": ["check", "before"], "model": "grpo", "params": {"tolerance": 1.0}},
        "answers": {"op": "generate.sample", "from": "held_out", "model": "grpo", "params": {**asking, "n": 1}},
    }
    return {"recipe": "loop", "seed": 5, "models": {
        "rules": {"replay": {"rules": [{"text": RIGHT}]}},
        "nano": {"config": str(NANO / "nano.json"), "tokenizer": str(NANO / "tokenizer"), "init_seed": 2},
    }, "steps": {**steps, **changed}}


class Loop:
    """A folder with the recipe and a warehouse, driven through the command line."""

    def __init__(self, folder: Path, **changed: dict[str, Any]):
        self.folder, self.root = folder, folder / "wh"
        self.write(**changed)

    def write(self, **changed: dict[str, Any]) -> None:
        """Write the recipe (JSON is YAML)."""
        (self.folder / "loop.yaml").write_text(json.dumps(recipe(**changed)), encoding="utf-8")

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `factory run --json`."""
        command = [sys.executable, "-m", "factory.cli", "run", "loop.yaml", "-w", str(self.root), "--json", *options]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": str(REPOSITORY)})

    def end(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
        """Exit code and report of a run; `steps` by name."""
        out, err = process.communicate(timeout=500)
        assert out, err
        report = json.loads(out)
        report["steps"] = {step["step"]: step for step in report["steps"]}
        return process.returncode, report

    def run(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Run to the end."""
        return self.end(self.start(*options))

    @staticmethod
    def trainers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
        """The trainer processes of a run."""
        try:
            family = psutil.Process(driver.pid).children(recursive=True)
            return [child for child in family if any(arg.startswith("trainers.") for arg in child.cmdline())]
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return []
