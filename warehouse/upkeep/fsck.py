"""Is the warehouse what it says it is? Reads the truth (records and parts), never the catalog, and names all damage.

Three passes, each of which goes on after damage: records (every JSON file: can it be read, does it say what its name
says, does what it refers to exist), parts (size, sha256, Parquet, row count, id bounds, order) and rows (ids once,
every edge, refusal and choice about a row that is there, the content hash made again). Nothing is held in memory but
records and, of one version at a time, ids.

Damage is what loses or falsifies something that was committed. What only takes room, or was left by a process that
died, is a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from warehouse.records import Record

if TYPE_CHECKING:
    from warehouse.store import Warehouse

Progress = Callable[[str, int, int], None]
"""Called with (what is being checked, how many are done, how many there are)."""


class Damage(Record):
    """One thing that is not as it should be. `kind` is record, input, tag, tombstone, feed, checkpoint, marker,
    catalog, part, counts, rows, edge, refusal, choice or content; `what` names the version or thing, `where` the
    file."""

    kind: str
    what: str
    where: str
    expected: str
    found: str
    next_act: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what} ({self.where}): expected {self.expected}, found {self.found}. {self.next_act}"


class Note(Record):
    """Something worth knowing that is no damage."""

    kind: str
    what: str
    next_act: str = ""


class FsckReport(Record):
    """What was found. `checked` counts by kind; `repaired` names what `repair` mended."""

    damage: list[Damage]
    notes: list[Note]
    checked: dict[str, int]
    repaired: list[str]

    @property
    def clean(self) -> bool:
        return not self.damage


@dataclass
class Findings:
    """Collects what the passes find."""

    damage: list[Damage] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    repaired: list[str] = field(default_factory=list)
    progress: Progress | None = None

    def hurt(self, kind: str, what: str, where: str, *, expected: object, found: object, next_act: str) -> None:
        self.damage.append(Damage(kind=kind, what=what, where=where, expected=str(expected), found=str(found),
                                  next_act=next_act))

    def note(self, kind: str, what: str, next_act: str = "") -> None:
        self.notes.append(Note(kind=kind, what=what, next_act=next_act))

    def step(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def check(warehouse: Warehouse, *, quick: bool = False, repair: bool = False,
          progress: Progress | None = None) -> FsckReport:
    """Check a warehouse. Damage never raises.

    Args:
        warehouse: an open warehouse.
        quick: read records and the ends of parts, but hash no bytes and look at no row.
        repair: mend what can be mended from what is there: announce what nobody announced, drop markers of work whose
            parts are gone (their shards are done again), drop a catalog that cannot be read.
        progress: told how far it is.
    """
    from warehouse.upkeep.fsck_parts import check_parts
    from warehouse.upkeep.fsck_records import check_records
    from warehouse.upkeep.fsck_rows import check_rows

    findings = Findings(progress=progress)
    inventory = check_records(warehouse.store, findings, repair=repair)
    good = check_parts(warehouse.store, inventory, findings, quick=quick)
    if not quick:
        check_rows(warehouse.store, inventory, good, findings)
    return FsckReport(damage=findings.damage, notes=findings.notes, checked=dict(findings.checked),
                      repaired=findings.repaired)
