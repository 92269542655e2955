"""What the machinery costs without a model: the pico recipe at a few thousand problems, step by step.

    make bench NAME=engine                 # 4 000 problems, 4 samples each
    python benchmarks/engine.py 20000 4    # problems, samples

Prints seconds and rows/s of each step, the time of a second run (everything reused) and of raising n by one, and peak
memory of the driver and of the largest worker. Last line: one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import factory

RECIPE = Path(__file__).parents[1] / "recipes" / "pico.yaml"


def timed_run(root: Path, count: int, n: int) -> tuple[float, factory.api.RunReport]:  # type: ignore[name-defined]
    started = time.perf_counter()
    report = factory.run(RECIPE, warehouse=root, vars={"count": count, "n": n, "terms": 4},
                         overrides={"steps.published.params.to": str(root / "published")})
    if report.status != "succeeded":
        raise SystemExit(f"the run {report.status}: {report.errors}")
    return time.perf_counter() - started, report


def main(count: int = 4000, n: int = 4) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "warehouse"
        first, report = timed_run(root, count, n)
        print(f"{'step':<20}{'rows':>10}{'seconds':>10}{'rows/s':>12}")
        for step in report.steps:
            rate = step.counts.owed / step.seconds if step.seconds else 0
            print(f"{step.step:<20}{step.counts.owed:>10,}{step.seconds:>10.2f}{rate:>12,.0f}")
        again, _ = timed_run(root, count, n)
        grown, more = timed_run(root, count, n + 1)
        asked = next(step for step in more.steps if step.step == "samples").usage.requested
        disk = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    peak = {name: resource.getrusage(who).ru_maxrss // 1024
            for name, who in (("driver", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))}
    print(f"\nfirst run {first:.1f} s · again {again:.1f} s · one sample more {grown:.1f} s "
          f"· driver {peak['driver']} MB, worker {peak['worker']} MB · disk {disk / 1e6:.1f} MB")
    seconds = {step.step: step.seconds for step in report.steps}
    print(json.dumps({"samples": count * n, "first_s": round(first, 2), "again_s": round(again, 2),
                      "one_more_s": round(grown, 2), "one_more_requested": asked, "driver_peak_mb": peak["driver"],
                      "worker_peak_mb": peak["worker"], "disk_mb": round(disk / 1e6, 1), "seconds": seconds}))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
