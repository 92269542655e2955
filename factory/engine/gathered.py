"""What a GLOBAL op may ask when it puts its partials together, so that rows beyond memory and versions that grow are
within its reach: the partials one by one, rows again by their ids, an empty folder, and what was found before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

Read = Callable[[Sequence[str] | None], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class GatheredPart:
    """One input part's partial. `wave` is the place of the increment that wrote its rows, from 0; rows of `against` are
    wave -1. `settled`: the part was there when `Gathered.base` was made. `read(columns)` reads the frame. `sources` are
    the datasets (`name@version`) that hold these very rows: they are measured once."""

    wave: int
    settled: bool
    read: Read
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """What `gather(gathered, params, ctx)` gets.

    `parts` are the partials in stored order. `rows(ids)` gives `row_id` and the op's columns of some input rows (read
    from the warehouse: ask for thousands at a time, in ascending order). `scratch` is an empty folder that vanishes
    afterwards, `memory` (MB) what the op may hold beside what it keeps of each row. `base` holds the tables that this
    op made of the settled parts alone, None where there is nothing to build on; the result must be the one that all
    parts together would give without it.
    """

    parts: tuple[GatheredPart, ...]
    rows: Callable[[pl.Series], pl.DataFrame]
    scratch: Path
    base: Mapping[str, Callable[[], pl.DataFrame]] | None = None
    memory: int = 512

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The partials, one in memory at a time."""
        return (part.read(columns) for part in self.parts)
