"""filter.language against fastText, and its quality on the labelled set of `filters_language_labelled.py`.

    python benchmarks/filters_language.py [--data FOLDER] [--quick]

Speed: over the first rows of LONG (traces of 4 to 20 KB), in processes of their own, pinned to one core, one thread,
by turns, three times each with three passes; medians of CPU seconds. Ours: the op, from a polars batch of responses in
memory to the score frame (target `en`), warm. fastText's: `lid.176.ftz` (the file that the op asks too) through
fasttext-predict 0.9.2.4, `predict(text, k=1)` on the whole text with newlines as spaces, warm, the texts already Python
strings. On two cores: two of our processes at once, each with half of the rows, by the clock.

Quality: F1 of `passed = false` for responses with a planted sentence or more, against clean ones; false alarms are the
share of clean responses that do not pass. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import text_corpora
from filters_language_labelled import MIXED, labelled_set
from rich.console import Console
from rich.table import Table
from sides import cores, finish, start

ROWS, QUICK_ROWS, BATCH, PASSES = 2400, 400, 2048, 3


def _timed(once: Callable[[], None]) -> tuple[float, float]:
    """Median CPU and wall seconds of PASSES passes over the rows."""
    spent = []
    for _ in range(PASSES):
        cpu, wall = time.process_time(), time.perf_counter()
        once()
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    return statistics.median(one for one, _ in spent), statistics.median(one for _, one in spent)


def _side_ours(texts: pl.Series) -> tuple[float, float]:
    from factory.engine.op import OpContext
    from factory.filters.language import LanguageParams, language

    batch, params = texts.alias("response").to_frame(), LanguageParams(target="en")
    language(batch.head(20), params, OpContext())

    def once() -> None:
        for at in range(0, batch.height, BATCH):
            language(batch.slice(at, BATCH), params, OpContext())

    return _timed(once)


def _side_fasttext(texts: pl.Series) -> tuple[float, float]:
    from factory.filters.langmix.lid import load_lid

    model, said = load_lid(), texts.to_list()
    for text in said[:20]:
        model.predict(text.replace("\n", " "), k=1)

    def once() -> None:
        for text in said:
            model.predict(text.replace("\n", " "), k=1)

    return _timed(once)


def _start(side: str, corpus: Path, first: int, rows: int, core: int) -> subprocess.Popen[str]:
    return start("filters_language.py", ["--side", side, str(corpus), str(first), str(rows)], core)


def measure_speed(corpus: Path, rows: int, rounds: int) -> dict[str, float]:
    """Megabytes a second of both sides on one core, and of ours on two."""
    free = cores()
    speeds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for side in ("ours", "fasttext"):
            found = finish(_start(side, corpus, 0, rows, free[0]))
            speeds[side].append(found["bytes"] / found["cpu"] / 1e6)
        if len(free) > 1:
            half = rows // 2
            pair = [_start("ours", corpus, at * half, half, core) for at, core in enumerate(free[:2])]
            both = [finish(side) for side in pair]
            speeds["two"].append(sum(one["bytes"] for one in both) / max(one["wall"] for one in both) / 1e6)
    return {side: statistics.median(found) for side, found in speeds.items()}


def measure_quality(data: Path, per_language: int, clean: int) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    """F1 and false alarms, and table rows: what was planted, in what, cases, found."""
    from factory.engine.op import OpContext
    from factory.filters.language import LanguageParams, language

    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    cases = list(labelled_set(data, per_language, clean))
    for target in ("en", "zh"):
        own = [case for case in cases if case.target == target]
        responses = pl.DataFrame({"response": [case.response.encode("utf-8", "replace").decode() for case in own]})
        scores = language(responses, LanguageParams(target=target), OpContext())
        for case, passed, words in zip(own, scores["passed"], scores["consistency"], strict=True):
            found[target, case.kind].append(words < 1 if case.kind == "word" else not passed)
    clean_rows = [hit for (_, kind), hits in found.items() if kind == "clean" for hit in hits]
    mixed = [hit for (_, kind), hits in found.items() if kind in MIXED for hit in hits]
    hits, alarms = sum(mixed), sum(clean_rows)
    figures = {"language_f1": 2 * hits / (hits + len(mixed) + alarms), "false_alarm": alarms / len(clean_rows)}
    return figures, [(f"{kind} in {target}", f"{len(hits):,}", f"{sum(hits) / len(hits):.4f}")
                     for (target, kind), hits in found.items()]


def measure_language(long_corpus: Path, data: Path | None = None, quick: bool = False) -> dict[str, Any]:
    """Print the table; language_vs_fasttext, language_mb_per_s, language_f1, false_alarm and the table's rows."""
    speed = measure_speed(long_corpus, QUICK_ROWS if quick else ROWS, 1 if quick else 3)
    figures, rows = measure_quality(data or text_corpora.find_data(), 9 if quick else 30, 150 if quick else 1500)
    table = Table("filter.language", "cases", "MB/s, or share")
    named = (("ours", "ours, whole traces, one core"), ("fasttext", "fastText lid.176 on whole texts, one core"),
             ("two", "ours on two cores, by the clock"))
    rows = [*((title, "", f"{speed[side]:.2f}") for side, title in named if side in speed), *rows]
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    return {"language_vs_fasttext": speed["ours"] / speed["fasttext"], "language_mb_per_s": speed["ours"], **figures,
            "rows": rows}


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder of shared data")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side, corpus, first, rows = args.side
        texts = pl.read_parquet(corpus)["text"].slice(int(first), int(rows))
        cpu, wall = (_side_ours if side == "ours" else _side_fasttext)(texts)
        print(json.dumps({"cpu": cpu, "wall": wall, "bytes": int(texts.str.len_bytes().sum())}))
        return
    data = text_corpora.find_data(args.data)
    found = measure_language(text_corpora.long(data), data, args.quick)
    print(json.dumps({key: round(value, 4) for key, value in found.items() if key != "rows"}))


if __name__ == "__main__":
    main()
