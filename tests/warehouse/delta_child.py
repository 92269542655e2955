"""Exports versions to one Delta table in a process of its own; dies at the moment named in the environment.

    python delta_child.py <warehouse> <table> <ref>…
"""

from __future__ import annotations

import os
import signal
import sys

from warehouse import Warehouse, faults
from warehouse.export.delta import export

if __name__ == "__main__":
    moment, _, after = os.environ.get("FACTORY_TEST_DIE", "").partition(":")
    left = int(after or 0)

    def die(name: str) -> None:
        global left
        if name == moment:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faults.arm(die)
    for ref in sys.argv[3:]:
        done = export(Warehouse(sys.argv[1]).dataset(ref), sys.argv[2])
        print(done.delta_version, int(done.added), flush=True)
