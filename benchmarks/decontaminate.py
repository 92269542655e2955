"""Decontamination: dedup.decontaminate beside plain Python scripts, the same hits, and real contamination.

    make bench NAME=decontaminate        (python benchmarks/decontaminate.py --help for sizes; --quick for a minute)

Benchmarks: the prompts of MATH-500, GSM8K test and HumanEval, n = 13. Corpora: those of `text_corpora.py`, and MATH's
12,000-problem training split, 3,303 rows of which are MATH-test problems. Each side runs in a process of its own,
pinned to one core, libraries held to one thread, several times in turn with the others; figures are medians of CPU
seconds, MB are 10^6 bytes of UTF-8.

1. The kernel: texts to the n-grams that each row shares with the benchmarks. All that the op stores too (spans, shares,
   reasons; SHORT and the training split also as whole prompts), and that with two processes on two cores (wall time).
   The script keeps a set of n-gram tuples per row, with the same words (`decontaminate_plain.py`); the quickest script
   has joined strings and `\\w+`. datatrove's filter stands beside as information where an environment with it is found.
2. The n-grams found are compared row by row with those of the script.
3. Exact mode over the training split: MATH-test problems found, MATH-500 problems claimed (it holds none).

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import polars as pl
import text_corpora
from rich.console import Console
from rich.table import Table
from sides import cores, finish, start
from text_corpora_sources import read_records

SETS = (("math500", "math/math500.jsonl", "problem", "unique_id"), ("gsm8k", "gsm8k/test.jsonl", "question", None),
        ("humaneval", "code/HumanEval.jsonl.gz", "prompt", "task_id"))
SCRIPT, QUICKEST, KERNEL, WHOLE = "plain script", "quickest script", "ours", "ours, all that is stored"
DATATROVE_ROWS = 200
console = Console(width=130)


def read(data: Path, name: str) -> pl.DataFrame:
    """A file of the shared data; ends the program where it is missing."""
    if not (data / name).exists():
        sys.exit(f"{data / name} is missing: the benchmark needs it")
    return pl.DataFrame(read_records(data / name), infer_schema_length=None)


def write_inputs(data: Path, folder: Path) -> dict[str, Path]:
    """The benchmarks' items, and the training split in the form of a corpus."""
    from factory.dedup.decontaminate.items import join_items, name_items

    frames = []
    for name, file, column, item in SETS:
        rows = read(data, file)
        named = pl.col(item) if item else pl.int_range(pl.len()).cast(pl.String)
        frames.append(name_items([rows.select(item=named, part=pl.lit("prompt"), text=pl.col(column))], name))
    paths = {"items": folder / "items.parquet", "train": folder / "math_train.parquet"}
    join_items(frames).write_parquet(paths["items"])
    read(data, "math/math_train12k_marti.json").select(text="prompt").write_parquet(paths["train"])
    return paths


def part_of(corpus: Path) -> str:
    """What the texts of a corpus are in a row."""
    return "trace" if corpus.stem == "long" else "prompt"


def compare(corpus: Path, items: Path, args: argparse.Namespace, free: list[int]) -> dict[str, dict[str, Any]]:
    """Every side over a corpus, with the median of its seconds."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(args.rounds):  # in turn, so that a slow minute of the machine meets all
        for side in (KERNEL, WHOLE, SCRIPT, QUICKEST):
            spec = {"side": side, "corpus": str(corpus), "items": str(items), "n": args.n, "rows": args.rows,
                    "part": part_of(corpus), "rounds": 3 if side in (KERNEL, WHOLE) else 1}
            runs.setdefault(side, []).append(finish(start("decontaminate_side.py", [json.dumps(spec)], free[0])))
    return {side: {**found[-1], "seconds": statistics.median(one["seconds"] for one in found)}
            for side, found in runs.items()}


def on_two(corpus: Path, items: Path, args: argparse.Namespace, free: list[int], rows: int) -> float | None:
    """Wall seconds of two processes, each with half of the rows."""
    if len(free) < 2:
        return None
    half = (rows + 1) // 2
    sides = [start("decontaminate_side.py", [json.dumps({
        "side": WHOLE, "corpus": str(corpus), "items": str(items), "n": args.n, "start": at * half, "rows": half,
        "part": part_of(corpus), "rounds": 3})], core) for at, core in enumerate(free[:2])]
    return max(float(finish(side)["wall"]) for side in sides)


def datatrove(corpus: Path, items: Path, args: argparse.Namespace, core: int) -> dict[str, Any] | None:
    """datatrove's filter over the first rows, where an environment with it is found."""
    given = Path(args.peers) if args.peers else text_corpora.CACHE / "peers" / "filters"
    if not (given / "bin" / "python").exists():
        return None
    spec = {"corpus": str(corpus), "items": str(items), "n": args.n, "rows": DATATROVE_ROWS}
    return finish(start("decontaminate_datatrove.py", [json.dumps(spec)], core, str(given / "bin" / "python")))


def show(name: str, sides: dict[str, dict[str, Any]], wall: float | None) -> None:
    """The table of a corpus."""
    best = sides[KERNEL]
    table = Table(f"{name}: {best['rows']:,} rows, {best['bytes'] / 1e6:.0f} MB", "MB/s", "rows/s", "ours ÷ it",
                  "rows hit", "peak MB")
    for who, side in sides.items():
        size = side["bytes"] / 1e6
        times = side["seconds"] / side["bytes"] * best["bytes"] / best["seconds"]
        table.add_row(who, f"{size / side['seconds']:.2f}", f"{side['rows'] / side['seconds']:,.0f}", f"{times:.1f}",
                      f"{side['hit']:,} of {side['rows']:,}", f"{side['peak_mb']:.0f}")
    if wall is not None:
        table.add_row(f"{WHOLE}, two cores (wall)", f"{best['bytes'] / 1e6 / wall:.2f}", f"{best['rows'] / wall:,.0f}")
    console.print(table)


def contamination(data: Path) -> dict[str, int]:
    """Exact mode over MATH's training split: MATH-test problems found, and MATH-500 problems claimed."""
    from factory.dedup.decontaminate.exact import index_forms, match_forms

    train = read(data, "math/math_train12k_marti.json")
    leaked = train["id"].str.starts_with("test/").to_numpy()
    found = {name: match_forms(train["prompt"], index_forms(read(data, f"math/{name}.jsonl")["problem"], False), False)
             >= 0 for name in ("math_test", "math500")}
    return {"math_test_leaked": int(leaked.sum()), "math_test_found": int((found["math_test"] & leaked).sum()),
            "math_test_others": int((found["math_test"] & ~leaked).sum()),
            "math500_claimed": int(found["math500"].sum())}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of shared data (default: shared/data beside a folder above)")
    parser.add_argument("--peers", help="a virtual environment with datatrove (default: that of the bench `filters`)")
    parser.add_argument("--n", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="first rows of each corpus; 0: all")
    parser.add_argument("--quick", action="store_true", help="1,000 rows of each corpus, once")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = args.rows or 1_000, 1
    data, free = text_corpora.find_data(args.data), cores()
    paths = write_inputs(data, text_corpora.cache_folder("decontaminate"))
    corpora = {"long": text_corpora.long(data), "short": text_corpora.short(data), "math train": paths["train"]}
    sides = {}
    for name, corpus in corpora.items():
        sides[name] = compare(corpus, paths["items"], args, free)
        shown = dict(sides[name])
        if name == "long" and (beside := datatrove(corpus, paths["items"], args, free[0])) is not None:
            shown[f"datatrove, first {beside['rows']} rows"] = beside
        show(name, shown, on_two(corpus, paths["items"], args, free, sides[name][KERNEL]["rows"]))
    same = all(found[KERNEL]["digest"] == found[SCRIPT]["digest"] for found in sides.values())
    real = contamination(data)
    console.print("MATH train, exact mode:", real)
    long = sides["long"]
    speed = {side: long[side]["bytes"] / 1e6 / long[side]["seconds"] for side in (KERNEL, WHOLE)}
    print(json.dumps({
        "vs_python": round(long[SCRIPT]["seconds"] / long[KERNEL]["seconds"], 1), "same_hits": same,
        "math_test_found": real["math_test_found"], "math500_claimed": real["math500_claimed"],
        "vs_quickest": round(long[QUICKEST]["seconds"] / long[KERNEL]["seconds"], 1),
        "vs_python_stored": round(long[SCRIPT]["seconds"] / long[WHOLE]["seconds"], 1),
        "long_mb_per_s": round(speed[KERNEL], 1), "long_mb_per_s_stored": round(speed[WHOLE], 1),
        "peak_mb": round(long[WHOLE]["peak_mb"])}))


if __name__ == "__main__":
    main()
