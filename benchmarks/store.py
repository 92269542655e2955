"""The write path of long text, and how fast versions are committed.

    make bench NAME=store

`write_vs_pyarrow`: MB/s of text that a shard of an EXPAND step is stored with (row keys, ids, content hash, rows and
lineage parts, sha256 of both, fsync, the shard's record), over MB/s of `pyarrow.parquet.write_table` (zstd level 3, no
hash, no fsync) for the same text. Both are measured in turn in one process; the figure is a ratio of medians. Commits
are counted over processes that each write one small part and commit it, to names of their own and all to one name.
Prints tables, then one JSON object as the last line. About a minute and a half on two cores.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import random
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from factory.engine.kinds.rows import finish_rows
from factory.engine.op import SCORE_SCHEMA
from factory.engine.runtime import StepRuntime
from factory.engine.task import Clock, StepCall
from factory.verifiers.verdict import VERDICT_OUT
from warehouse import Warehouse, layout
from warehouse.content import hash_rows
from warehouse.dataset import pack_schema
from warehouse.ids import claim_namespace, mint_ids
from warehouse.parts import write_part
from warehouse.records import Counts, Manifest, ShardRecord

SHARD_BYTES = 48 << 20
SAMPLES = 4
ROUNDS = 9
_COMMON = """the of and to so we that is a in then let be it by which this have with as if from not for are hence now
wait but because step next check answer value number total each equals therefore since first second""".split()  # noqa: SIM905
_SYLLABLES = """ba co di fer gra hen in jo ka lum mi nor ol pra qui ris sta tem und vo wen xi yar zel the ter
ing al""".split()  # noqa: SIM905


def texts(rows: int, size: int, seed: int = 7) -> pl.Series:
    """Reasoning-like text of about `size` bytes a row: words by Zipf's law, every seventeenth or so a formula."""
    rng, pick = np.random.default_rng(seed), random.Random(seed)
    words = list(dict.fromkeys([*_COMMON, *("".join(pick.choices(_SYLLABLES, k=pick.randint(1, 4)))
                                            for _ in range(5000))]))
    formulas = [rf"$x_{{{a}}} = \frac{{{b}}}{{{c}}} + {d}$." for a, b, c, d in rng.integers(1, 999, (3000, 4)).tolist()]
    chance = 1 / np.arange(1, len(words) + 1) ** 0.9
    chance = np.concatenate([0.94 * chance / chance.sum(), np.full(len(formulas), 0.06 / len(formulas))])
    upto, lexicon = np.cumsum(chance / chance.sum()), [*words, *formulas]
    mean = size / float(np.dot(chance, [len(word) + 1 for word in lexicon]))
    lengths = np.maximum(8, rng.normal(mean, mean * 0.3, rows)).astype(int).tolist()
    return pl.Series("response", [" ".join([lexicon[at] for at in np.searchsorted(upto, rng.random(length)).tolist()])
                                  for length in lengths])


def expand_call(root: Path) -> StepCall:
    """A `generate.sample` step as a worker gets it, with a namespace of its own."""
    warehouse = Warehouse(root, create=True)
    namespace = claim_namespace(warehouse.store, {"dataset": "bench/samples", "step": "samples",
                                                  "op": "generate.sample", "work_key": "bench"})
    return StepCall(root=str(root), run_id="bench", step="samples", op="generate.sample", params={"n": SAMPLES}, seed=1,
                    extra=None, inputs=("bench/prompts@1",), from_inputs=1, rules=(), runtime=StepRuntime(), model=None,
                    dataset="bench/samples", family="bench", op_key="bench", work_key="bench", namespace=namespace)


def answered(text: pl.Series, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(parents, what the op collected) of a shard whose answers are `text`."""
    count, rng = text.len(), random.Random(seed)
    parents = pl.DataFrame({"row_id": mint_ids(1 << 20, seed, -(-count // SAMPLES)), "row_key": pl.Series(
        [rng.randbytes(16) for _ in range(-(-count // SAMPLES))], dtype=pl.Binary)})
    slots = pl.int_range(count, eager=True) % SAMPLES
    return parents, pl.DataFrame({
        "response": text + str(seed), "finish_reason": pl.repeat("stop", count, eager=True),
        "tokens_in": pl.repeat(80, count, dtype=pl.Int32, eager=True),
        "tokens_out": (text.str.len_bytes() // 4).cast(pl.Int32), "sample_index": slots.cast(pl.Int32),
        "_parent": (pl.int_range(count, eager=True) // SAMPLES).cast(pl.UInt32), "_slot": slots.cast(pl.Int32),
        "answer_key": pl.Series([rng.randbytes(32) for _ in range(count)], dtype=pl.Binary)})


def store_shard(call: StepCall, number: int, shard: tuple[pl.DataFrame, pl.DataFrame]) -> ShardRecord:
    """Everything that a finished shard's text goes through."""
    return finish_rows(call, number, *shard, Clock(), role="prompt")


def measure_writing(size: int, folder: Path) -> dict[str, Any]:
    """Medians of ours and of raw pyarrow, in MB of text a second."""
    text = texts(SHARD_BYTES // size, size)
    megabytes = int(text.str.len_bytes().sum()) / 1e6
    call, raw = expand_call(folder / f"wh{size}"), folder / f"raw{size}.parquet"
    ours, theirs = [], []
    for number in range(ROUNDS + 1):
        shard = answered(text, number)
        table = shard[1].select("response").to_arrow(compat_level=pl.CompatLevel.oldest())
        started = time.perf_counter()
        pq.write_table(table, raw, compression="zstd", compression_level=3)
        between = time.perf_counter()
        record = store_shard(call, number, shard)
        if number:  # the first round pays for imports and first pages
            theirs.append(between - started)
            ours.append(time.perf_counter() - between)
    rows = record.tables["rows"]
    return {"row_bytes": round(megabytes * 1e6 / text.len()), "rows": text.len(), "shard_mb": round(megabytes, 1),
            "zstd_ratio": round(megabytes * 1e6 / raw.stat().st_size, 2),
            "pyarrow_mb_s": round(megabytes / statistics.median(theirs), 1),
            "ours_mb_s": round(megabytes / statistics.median(ours), 1),
            "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
            "stored_bytes_per_row": rows.bytes / rows.rows}


def measure_narrow(folder: Path) -> dict[str, float]:
    """Bytes a row of edges and verdicts, in parts of 50 000 and more rows."""
    store = Warehouse(folder / "narrow", create=True).store
    rng, count = np.random.default_rng(3), 100_000
    children = mint_ids(9, 0, count).alias("child_row_id")
    each = {"child_row_id": children, "role": pl.repeat("prompt", count, eager=True),
            "op": pl.repeat("generate.sample", count, eager=True),
            "slot": (pl.int_range(count, eager=True) % SAMPLES).cast(pl.Int32)}
    base = int(mint_ids(8, 0, 1)[0])
    inorder = pl.DataFrame({**each, "parent_row_id": base + pl.int_range(count, eager=True) // SAMPLES})
    anyhow = pl.DataFrame({**each, "parent_row_id": base + pl.Series(rng.integers(0, 400_000, count))})
    right = pl.Series(rng.random(count) < 0.6)
    verdicts = pl.DataFrame({"row_id": children.alias("row_id"), "passed": right}).with_columns(
        label=pl.when("passed").then(pl.lit("correct")).otherwise(pl.lit("incorrect")),
        score=pl.col("passed").cast(pl.Float64),
        reason_code=pl.when("passed").then(pl.lit("equal")).otherwise(pl.lit("different")),
        reason=pl.when("passed").then(None).otherwise(pl.format("answer {} is not {}", rng.integers(0, 999, 1)[0],
                                                                pl.Series(rng.integers(0, 9999, count)))),
        extracted=pl.Series(rng.integers(0, 9999, count)).cast(pl.String))
    verdicts = verdicts.select("row_id", *SCORE_SCHEMA, *VERDICT_OUT)
    return {"edge_bytes_per_row": write_part(store, inorder).bytes / count,
            "edge_bytes_per_row_random": write_part(store, anyhow).bytes / count,
            "verdict_bytes_per_row": write_part(store, verdicts).bytes / count}


def peak_mb() -> int:
    """Peak memory of this process. Not `ru_maxrss`: that starts at what the parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _store_shards(folder: str, shards: int, rows: int, size: int) -> tuple[int, int]:
    """(peak before, peak after) of a process that stores equal shards one after the other."""
    call = expand_call(Path(folder))
    before = peak_mb()
    text = texts(rows, size)
    for number in range(shards):
        store_shard(call, number, answered(text, number))
    return before, peak_mb()


def measure_memory(folder: Path) -> list[dict[str, int]]:
    """Peak memory of processes that store datasets of equal shards, and one of smaller shards."""
    found = []
    for megabytes, shards in ((12, 1), (48, 1), (48, 8)):
        with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
            at, rows = str(folder / f"rss{megabytes}x{shards}"), (megabytes << 20) // 6000
            before, peak = pool.submit(_store_shards, at, shards, rows, 6000).result()
        found.append({"shard_mb": megabytes, "shards": shards, "before_mb": before, "peak_mb": peak})
    return found


def small_version(warehouse: Warehouse, name: str, number: int) -> Manifest:
    """A version of one part of 20 rows, not committed yet."""
    frame = pl.DataFrame({"row_id": mint_ids(1, number, 20), "text": [f"{name} {number} {at}" for at in range(20)]})
    part = write_part(warehouse.store, frame)
    return Manifest(dataset=name, version=0, commit_id="", kind="rows", op="bench.small", op_version=1, recipe="bench",
                    step="small", run_id="bench", fingerprint=f"{name} {number}", family=name,
                    identity={}, work_key="bench", content_hash=str(hash_rows(text.encode() for text in frame["text"])),
                    row_count=20, bytes=part.bytes, columns={}, schemas={"rows": pack_schema(frame)},
                    tables={"rows": [part]}, inputs=[], counts=Counts(owed=20, kept=20))


_barrier: Any = None


def _start_together(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _commit(root: str, name: str, first: int, count: int) -> tuple[float, float]:
    warehouse = Warehouse(root)
    _barrier.wait()
    started = time.monotonic()
    for number in range(first, first + count):
        warehouse.commit(small_version(warehouse, name, number))
    return started, time.monotonic()


def measure_commits(root: Path, writers: int, count: int, *, one_name: bool = False) -> float:
    """Commits a second of `writers` processes that commit `count` small versions each."""
    Warehouse(root, create=True)
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(writers, mp_context=context, initializer=_start_together,
                             initargs=(context.Barrier(writers),)) as pool:
        names = ["bench/all" if one_name else f"bench/own-{writer}" for writer in range(writers)]
        spans = [done.result() for done in [pool.submit(_commit, str(root), name, writer * count, count)
                                            for writer, name in enumerate(names)]]
    held = len([key for key in Warehouse(root).store.keys("datasets") if layout.version_of(key)])
    if held != writers * count:
        raise SystemExit(f"{writers * count} versions were committed and {held} are there")
    return float(round(held / (max(end for _, end in spans) - min(start for start, _ in spans)), 1))


def show(writing: list[dict[str, Any]], memory: list[dict[str, int]], figures: dict[str, Any]) -> None:
    """The tables and the JSON line."""
    console = Console(width=120)
    for title, rows in (("storing text", writing), ("memory", memory)):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
        console.print(table)
    table = Table("", "", title="all else")
    for name, value in figures.items():
        if not isinstance(value, list):
            table.add_row(name, f"{value:g}")
    console.print(table)
    print(json.dumps(figures))


def main() -> None:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        writing = [measure_writing(size, folder) for size in (6000, 20_000)]
        narrow = measure_narrow(folder)
        memory = measure_memory(folder)
        beside = narrow["edge_bytes_per_row_random"] + 2 * narrow["verdict_bytes_per_row"]  # two judges
        figures = {
            "write_vs_pyarrow": min(row["ratio"] for row in writing),
            "write_vs_pyarrow_6k": writing[0]["ratio"], "write_vs_pyarrow_20k": writing[1]["ratio"],
            "write_mb_s": writing[0]["ours_mb_s"], "zstd_ratio": writing[0]["zstd_ratio"],
            **{name: round(value, 2) for name, value in narrow.items()},
            "lineage_verdict_percent_of_text": round(100 * beside / writing[0]["row_bytes"], 2),
            "lineage_verdict_percent_of_stored": round(100 * beside / writing[0]["stored_bytes_per_row"], 2),
            "rss_1_shard_mb": memory[1]["peak_mb"], "rss_8_shards_mb": memory[2]["peak_mb"],
            "commits_per_s_1": measure_commits(folder / "c1", 1, 150),
            "commits_per_s_8": measure_commits(folder / "c8", 8, 40),
            "commits_per_s_8_one_name": measure_commits(folder / "c8one", 8, 40, one_name=True)}
    show(writing, memory, figures)


if __name__ == "__main__":
    main()
