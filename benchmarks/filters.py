"""The filters against their peers: how fast each is, and whether repetition's values are datatrove's.

    make bench NAME=filters        (python benchmarks/filters.py --help for sizes)

Corpora are those of `text_corpora.py` (LONG: some 8,900 traces of 4-20 KB, SHORT: some 64,000 instruction texts). Each
side runs in a process of its own, pinned to one core, libraries held to one thread, three times; figures are medians of
CPU seconds, since a core may have other work; MB are 10^6 bytes of UTF-8.

1. Language: see `filters_language.py`.
2. Our filters one by one and together (language, length, paragraphs, code_blocks, repetition, structure) over LONG and
   SHORT, on one core, and on two at once (wall time there); token counts, rendering and private data apart.
3. Repetition: datatrove's filter for English over a small part of LONG with all its statistics, beside ours over the
   same texts in the same run; and its own code over our words, over all of LONG: how many of its values ours equal.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import text_corpora
from rich.console import Console
from rich.table import Table
from sides import cores, finish, peer_python, start

console = Console(width=130)


def ours(part: str, core: int = 0, **spec: Any) -> subprocess.Popen[str]:
    """One of our sides."""
    return start("filters_ours.py", [json.dumps({"part": part, **spec})], core)


def speeds(corpora: dict[str, Path], rows: dict[str, int], rounds: int) -> dict[str, float]:
    """Print the speed of every filter; the MB/s of the six together by corpus."""
    together: dict[str, float] = {}
    for name, path in corpora.items():
        found = finish(ours("together", cores()[0], corpus=str(path), rows=rows[name], rounds=rounds))
        megabytes, total = found["bytes"] / 1e6, sum(found["cpu"].values())
        table = Table(f"{name}: {found['rows']:,} rows, {megabytes:.1f} MB", "MB/s", "rows/s", "share of time")
        for op, seconds in found["cpu"].items():
            table.add_row(op, f"{megabytes / seconds:.1f}", f"{found['rows'] / seconds:,.0f}", f"{seconds / total:.0%}")
        together[name] = megabytes / total
        table.add_row("[bold]together", f"{megabytes / total:.1f}", f"{found['rows'] / total:,.0f}",
                      f"peak {found['peak_mb']:.0f} MB")
        if len(cores()) > 1:
            half = found["rows"] // 2
            sides = [ours("together", core, corpus=str(path), rows=half, start=at * half, rounds=rounds)
                     for at, core in enumerate(cores()[:2])]
            wall = max(finish(side)["wall"] for side in sides)
            table.add_row("together on two cores", f"{megabytes / wall:.1f}", f"{found['rows'] / wall:,.0f}",
                          "by the clock")
        console.print(table)
    return together


def apart(path: Path, rows: int) -> None:
    """Print the speed of what needs a tokenizer or looks for private data."""
    found = finish(ours("apart", cores()[0], corpus=str(path), rows=rows, rounds=1))
    table = Table(f"apart, over {found['rows']:,} rows of LONG", "MB/s", "rows/s")
    for op, seconds in found["cpu"].items():
        table.add_row(op, f"{found['bytes'] / 1e6 / seconds:.2f}", f"{found['rows'] / seconds:,.0f}")
    console.print(table)


def gopher(python: str, long: Path, timed_rows: int, equal_rows: int, rounds: int) -> dict[str, float]:
    """Repetition against datatrove."""
    with tempfile.TemporaryDirectory() as room:
        words, out, timed = Path(room) / "words.parquet", Path(room) / "values.parquet", Path(room) / "timed.parquet"
        pl.read_parquet(long).head(timed_rows).write_parquet(timed)
        given = finish(ours("words", cores()[0], corpus=str(long), rows=equal_rows, out=str(words)))
        theirs = finish(start("filters_gopher.py", [str(timed), str(words), str(out)], cores()[0], python))
        mine = [finish(ours("together", cores()[0], corpus=str(timed), rows=None, rounds=rounds)) for _ in range(2)]
        wanted = pl.read_parquet(out)
        equal = sum(int((column == pl.read_parquet(words)[column.name]).sum()) for column in wanted)
    megabytes, whole = mine[0]["bytes"] / 1e6, given["bytes"] / 1e6
    seconds = statistics.median(side["cpu"]["repetition"] for side in mine)
    table = Table("repetition", "MB/s", "ours ÷ it")
    table.add_row(f"ours, all statistics of both parts, {timed_rows:,} texts", f"{megabytes / seconds:.1f}", "")
    for name, spent, size in (("datatrove, English, all thirteen statistics", theirs["all_values"], megabytes),
                              ("datatrove, English, until one is above its limit", theirs["stopping"], megabytes),
                              (f"datatrove's code on our words, {given['rows']:,} texts", theirs["our_words"], whole)):
        table.add_row(name, f"{size / spent:.3f}", f"{megabytes / seconds / (size / spent):.0f}")
    values = wanted.width * wanted.height
    table.add_row("values that are equal to the last bit, on the same words", f"{equal:,} of {values:,}", "")
    console.print(table)
    return {"repetition_vs_datatrove": theirs["all_values"] / seconds, "equal_values": equal / values}


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder of shared data")
    parser.add_argument("--peers", help="a virtual environment with filters_peers.txt installed")
    parser.add_argument("--part", choices=("all", "language", "speed", "repetition"), default="all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    args = parser.parse_args()
    data, found = text_corpora.find_data(args.data), {}
    corpora = {"LONG": text_corpora.long(data), "SHORT": text_corpora.short(data)}
    every = {"LONG": 900, "SHORT": 6_500} if args.quick else {"LONG": 1 << 40, "SHORT": 1 << 40}
    rounds = 1 if args.quick else 3
    if args.part in ("all", "language"):
        from filters_language import measure_language  # loads much

        found |= measure_language(corpora["LONG"], data, args.quick)
    if args.part in ("all", "repetition"):
        sizes = (200, 900, rounds) if args.quick else (600, every["LONG"], rounds)
        found |= gopher(peer_python("filters", args.peers), corpora["LONG"], *sizes)
    if args.part in ("all", "speed"):
        found["all_mb_per_s"] = speeds(corpora, every, rounds)["LONG"]
        apart(corpora["LONG"], 60 if args.quick else 300)
    print(json.dumps({key: round(value, 4) for key, value in found.items() if isinstance(value, int | float)}))


if __name__ == "__main__":
    main()
