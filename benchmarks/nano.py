"""R1 in miniature, three seeds: does each stage learn? Runs recipes/nano.yaml whole and prints what was held out.

A seed changes everything that is random: the order of the problems and so the splits, the corpus, the initial weights,
the data order and every sample. About ten minutes a seed on two cores. `SEEDS=1,2,3` chooses the seeds.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import factory
from warehouse import Warehouse

RECIPE = Path(__file__).parents[1] / "recipes" / "nano.yaml"
STAGES = ("base", "zero", "dev1", "dev2", "dev3", "final", "distilled")
REINFORCED = ("zero", "dev2", "final")


def run_seed(seed: int, folder: Path) -> dict[str, Any]:
    """One whole run; figures on the held-out problems, 0 to 1."""
    started = time.monotonic()
    # a failed gate would end the run before its end is known; here every stage is to be seen
    open_gates = {f"steps.{gate}.params.tolerance": 1.0 for gate in ("zero_gate", "dev2_gate", "final_gate")}
    report = factory.run(RECIPE, warehouse=folder / "wh", vars={"seed": seed, "to": str(folder / "out")},
                         overrides=open_gates)
    if report.status != "succeeded":
        raise SystemExit(f"seed {seed}: {report.status}: {'; '.join(map(str, report.errors))}")
    warehouse = Warehouse(folder / "wh")
    figures = {stage: warehouse.manifest(f"nano/{stage}_check").facts["metrics"] for stage in STAGES}
    row: dict[str, Any] = {"seed": seed}
    row |= {f"{stage}_accuracy": round(figures[stage]["accuracy"], 4) for stage in STAGES}
    row |= {f"{stage}_sampled": round(figures[stage]["sampled"], 4) for stage in STAGES}
    row |= {"base_format": round(figures["base"]["format"], 4), "final_format": round(figures["final"]["format"], 4)}
    for stage in REINFORCED:
        metrics = warehouse.checkpoint(f"nano/{stage}").metrics
        row[f"{stage}_reward"] = [round(metrics["reward_first"], 3), round(metrics["reward_last"], 3)]
    row["wall_minutes"] = round((time.monotonic() - started) / 60, 2)
    return row


def check(row: dict[str, Any]) -> list[str]:
    """What was asked of a seed and is not so."""
    wanted = {
        "0.25 <= base greedy <= 0.55": 0.25 <= row["base_accuracy"] <= 0.55,
        "final greedy >= 0.85": row["final_accuracy"] >= 0.85,
        "final - base >= 0.30": row["final_accuracy"] - row["base_accuracy"] >= 0.30,
        "zero - base >= 0.05, sampled": row["zero_sampled"] - row["base_sampled"] >= 0.05,
        "dev2 - dev1 >= 0.05, sampled": row["dev2_sampled"] - row["dev1_sampled"] >= 0.05,
        "final format >= 0.97": row["final_format"] >= 0.97,
        **{f"reward of {stage} rises": row[f"{stage}_reward"][1] > row[f"{stage}_reward"][0]
           for stage in ("zero", "dev2")},
    }
    return [name for name, holds in wanted.items() if not holds]


def main() -> None:
    """Run the seeds, print a table and one JSON line."""
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "1,2,3").split(",")]
    rows: list[dict[str, Any]] = []
    try:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run_seed(seed, Path(folder)))
    finally:  # what was measured is shown even if a seed fails
        show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The table and the JSON line."""
    seeds = [row["seed"] for row in rows]
    table = Table("", *(f"seed {seed}" for seed in seeds), title="held-out problems: greedy / mean of 4 samples")
    for stage in STAGES:
        table.add_row(stage, *(f"{row[f'{stage}_accuracy']:.3f} / {row[f'{stage}_sampled']:.3f}" for row in rows))
    table.add_row("format, base → final", *(f"{row['base_format']:.3f} → {row['final_format']:.3f}" for row in rows))
    for stage in REINFORCED:
        table.add_row(f"reward of {stage}", *("{} → {}".format(*row[f"{stage}_reward"]) for row in rows))
    table.add_row("minutes", *(f"{row['wall_minutes']:.1f}" for row in rows))
    table.add_row("not as wanted", *("; ".join(check(row)) or "–" for row in rows))
    Console().print(table)
    print(json.dumps({"seeds": rows}))


if __name__ == "__main__":
    main()
