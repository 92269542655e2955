"""What the crash tests share: a recipe that logs every request, driver processes to kill, and what must hold after."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from warehouse import Warehouse
from warehouse.journal import answers

RUNNER = Path(__file__).with_name("runner.py")
PATIENCE = 120.0
TAG = "FACTORY_CRASH_TEST"

RECIPE = """
recipe: {name}
version: 1
seed: 7
vars: {{count: 100, n: 3, delay: 0.002, log: requests.log, to: published}}
models:
  rules:
    replay:
      rules:
        - {{weight: 5, text: "<think>{{{{ prompt }}}} is {{{{ answer }}}}.</think><answer>{{{{ answer }}}}</answer>"}}
        - {{weight: 2, text: "<think>A guess.</think><answer>{{{{ rng.integer(0, 99) }}}}</answer>"}}
        - {{weight: 1, text: "The answer is {{{{ answer }}}}."}}
        - {{weight: 1, text: "<think>again {{{{ 'and again ' * 60 }}}}", finish_reason: length}}
steps:
  problems:
    op: source.procedural
    params: {{tasks: [{{task: arithmetic, count: "${{count}}", config: {{terms: 3}}}}]}}
  samples:
    op: generate.sample
    from: problems
    model: rules
    params: {{template: r1_zero, n: "${{n}}", temperature: 1.0, max_tokens: 64}}
    runtime: {{shard_rows: 20, model: {{delay: "${{delay}}", log: "${{log}}"}}}}
  correct: {{op: verify.math, from: samples}}
  form: {{op: verify.format, from: samples, params: {{form: r1_zero}}}}
  copies: {{op: dedup.exact, from: samples, params: {{scope: prompt}}}}
  twins: {{op: dedup.minhash, from: samples, params: {{scope: prompt, floor: 0.7}}}}
  chosen:
    op: select.rejection
    from: samples
    where: [form, correct, copies, {{twins: {{jaccard: {{lt: 0.8}}}}}}]
    params: {{keep_per_prompt: {keep}}}
  published: {{op: publish.folder, from: chosen, params: {{to: "${{to}}"}}}}
"""


def tagged(tag: str) -> list[psutil.Process]:
    """Processes that carry a world's tag and are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TAG) == tag and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class World:
    """One warehouse, one recipe, one request log, and the processes started on them."""

    def __init__(self, folder: Path, name: str = "crash", keep: int = 2, **variables: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe = folder / f"{name}.yaml"
        self.recipe.write_text(RECIPE.format(name=name, keep=keep))
        self.root, self.log = folder / "warehouse", folder / "requests.log"
        self.variables = {"log": str(self.log), "to": str(folder / "published"), **variables}
        self.tag = uuid.uuid4().hex

    def start(self, recipe: Path | None = None, *, executor: str = "local", **variables: Any) -> subprocess.Popen[str]:
        """The command of a user, in a process group of its own; everything it starts carries this world's tag."""
        command = [sys.executable, str(RUNNER), str(recipe or self.recipe), str(self.root), "--executor", executor,
                   "--vars", json.dumps({**self.variables, **variables})]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, TAG: self.tag}, start_new_session=True)

    def run(self, recipe: Path | None = None, **options: Any) -> dict[str, Any]:
        """Run to the end, which must be a good one."""
        code, report = self.end(self.start(recipe, **options))
        assert (code, report["status"]) == (0, "succeeded"), report
        return report

    @staticmethod
    def end(driver: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
        """Exit status and report of a driver that ends by itself."""
        out, err = driver.communicate(timeout=PATIENCE)
        return driver.returncode, json.loads(out.splitlines()[-1]) if out.strip() else {"status": None, "stderr": err}

    def living(self) -> list[psutil.Process]:
        """Processes of this world that are alive."""
        return tagged(self.tag)

    def workers(self) -> list[psutil.Process]:
        """The executor's worker processes."""
        return [process for process in self.living() if _is_worker(process)]

    def progress(self) -> int:
        """Grows by one with every request and every file that a run leaves: the clock by which tests choose moments."""
        return len(self.requests()) + sum(len(files) for _, _, files in os.walk(self.root))

    def requests(self) -> list[str]:
        """Answer keys as they were asked for, in order."""
        return self.log.read_text().split() if self.log.exists() else []

    def journalled(self) -> set[str]:
        """Answer keys whose journal line is whole."""
        return {answer.key for segment in self.root.glob("work/*/journal/*.journal")
                for answer in answers(segment.read_bytes())}

    def manifests(self) -> list[dict[str, Any]]:
        """Every manifest as it lies on disk."""
        return [json.loads(path.read_text()) for path in sorted(self.root.glob("datasets/**/v*.json"))]

    def hashes(self) -> dict[str, str]:
        """Content hash by step; fails when a dataset has more than one version."""
        manifests = self.manifests()
        assert max(Counter(found["dataset"] for found in manifests).values()) == 1
        return {found["dataset"].split("/")[1]: found["content_hash"] for found in manifests}


def _is_worker(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return "--multiprocessing-fork" in line


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    """Wait for something that is bound to happen."""
    for _ in _polls():
        found = holds()
        if found:
            return found
    raise AssertionError(f"never happened: {what}")


def _polls() -> Iterator[None]:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        yield
        time.sleep(0.002)


def assert_whole(world: World) -> None:
    """Nothing half-written is visible: every manifest is JSON, balanced, and its parts are there, byte for byte."""
    for manifest in world.manifests():
        counts = manifest["counts"]
        assert counts["owed"] == counts["kept"] + counts["rejected"] + counts["failed"], manifest["dataset"]
        for part in (part for parts in manifest["tables"].values() for part in parts):
            assert hashlib.sha256((world.root / part["path"]).read_bytes()).hexdigest() == part["sha256"]


def assert_readable(root: Path) -> None:
    """Every version that is visible can be read in full."""
    warehouse = Warehouse(root)
    for manifest in warehouse.manifests():
        if manifest.kind in ("rows", "selection", "scores"):
            assert warehouse.dataset(manifest.ref).scan().collect().height == manifest.row_count
