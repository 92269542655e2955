"""A run of 2 000 samples whose driver is killed (SIGKILL to its process group) 20 times.

    make bench NAME=resume
    python benchmarks/resume.py 5 300      # kills, samples

The server's answers are a function of the request. A sample is finished when its answer is whole in the journal;
`repeated` counts finished samples that were asked for again, `lost` samples that are missing at the end, `same_rows`
says whether rows and content hash are those of an uninterrupted run. What was in flight at a kill is asked again, and
is in the table. Last line: one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "crash"))

from endpoint_kills import KillRun


def main(kills: int = 20, samples: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = KillRun(Path(folder), kills, samples)
        found = run.run()
    table = Table("kill", *run.table[0], title=f"{kills} kills in one run of {samples:,} samples")
    for number, row in enumerate(run.table, 1):
        moment = row["moment"]
        when = f"{moment:.2f} s" if isinstance(moment, float) else f"{moment} answers"
        table.add_row(str(number), when, *(str(value) for name, value in row.items() if name != "moment"))
    Console(width=120).print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
