"""A driver as its own process, so that a test can kill it: runs one recipe and prints how it ended as JSON."""

from __future__ import annotations

import argparse
import json
import sys

import factory


def main() -> int:
    """Run the recipe of the command line; the exit status is that of the run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("warehouse")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--vars", type=json.loads, default={})
    asked = parser.parse_args()
    report = factory.run(asked.recipe, warehouse=asked.warehouse, executor=asked.executor, workers=asked.workers,
                         vars=asked.vars)
    steps = {step.step: {"status": step.status, "reused": step.reused, "requested": step.usage.requested}
             for step in report.steps}
    print(json.dumps({"status": report.status, "steps": steps, "errors": [str(error) for error in report.errors],
                      "tracebacks": report.tracebacks}))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
