"""How long it takes to ask where a row comes from, in a warehouse of ten million rows.

    make bench NAME=lineage                   # builds the warehouse in a temporary folder
    python benchmarks/lineage.py --scale 0.01   # the same shape, smaller
    python benchmarks/lineage.py --keep DIR     # build it there, or use the one that is there

Warm figures go through `warehouse.lineage` and `Warehouse.sql` in one process that has opened its connection, fresh
ones through a new `factory` process each; all are medians over random rows, in seconds. `catalog_refresh_s` is a fresh
opening after one small version was committed, `catalog_build_s` one after the whole catalog was thrown away. Memory is
the peak of the warm process and of every fresh one. Prints a table, then one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from big_warehouse import Builder, Shape, unsynced
from rich.console import Console
from rich.table import Table
from store import peak_mb

from warehouse import Warehouse, layout, lineage

FRESH = """
import sys
from pathlib import Path
from factory.cli import main
try:
    main(sys.argv[1:])
finally:
    status = Path("/proc/self/status")
    if status.exists():
        print("peak", status.read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def timed(ask: Callable[[int], Any], rows: Sequence[int]) -> float:
    """Median seconds of a question over rows."""
    seconds = []
    for row in rows:
        started = time.perf_counter()
        ask(row)
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 4)


def warm(root: str, rows: dict[str, list[int]]) -> dict[str, Any]:
    """Every question in a process that has asked one before."""
    warehouse = Warehouse(root)
    found: dict[str, Any] = {}
    for name, ask, asked in (
            ("trace_up_s", lambda row: lineage.trace_up(warehouse, row), rows["published"] + rows["nightly"]),
            ("trace_down_s", lambda row: lineage.trace_down(warehouse, row), rows["seeds"]),
            ("trace_down_prompt_s", lambda row: lineage.trace_down(warehouse, row), rows["prompts"]),
            ("why_s", lambda row: lineage.why(warehouse, row), rows["published"] + rows["refused"]),
            ("impact_s", lambda row: warehouse.sql("SELECT * FROM impact(?)", [row]), rows["seeds"])):
        ask(asked[0])
        found[name] = timed(ask, asked[1:])
    found["descendants_of_a_seed"] = len(lineage.trace_down(warehouse, rows["seeds"][0]))
    found["warm_rss_mb"] = peak_mb()
    return found


def fresh(root: Path, rows: dict[str, list[int]]) -> dict[str, Any]:
    """The same questions, and `ls`, each as a new process."""
    found: dict[str, Any] = {}
    peak = 0
    for name, command, asked in (("fresh_process_trace_s", ("trace",), rows["published"]),
                                 ("fresh_process_trace_down_s", ("trace", "--down"), rows["seeds"]),
                                 ("fresh_process_why_s", ("why",), rows["refused"]),
                                 ("fresh_process_ls_s", ("ls",), rows["seeds"][:3])):
        seconds = []
        for row in asked[:5]:
            words = [*command, *([] if command == ("ls",) else [str(row)]), "-w", str(root)]
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", FRESH, *words], capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - started)
            if done.returncode:
                raise SystemExit(f"factory {' '.join(words)} ended with {done.returncode}: {done.stderr}")
            peak = max(peak, int((done.stderr.partition("peak ")[2].split() or ["0"])[0]) // 1024)
        found[name] = round(statistics.median(seconds), 3)
    return {**found, "fresh_rss_mb": peak}


def opening(root: str) -> tuple[float, int]:
    """(seconds, peak memory) of opening a warehouse for SQL in a process that has not opened it before."""
    started = time.perf_counter()
    Warehouse(root).sql("SELECT 1")
    return time.perf_counter() - started, peak_mb()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def refresh(root: Path, scale: float) -> dict[str, Any]:
    """Opening the catalog after one more small version, several times."""
    builder = Builder(root, Shape(scale))
    builder.attach()
    seconds, peak = [], 0
    for night in range(7):
        builder.one_version(night)
        took, memory = apart(opening, str(root))
        seconds.append(took)
        peak = max(peak, memory)
    builder.store.clear_scratch()
    return {"catalog_refresh_s": round(statistics.median(seconds), 3), "catalog_refresh_max_s": round(max(seconds), 3),
            "refresh_rss_mb": peak}


def some_rows(warehouse: Warehouse, seed: int = 11) -> dict[str, list[int]]:
    """Random rows of each sort, by name."""
    pick = random.Random(seed)

    def some(ref: str, table: str, column: str, count: int = 9) -> list[int]:
        parts = [part for part in warehouse.manifest(ref).tables[table] if part.rows]
        found = []
        for _ in range(count):
            part = pick.choice(parts)
            held = pq.read_table(warehouse.store.url(part.path), columns=[column])[column]
            found.append(held[pick.randrange(len(held))].as_py())
        return found

    wave = f"wave-{0:02d}"
    return {"published": some("main/sft", "selection", "row_id"), "seeds": some("main/seeds", "rows", "row_id"),
            "prompts": some("main/prompts-0", "rows", "row_id"),
            "refused": some(f"{wave}/reasoning", "rejections", "row_id"),
            "nightly": some("nightly-00/samples", "rows", "row_id", 3)}


def bytes_per_row(root: Path, table: str) -> float:
    """Bytes a row in the catalog's large segments of a table; in all of them where none is large."""
    files = [(pq.read_metadata(path).num_rows, path.stat().st_size)
             for path in (root / layout.CATALOG / table).glob("*.parquet")]
    large = [file for file in files if file[0] >= 50_000] or files
    return float(round(sum(size for _, size in large) / max(1, sum(rows for rows, _ in large)), 2))


def measure(root: Path, scale: float) -> dict[str, Any]:
    """Every figure but the time it took to build."""
    rows = some_rows(Warehouse(root))
    figures = {**refresh(root, scale), **apart(warm, str(root), rows), **fresh(root, rows)}
    warehouse = Warehouse(root)
    counted = warehouse.sql("SELECT (SELECT sum(row_count) FROM datasets WHERE kind = 'rows')::BIGINT AS rows, "
                            "(SELECT count(*) FROM row_lineage) AS edges, (SELECT count(*) FROM verdicts) AS verdicts, "
                            "(SELECT count(*) FROM rejections) AS rejections, "
                            "(SELECT count(*) FROM datasets) AS versions, "
                            "(SELECT count(*) FROM dataset_parts) AS parts")
    widths = {"edge_bytes_per_row": bytes_per_row(root, "row_lineage"),
              "verdict_bytes_per_row": bytes_per_row(root, "verdicts")}
    disk = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    catalog = sum(path.stat().st_size for path in (root / layout.CATALOG).rglob("*") if path.is_file())
    shutil.rmtree(root / layout.CATALOG)
    build, memory = apart(opening, str(root))
    peak = max(figures[name] for name in ("warm_rss_mb", "fresh_rss_mb", "refresh_rss_mb"))
    return {**counted.row(0, named=True), **figures, "peak_rss_mb": peak, **widths, "disk_mb": round(disk / 1e6),
            "catalog_mb": round(catalog / 1e6, 1), "catalog_build_s": round(build, 1), "catalog_build_rss_mb": memory}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--scale", type=float, default=float(os.environ.get("SCALE", "1")), help="1: ten million rows")
    options.add_argument("--keep", type=Path, help="build here, or use what is here")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, built = given.keep or Path(folder) / "warehouse", 0.0
        if not (root / layout.ROOT_RECORD).exists():
            started = time.perf_counter()
            apart(build, root, given.scale)
            built = time.perf_counter() - started
        figures = {**measure(root, given.scale), "build_s": round(built, 1)}
    table = Table("", "", title="lineage")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    print(json.dumps(figures))


def build(root: Path, scale: float) -> None:
    with unsynced():
        Builder(root, Shape(scale)).build()


if __name__ == "__main__":
    main()
