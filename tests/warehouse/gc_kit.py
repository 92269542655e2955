"""What tests of gc share: time passes, and both phases run."""

from __future__ import annotations

import os
import time
from typing import Any

from warehouse import Warehouse
from warehouse.upkeep import gc
from warehouse.upkeep.gc import DAY, GcReport


def age(warehouse: Warehouse, *prefixes: str, seconds: float = 30 * DAY) -> None:
    """Let everything below these folders have been written long ago."""
    for prefix in prefixes or ("parts", "datasets", "checkpoints", "work", "runs", "gc"):
        for path in [warehouse.root / prefix, *(warehouse.root / prefix).rglob("*")]:
            if path.exists():
                os.utime(path, (time.time() - seconds,) * 2)


def both_phases(warehouse: Warehouse, **options: Any) -> GcReport:
    for _ in range(2):
        age(warehouse)
        report = gc.collect(warehouse, **options)
    return report
