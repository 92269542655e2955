"""`verify.math` on real answers: does it agree with the labels, how fast against plain Math-Verify, does it break?

    make bench NAME=verify_math

1. **Agreement** on the labelled set of `verify_math_data.py` (which says where each label comes from), by source; the
   headline is the held-out part, the policy triples of the suites and the cheats aside (of these the share that is
   accepted is told), and once more for references that are no integers. `DISAGREE=1` prints every pair that differs.
2. **Throughput** on distinct real pairs with a cold cache against `math_verify.parse` and `verify`: the same pairs, two
   processes and a deadline of 5 s on both sides (theirs by its own signals, ours by a killed process). Both are warm:
   their imports are not counted. Ours has this process for what needs no symbolic library, and two for the rest.
3. **Latency** of single calls on the same pairs, cold cache: the 99.9th percentile.
4. **Fuzz**: 50 000 hostile pairs (`verify_math_fuzz.py`); a crash is an exception, a lost row, a process too many
   or a worker that died (`crashed`).

Last line: one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import psutil
from rich.console import Console
from rich.table import Table
from verify_math_data import Pair, labelled, throughput_pairs
from verify_math_fuzz import fuzzed

from factory.verifiers import math as verifier
from factory.verifiers.math.symbolic import load
from factory.verifiers.math.values import readings
from factory.verifiers.spelling import _tidy_short

SECONDS = 5
_INTEGER = re.compile(r"[#$\s]*-?[\d,]+[$\s]*")
FUZZED = int(os.environ.get("FUZZED", "50000"))
console = Console(width=150)


def forget() -> None:
    """A cold start but for imports: no cached comparison, reading or reference."""
    verifier._known.clear()
    verifier._pool.close()
    readings.cache_clear()
    _tidy_short.cache_clear()
    verifier.check_many([(rf"\boxed{{x+{n}}}", f"{n}+x") for n in range(4)])  # starts and warms the workers


def agreement() -> dict[str, float]:
    """Recall and precision by source and part."""
    pairs = labelled()
    verdicts = verifier.check_many([(pair.response, pair.gold) for pair in pairs], SECONDS)
    table = Table("source", "pairs", "right", "recall", "precision", "undecided", "held out: pairs", "recall",
    "precision")
    for source in dict.fromkeys(pair.source for pair in pairs):
        mine = [(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if pair.source == source]
        held = [(pair, verdict) for pair, verdict in mine if pair.held_out]
        unknown = sum(verdict.label == "undecided" for _, verdict in mine)
        table.add_row(source, f"{len(mine):,}",
        f"{sum(pair.right for pair, _ in mine):,}", *_shares(mine), str(unknown),
                      f"{len(held):,}", *_shares(held))
    headline = [(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True)
                if pair.source not in ("pairs-policy", "cheats")]
    parts = {name: [row for row in headline if row[0].held_out == held]
             for name, held in (("tuned on", False), ("held out", True))}
    parts["held out, non-integer gold"] = [row for row in parts["held out"]
                                           if not _INTEGER.fullmatch(row[0].gold.rsplit("####", 1)[-1])]
    for name, part in parts.items():
        table.add_row(f"[bold]{name}[/]", f"{len(part):,}", f"{sum(pair.right for pair, _ in part):,}", *_shares(part),
        "",
                      "", "", "")
    console.print(table)
    if os.environ.get("DISAGREE"):
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if (verdict.label == "correct") != pair.right and (not pair.held_out or os.environ["DISAGREE"] == "all"):
                print(f"{pair.source} {pair.key} right={pair.right} {verdict.label} {verdict.reason_code}: gold "
                      f"{pair.gold[-80:]!r} taken {(verdict.extracted or '')[:80]!r} from {pair.response[-90:]!r}")
    recall, precision = _measure(parts["held out"])
    tuned, other = _measure(parts["tuned on"]), _measure(parts["held out, non-integer gold"])
    cheats = [verdict.label == "correct" for pair, verdict in zip(pairs, verdicts, strict=True)
              if pair.source == "cheats"]
    return {"recall": round(recall, 4), "precision": round(precision, 4), "tuned_recall": round(tuned[0], 4),
            "tuned_precision": round(tuned[1], 4), "labelled": len(headline), "held_out": len(parts["held out"]),
            "non_integer": len(parts["held out, non-integer gold"]), "non_integer_recall": round(other[0], 4),
            "non_integer_precision": round(other[1], 4), "cheats": len(cheats), "cheats_accepted": sum(cheats)}


def _measure(rows: list[tuple[Pair, verifier.Verdict]]) -> tuple[float, float]:
    accepted = sum(verdict.label == "correct" for _, verdict in rows)
    both = sum(pair.right and verdict.label == "correct" for pair, verdict in rows)
    return both / max(sum(pair.right for pair, _ in rows), 1), both / max(accepted, 1)


def _shares(rows: list[tuple[Pair, verifier.Verdict]]) -> tuple[str, str]:
    recall, precision = _measure(rows)
    return f"{recall:.4f}", f"{precision:.4f}"


def plain(pair: tuple[str, str]) -> bool:
    """Math-Verify as its README uses it."""
    from math_verify import parse, verify

    response, gold = pair
    wanted = parse(gold if "$" in gold or "boxed" in gold else f"${gold}$", parsing_timeout=SECONDS)
    return bool(verify(wanted, parse(response, parsing_timeout=SECONDS), timeout_seconds=SECONDS))


def quiet() -> None:
    import logging

    logging.disable(logging.WARNING)
    load()  # the same warmth as our workers
    plain((r"$\frac{1}{2}$", "0.5"))


def throughput() -> dict[str, float]:
    """Pairs a second of both sides on the same pairs, and how often they agree."""
    pairs = throughput_pairs()
    random.Random(4).shuffle(pairs)
    with ProcessPoolExecutor(2, initializer=quiet) as pool:
        list(pool.map(plain, pairs[:2]))
        started = time.perf_counter()
        theirs = list(pool.map(plain, pairs, chunksize=8))
        plain_seconds = time.perf_counter() - started
    forget()
    started = time.perf_counter()
    verdicts = verifier.check_many(pairs, SECONDS)
    seconds = time.perf_counter() - started
    ours = [verdict.label == "correct" for verdict in verdicts]
    slow = sum(verdict.seconds > 0.001 for verdict in verdicts)
    forget()
    singles = []
    for response, gold in pairs:
        started = time.perf_counter()
        verifier.check_math(response, gold, SECONDS)
        singles.append(time.perf_counter() - started)
    singles.sort()
    rates = len(pairs) / plain_seconds, len(pairs) / seconds
    table = Table("", "pairs", "seconds", "pairs/s")
    table.add_row("plain Math-Verify, 2 processes", f"{len(pairs):,}", f"{plain_seconds:.1f}", f"{rates[0]:,.0f}")
    table.add_row("verify.math, 2 worker processes", f"{len(pairs):,}", f"{seconds:.1f}", f"{rates[1]:,.0f}")
    console.print(table)
    said = Counter(zip(theirs, ours, strict=True))
    console.print(f"both accept {said[True, True]:,}, both refuse {said[False, False]:,}, only plain accepts "
                  f"{said[True, False]}, only ours {said[False, True]}; {slow} rows took over 1 ms; single calls: "
                  f"median {singles[len(singles) // 2] * 1e3:.2f} ms, p99.9 {singles[int(len(singles) * 0.999)]:.3f} s")
    if os.environ.get("DISAGREE"):
        for pair, one, other, verdict in zip(pairs, theirs, ours, verdicts, strict=True):
            if one != other:
                print(f"plain={one}: gold {pair[1]!r} taken {(verdict.extracted or '')[:80]!r} from {pair[0][-120:]!r}")
    return {"pairs": len(pairs), "pairs_per_s": round(rates[1], 1), "plain_pairs_per_s": round(rates[0], 1),
            "speedup": round(rates[1] / rates[0], 2), "p999_s": round(singles[int(len(singles) * 0.999)], 4)}


def fuzz() -> dict[str, float]:
    """Crashes on hostile pairs: exceptions, lost rows, processes that should not be there."""
    known = labelled()
    answers = [pair.response for pair in known if pair.source in ("nemo", "pairs", "solutions")]
    golds = list(dict.fromkeys(pair.gold for pair in known if pair.source in ("nemo", "pairs", "forms")))
    pairs = list(fuzzed(answers, golds, FUZZED))
    crashes, labels, started = 0, Counter[str](), time.perf_counter()
    for at in range(0, len(pairs), 500):
        batch = pairs[at:at + 500]
        try:
            verdicts = verifier.check_many(batch, 2)
        except Exception as error:
            console.print(f"[red]rows {at}…: {type(error).__name__}: {error}[/]")
            crashes += 1
            continue
        crashes += len(batch) - len(verdicts)
        labels.update(verdict.reason_code for verdict in verdicts)
    verifier._pool.close()
    left = [child.pid for child in psutil.Process().children(recursive=True)]
    crashes += len(left) + labels["crashed"]
    told = ", ".join(f"{code} {count:,}" for code, count in labels.most_common())
    console.print(f"fuzz: {len(pairs):,} pairs in {time.perf_counter() - started:.0f} s, {crashes} crashes, "
                  f"{len(left)} processes left: {told}")
    return {"fuzzed": len(pairs), "crashes": crashes, "timeouts": labels["timeout"], "worker_deaths": labels["crashed"]}


def main(*parts: str) -> None:
    """All parts, or those named: agreement, throughput, fuzz."""
    found: dict[str, float] = {}
    for name, part in (("agreement", agreement), ("throughput", throughput), ("fuzz", fuzz)):
        if not parts or name in parts:
            found |= part()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
