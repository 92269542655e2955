"""What the increment tests share: a small recipe over a file of prompts, run again and again with other settings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import factory
from factory.engine.run import RunReport
from warehouse import Dataset, Warehouse

RECIPE = """
recipe: grow
version: 1
seed: 7
vars: {n: 2, max_tokens: 8, temperature: 1.0, paths: prompts.jsonl, template: plain, salt: ""}
plugins: [moody]
models:
  rules:
    replay:
      rules:
        - {weight: 3, text: "It comes to {{ answer }}. ${salt}"}
        - {weight: 3, text: "Let me think {{ 'again and ' * rng.integer(2, 9) }} so {{ answer }}. ${salt}"}
        - {weight: 1, text: "{{ rng.integer(0, 3) }} ${salt}"}
steps:
  problems:
    op: source.files
    params: {paths: ["${paths}"], columns: {prompt: prompt, answer: answer}}
  samples:
    op: generate.sample
    from: problems
    model: rules
    params: {template: "${template}", n: "${n}", temperature: "${temperature}", max_tokens: "${max_tokens}"}
    runtime: {shard_rows: 4, max_failed: 1.0, model: {backend: moody, log: LOG}}
  words: {op: moody.words, from: samples, runtime: {max_failed: 1.0}}
  copies: {op: dedup.exact, from: samples, params: {scope: prompt}}
  twins: {op: dedup.minhash, from: samples, params: {scope: all, floor: 0.5, threshold: 0.8, ngram: 2}}
  chosen:
    op: select.rejection
    from: samples
    where: [words, copies, {twins: {jaccard: {lt: 0.9}}}]
    params: {keep_per_prompt: 2}
  marked: {op: moody.mark, from: chosen, runtime: {max_failed: 1.0}}
"""

@dataclass
class Ran:
    """One run: its report and the answer keys that it asked for."""

    report: RunReport
    asked: list[str]

    def reused(self) -> set[str]:
        """The steps that were there."""
        return {step.step for step in self.report.steps if step.reused}

    def ref(self, step: str) -> str:
        """The version of a step that this run ended with."""
        return self.report.manifests[step].ref


class Place:
    """A folder with prompts, a recipe and a warehouse."""

    def __init__(self, folder: Path, prompts: Sequence[int] = range(10)):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log, self.root = folder, folder / "requests.log", folder / "warehouse"
        self.recipe = folder / "grow.yaml"
        self.recipe.write_text(RECIPE.replace("LOG", str(self.log)))
        self.write(prompts)

    def write(self, prompts: Sequence[int], file: str = "prompts.jsonl") -> None:
        """Prompts by number, in order; a number may come twice."""
        lines = [json.dumps({"prompt": f"What is {number} plus 1?", "answer": str(number + 1)}) for number in prompts]
        (self.folder / file).write_text("".join(line + "\n" for line in lines))

    def add_steps(self, *steps: str) -> Path:
        """The recipe with further steps, as a file."""
        longer = self.folder / "longer.yaml"
        longer.write_text(self.recipe.read_text() + "".join(f"  {step}\n" for step in steps))
        return longer

    def fail(self, *moods: str) -> None:
        """What fails from now on (see `moody`)."""
        os.environ["MOODS"] = ",".join(moods)

    def run(self, executor: str = "inline", *, status: str = "succeeded", overrides: dict[str, Any] | None = None,
            limit: int | None = None, retry_failed: bool = False, recipe: Path | None = None, **variables: Any) -> Ran:
        """Run, and check what holds of every version of every run."""
        before = len(self._requests())
        report = factory.run(recipe or self.recipe, warehouse=self.root, executor=executor, workers=2, vars=variables,
                             overrides=overrides, limit=limit, retry_failed=retry_failed)
        assert report.status == status, (report.errors, report.tracebacks)
        ran = Ran(report, self._requests()[before:])
        if status == "succeeded":
            self._check_conservation(ran)
        return ran

    def _requests(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def _check_conservation(self, ran: Ran) -> None:
        made = ran.report.manifests
        for manifest in made.values():
            assert manifest.counts.balanced
        sizes = {name: made[name].row_count for name in made}
        if "samples" in made:
            counts = made["samples"].counts
            assert counts.owed == sizes["problems"] * made["samples"].identity["params"]["n"]
            assert counts.kept == sizes["samples"] == self.samples(ran).height
        for scored in {"words", "copies", "twins"} & made.keys():
            assert made[scored].counts.owed == sizes["samples"]
        if "marked" in made:
            assert made["chosen"].counts.owed == sizes["samples"]
            assert made["marked"].counts.owed == sizes["chosen"]
            read = self.dataset(ran.ref("marked")).scan().collect()
            assert made["marked"].counts.kept == sizes["marked"] == read.height

    def dataset(self, ref: str) -> Dataset:
        """A version to read."""
        return Warehouse(self.root).dataset(ref)

    def samples(self, ran: Ran) -> pl.DataFrame:
        """The samples of a run with their prompts."""
        rows = self.dataset(ran.ref("samples")).scan().collect()
        assert rows["row_id"].is_unique().all()
        assert rows["prompt"].null_count() == 0
        return rows.sort("prompt", "sample_index", "row_id")

    def table(self, ref: str, name: str) -> pl.DataFrame:
        """One stored table of a version."""
        return self.dataset(ref).table(name).collect()


def parts(ran: Ran, step: str, table: str) -> set[str]:
    """The parts of a table by content."""
    return {part.sha256 for part in ran.report.manifests[step].tables.get(table, []) if part.rows}


def hashes(ran: Ran) -> dict[str, str]:
    """Content hash by step."""
    return {name: manifest.content_hash for name, manifest in ran.report.manifests.items()}
