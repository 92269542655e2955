"""dedup.decontaminate: rows that hold text of a benchmark, found by word n-grams and by whole prompts.

The op stands in `op`; it reads `items` (the benchmarks as one table), `judge` (a batch against them) and `report` (what
was found, benchmark by benchmark). `judge` and what it imports are compiled, and are imported when an op runs.
"""

from factory.dedup.decontaminate.op import Decontaminate, DecontaminateParams
from factory.dedup.decontaminate.report import ContaminationParams, report_contamination

__all__ = ["ContaminationParams", "Decontaminate", "DecontaminateParams", "report_contamination"]
