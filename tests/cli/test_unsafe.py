"""Without a sandbox no program runs, unless the user says so; then the manifest says so, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from warehouse import Warehouse

RECIPE = """
recipe: programs
version: 1
steps:
  rows: {op: source.files, params: {paths: [rows.jsonl]}}
  correct: {op: verify.code, from: rows}
"""


def test_no_sandbox_no_run_and_the_way_around_is_recorded(tmp_path: Path) -> None:
    tests = {"type": "asserts", "tests": ["assert f(1, 2) == 3"]}
    row = {"prompt": "Add.", "response": "```python\ndef f(a, b):\n    return a + b\n```", "tests": json.dumps(tests)}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "programs.yaml").write_text(RECIPE)
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PATH": str(tmp_path / "empty")}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "factory.cli", "run", "programs.yaml", "-w", "w", "--executor", "inline"]
        return subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=120)

    refused = run()
    assert refused.returncode == 1
    assert "bubblewrap" in refused.stdout + refused.stderr
    done = run("--unsafe-no-sandbox")
    assert done.returncode == 0, done.stdout + done.stderr
    dataset = Warehouse(tmp_path / "w").dataset("programs/correct")
    assert dataset.table("scores").collect()["label"].to_list() == ["correct"]
    assert dataset.manifest.facts["counters"]["unsandboxed"] >= 1
    refused = run()
    assert refused.returncode == 1, "what ran without a sandbox was reused by a run that has asked for one"
