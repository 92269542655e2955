"""Near-duplicates: dedup.minhash against rensa and datasketch, what it finds, a million rows, and growing by a wave.

    make bench NAME=dedup        (python benchmarks/dedup.py --help for sizes; --quick for minutes)

Corpora are those of `text_corpora.py`. Each side runs in a process of its own, pinned to one core, libraries held to
one thread, several times in turn with the others; figures are medians of CPU seconds, MB are 10^6 bytes of UTF-8.

1. Speed over LONG and SHORT: ours from polars batches to tables of measured pairs, the peers from Python strings to the
   ids they would take out (`dedup_peer.py` says how they are used); ours on two cores too (wall time).
2. Quality: of the planted pairs those that a side finds, by their level. Ours finds a pair when both rows share a node
   or stand in `pairs`; a peer when it would take out one of the two. Precision: a sample of our pairs at 0.8 or above,
   measured again in plain Python.
3. A million rows of about 2 KB through a recipe, two workers: dedup.minhash, dedup.decontaminate, select; peak memory
   of all processes together, time, and the same for a tenth (`dedup_million.py`).
4. dedup.incremental over that million, then 50,000 more rows as a second increment; its verdicts against one greedy
   pass over planted pairs that are measured in plain Python.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import text_corpora
from dedup_million import grown, million
from rich.console import Console
from rich.table import Table
from sides import cores, finish, peer_python, start
from text_corpora_plant import jaccard_of

PEERS = ("rensa", "datasketch")
console = Console(width=130)


def ours(core: int, **spec: Any) -> subprocess.Popen[str]:
    """One of our sides."""
    return start("dedup_ours.py", [json.dumps(spec)], core)


def medians(sides: list[dict[str, Any]]) -> dict[str, Any]:
    """A side's run with the median of its seconds."""
    return {**sides[-1], "seconds": statistics.median(side["seconds"] for side in sides)}


def speed(name: str, corpus: Path, python: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Print the speed of all sides over a corpus; what each printed."""
    free = cores()
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):  # in turn, so that a slow minute of the machine meets all
        for who in PEERS:
            runs.setdefault(who, []).append(finish(start("dedup_peer.py", [who, str(corpus)], free[0], python)))
        runs.setdefault("ours", []).append(finish(ours(free[0], corpus=str(corpus), rounds=3)))
    sides = {who: medians(found) for who, found in runs.items()}
    sides["ours, datasketch's signatures"] = finish(
        ours(free[0], corpus=str(corpus), rounds=1, signature="datasketch"))
    best = sides["ours"]
    table = Table(f"{name}: {best['rows']:,} rows, {best['bytes'] / 1e6:.0f} MB", "MB/s", "rows/s", "ours ÷ it",
                  "peak MB")
    for who, side in sides.items():
        table.add_row(who, f"{side['bytes'] / 1e6 / side['seconds']:.2f}", f"{side['rows'] / side['seconds']:,.0f}",
                      f"{side['seconds'] / best['seconds']:.1f}", f"{side['peak_mb']:.0f}")
    if len(free) > 1:
        half = best["rows"] // 2
        parts = [ours(core, corpus=str(corpus), start=at * half, rows=half, rounds=3, whole=False)
                 for at, core in enumerate(free[:2])]
        wall = max(finish(part)["wall"] for part in parts)
        table.add_row("ours, partials on two cores", f"{best['bytes'] / 1e6 / wall:.2f}", f"{best['rows'] / wall:,.0f}",
                      "", "wall time")
    console.print(table)
    return sides


def found_by(side: dict[str, Any]) -> Any:
    """Whether a side finds a planted pair."""
    if "gone" in side:
        gone = set(side["gone"])
        return lambda left, right: left in gone or right in gone
    node = dict(zip(*side["nodes"], strict=True))
    near = set(zip(*side["pairs"][:2], strict=True))

    def find(left: int, right: int) -> bool:
        one, two = sorted((node.get(left, left), node.get(right, right)))
        return one == two or (one, two) in near

    return find


def quality(sides: dict[str, dict[str, dict[str, Any]]], planted: dict[str, pl.DataFrame],
            texts: dict[str, dict[int, str]], sample: int) -> dict[str, float]:
    """Print what each side finds of the planted pairs; our recall, and the precision of our pairs."""
    table = Table("planted pairs found", "level", "pairs", *next(iter(sides.values())))
    shares: dict[float, float] = {}
    for level in (0.95, 0.85):
        counts: dict[str, list[bool]] = {}
        for name, pairs in planted.items():
            some = pairs.filter((pl.col("level") - level).abs() < 1e-9)
            for who, side in sides[name].items():
                find = found_by(side)
                counts.setdefault(who, []).extend(find(*pair) for pair in some.select("left", "right").iter_rows())
        shares[level] = sum(counts["ours"]) / len(counts["ours"])
        table.add_row("both corpora", str(level), str(len(counts["ours"])),
                      *(f"{sum(hits) / len(hits):.4f}" for hits in counts.values()))
    console.print(table)
    claimed = [(name, left, right) for name, found in sides.items()
               for left, right, near in zip(*found["ours"]["pairs"], strict=True) if near >= 0.8]
    some_claimed = random.Random(1).sample(claimed, min(sample, len(claimed)))
    right_ones = sum(jaccard_of(texts[name][one], texts[name][two]) >= 0.8 for name, one, two in some_claimed)
    console.print(f"of {len(claimed):,} pairs at 0.8 or above {len(some_claimed):,} were measured again in plain "
                  f"Python: {right_ones:,} are")
    return {"recall_95": shares[0.95], "recall_85": shares[0.85], "precision_80": right_ones / len(some_claimed)}


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder of shared data (default: shared/data beside the repository)")
    parser.add_argument("--peers", help="a virtual environment with dedup_peers.txt (default: one is made)")
    parser.add_argument("--quick", action="store_true", help="1,600 long texts, a tenth of the million, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="rows of the last two parts (default: a million)")
    args = parser.parse_args()
    data = text_corpora.find_data(args.data)
    python, rounds = peer_python("dedup", args.peers), 1 if args.quick else args.rounds
    files = {"LONG": (text_corpora.long_small if args.quick else text_corpora.long)(data)}
    if not args.quick:
        files["SHORT"] = text_corpora.short(data)
    sides = {name: speed(name, path, python, rounds) for name, path in files.items()}
    texts = {name: dict(pl.read_parquet(path).select("id", "text").iter_rows()) for name, path in files.items()}
    planted = {name: pl.read_parquet(text_corpora.planted(data, name.lower())) for name in files}
    found = quality(sides, planted, texts, 2000)
    rows = max(50_000, (args.rows or (100_000 if args.quick else 1_000_000)) // 50_000 * 50_000)  # whole files
    big = million(data, rows, console)
    more = grown(data, rows, rows // 20, console)
    long = sides["LONG"]
    print(json.dumps({
        "long_vs_rensa": round(long["rensa"]["seconds"] / long["ours"]["seconds"], 2),
        "long_vs_datasketch": round(long["datasketch"]["seconds"] / long["ours"]["seconds"], 2),
        "long_mb_per_s": round(long["ours"]["bytes"] / 1e6 / long["ours"]["seconds"], 1),
        **{name: round(value, 4) for name, value in found.items()}, **big, **more}))


if __name__ == "__main__":
    main()
