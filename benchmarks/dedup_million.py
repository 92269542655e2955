"""The parts of `dedup.py` that run recipes over rows of about 2 KB by the million.

Each run is a process of its own that starts two workers; the memory of the process and all below it is looked at ten
times a second and added up, each page once (proportional set size).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import text_corpora
from rich.console import Console
from rich.table import Table
from text_corpora_plant import jaccard_of

from warehouse import Warehouse

_RUN = """
import json, sys
import factory
if __name__ == "__main__":
    report = factory.run(sys.argv[1], warehouse=sys.argv[2], executor="local", workers=2)
    assert report.status == "succeeded", (report.errors, report.tracebacks)
    print(json.dumps({step.step: step.seconds for step in report.steps}))
"""
_SOURCE = {"op": "source.files", "params": {"paths": ["rows/*.parquet"], "columns": {"text": "text", "id": "id"}}}
_TWINS = {"op": "dedup.minhash", "from": "texts", "params": {"text": "text"}}
_FRESH = {"op": "dedup.incremental", "from": "texts", "params": {"text": "text"}}


def _pss(process: psutil.Process) -> int:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        return 1024 * int(text.split("\nPss:")[1].split()[0])
    except (OSError, IndexError):
        return 0


def run_recipe(folder: Path, steps: dict[str, Any], warehouse: str = "w") -> tuple[dict[str, float], float]:
    """(seconds of each step, the most MB that all processes held together)."""
    recipe = folder / "r.yaml"
    recipe.write_text(json.dumps({"recipe": "r", "steps": steps}))
    (folder / "run.py").write_text(_RUN)
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, str(folder / "run.py"), str(recipe), str(folder / warehouse)],
                                   stdout=said)
        watched, most = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                most = max(most, sum(map(_pss, [watched, *watched.children(recursive=True)])))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        if process.wait():
            sys.exit(f"the recipe of {len(steps)} steps over rows by the million failed: see above")
        said.seek(0)
        seconds: dict[str, float] = json.loads(said.read().strip().splitlines()[-1])
    return seconds, most / 1e6


def _place(folder: Path, shards: Sequence[Path]) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    for shard in shards:
        (folder / "rows" / shard.name).symlink_to(shard)


def _held_out(data: Path, folder: Path) -> dict[str, Any]:
    """Steps that read GSM8K's test set and compare the rows with it."""
    shutil.copy(data / "gsm8k" / "test.jsonl", folder / "gsm8k.jsonl")
    return {"gsm8k": {"op": "source.files", "params": {"paths": ["gsm8k.jsonl"]}},
            "clean": {"op": "dedup.decontaminate", "from": "texts", "against": ["gsm8k"],
                      "params": {"parts": {"prompt": "text"}, "items": {"prompt": "question"}}}}


def million(data: Path, rows: int, console: Console) -> dict[str, float]:
    """Print time and memory of dedup, decontamination and selection over `rows` rows and a tenth of them."""
    table = Table("rows", "text MB", "read s", "minhash s", "decontaminate s", "select s", "MB/s of the two", "peak MB",
                  title="through a recipe, two workers")
    spent, peak = {}, 0.0
    for count in (rows // 10, rows):
        shards = text_corpora.million(data, count)
        size = sum(pl.scan_parquet(shard).select(pl.col("text").str.len_bytes().sum()).collect().item()
                   for shard in shards) / 1e6
        with tempfile.TemporaryDirectory(dir=text_corpora.cache_folder("runs")) as room:
            folder = Path(room)
            _place(folder, shards)
            chosen = {"op": "select.rejection", "from": "texts", "where": ["twins", "clean"],
                      "params": {"keep_per_prompt": None}}
            seconds, peak = run_recipe(folder, {"texts": _SOURCE, "twins": _TWINS, **_held_out(data, folder),
                                                "chosen": chosen})
        spent[count] = seconds["twins"] + seconds["clean"]
        table.add_row(f"{count:,}", f"{size:.0f}", *(f"{seconds[step]:.0f}" for step in (
            "texts", "twins", "clean", "chosen")), f"{size / spent[count]:.0f}", f"{peak:.0f}")
    console.print(table)
    return {"million_peak_mb": round(peak), "million_seconds": round(spent[rows], 1),
            "million_vs_tenth": round(spent[rows] / spent[rows // 10], 2)}


def grown(data: Path, rows: int, more: int, console: Console) -> dict[str, float]:
    """Print what `more` rows cost as a second increment after `rows`, and whether their verdicts are right."""
    shards = text_corpora.million(data, rows)
    added = text_corpora.million(data, rows + more)[len(shards):]
    with tempfile.TemporaryDirectory(dir=text_corpora.cache_folder("runs")) as room:
        folder = Path(room)
        _place(folder, shards)
        first, _ = run_recipe(folder, {"texts": _SOURCE, "fresh": _FRESH})
        _place(folder, added)
        second, peak = run_recipe(folder, {"texts": _SOURCE, "fresh": _FRESH})
        wrong, judged, gone = check_greedy(Warehouse(folder / "w"), [*shards, *added])
    table = Table("increment", "rows", "dedup.incremental s", title="growing by a wave")
    table.add_row("first", f"{rows:,}", f"{first['fresh']:.1f}")
    table.add_row("second", f"{more:,}", f"{second['fresh']:.1f}")
    console.print(table)
    console.print(f"{judged:,} verdicts against one greedy pass over planted pairs measured in plain Python: "
                  f"{wrong} differ ({gone:,} rows go); peak of the second run {peak:.0f} MB")
    return {"incremental_share": round(second["fresh"] / first["fresh"], 3), "incremental_wrong": wrong}


def check_greedy(warehouse: Warehouse, shards: Sequence[Path]) -> tuple[int, int, int]:
    """(verdicts that differ from a greedy pass, verdicts, rows that go). Rows of the corpus resemble one another only
    where one was made of the other, or both of a third."""
    near = pl.concat([pl.read_parquet(shard, columns=["id", "near"]) for shard in shards]).drop_nulls("near")
    family = pl.concat([near, near.select(id="near", near="near").unique()]).rename({"near": "family"})
    named = family["id"].implode()
    texts = dict(pl.concat([pl.read_parquet(shard, columns=["id", "text"]).filter(pl.col("id").is_in(named))
                            for shard in shards]).iter_rows())
    rows = warehouse.dataset("r/texts").scan().select("row_id", "row_key", "id").collect()
    scores = warehouse.dataset("r/fresh").table("scores").select("row_id", "passed", "wave").collect()
    judged = rows.join(scores, on="row_id").join(family, on="id", how="left").sort("wave", "row_key", "row_id")
    kept: dict[int, list[str]] = {}
    wrong = judged.filter(pl.col("family").is_null() & ~pl.col("passed")).height
    for number, group, passed in judged.drop_nulls("family").select("id", "family", "passed").iter_rows():
        before = kept.setdefault(group, [])
        stays = not any(jaccard_of(texts[number], other) >= 0.8 for other in before)
        wrong += stays != passed
        if stays:
            before.append(texts[number])
    return wrong, judged.height, judged.filter(~pl.col("passed")).height
