"""dedup.minhash over a corpus, in a process of its own: the op, from polars batches to its tables.

    python dedup_ours.py SPEC        SPEC is JSON: {corpus, start, rows, rounds, signature, whole}

Batches of 2,048 rows lie in memory before the clock starts, and texts of candidates are taken from there again; the op
has had a few rows before, so compiling is not counted. Of the rounds the median CPU seconds count. With `whole` false
only the partials are made (a half, for two cores). Prints a JSON line: seconds, wall, bytes, rows, peak_mb, and of the
whole `nodes` and `pairs` (of ids).
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from factory.dedup.minhash import MinHashDedup, MinHashParams
from factory.engine.gathered import Gathered, GatheredPart
from factory.engine.op import OpContext

BATCH = 2048


def as_rows(corpus: pl.DataFrame) -> pl.DataFrame:
    """The corpus as the op sees rows; ids and keys are the corpus's ids."""
    keys = [int(number).to_bytes(16, "big") for number in corpus["id"].to_list()]
    return corpus.select(row_id=pl.col("id"), row_key=pl.Series(keys, dtype=pl.Binary), response=pl.col("text"))


def gather(frames: list[pl.DataFrame], rows: pl.DataFrame, params: MinHashParams) -> dict[str, pl.DataFrame]:
    """The tables of partials whose rows are in memory."""

    def part(frame: pl.DataFrame) -> GatheredPart:
        return GatheredPart(0, False, lambda columns: frame.select(columns or frame.columns))

    def again(ids: pl.Series) -> pl.DataFrame:
        return rows[rows["row_id"].search_sorted(ids)]

    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, pl.DataFrame] = MinHashDedup.gather(
            Gathered(tuple(map(part, frames)), again, Path(folder)), params, OpContext())
    return found


def run(rows: pl.DataFrame, params: MinHashParams, whole: bool) -> tuple[list[pl.DataFrame], dict[str, pl.DataFrame]]:
    """Partials and, of the whole, tables."""
    batches = [rows[at:at + BATCH] for at in range(0, rows.height, BATCH)]
    frames = [MinHashDedup.partial(batch, params, OpContext()) for batch in batches]
    return frames, gather(frames, rows, params) if whole else {}


def main() -> None:
    """See the module docstring."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    params = MinHashParams(signature=spec.get("signature", "own"))
    rows = as_rows(pl.read_parquet(spec["corpus"])).slice(spec.get("start", 0), spec.get("rows"))
    warm = pl.concat([rows.head(40), rows.head(20).with_columns(pl.col("row_id") + (1 << 40),
                                                               pl.col("response") + " and a tail")])
    run(warm, params, True)
    cpu, wall = [], []
    for _ in range(spec.get("rounds", 3)):
        began = time.process_time(), time.perf_counter()
        _, tables = run(rows, params, spec.get("whole", True))
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    found = {name: [list(column) for column in frame.get_columns()] for name, frame in tables.items()}
    print(json.dumps({"seconds": statistics.median(cpu), "wall": statistics.median(wall), "rows": rows.height,
                      "bytes": int(rows["response"].str.len_bytes().sum()), **found,
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
