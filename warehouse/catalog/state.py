"""What the catalog knows and how far it has read: `catalog/state.json`, small whatever the warehouse holds.

It names the segments of every table and how much of the feed they cover. It is replaced whole; the segments it names
never change, so a reader that holds an older state goes on undisturbed.
"""

from __future__ import annotations

from pydantic import Field, ValidationError

from warehouse import layout
from warehouse.catalog.segments import Segment
from warehouse.errors import NotInWarehouse
from warehouse.objectstore import Store
from warehouse.records import Record

KEY = f"{layout.CATALOG}/state.json"
LOCK = f"{layout.CATALOG}/lock"
TABLES = 14
"""Raised when a table of the catalog or a view over it changes: an older catalog is then made again."""


class Gone(Exception):
    """A file of the catalog is not there any more, or cannot be read."""


class State(Record):
    """How far the catalog has read.

    `position` is the last feed entry that was seen; `pending` are seen entries (position, key, undone) that have not
    come true (yet): their writer is still at it, or died, or lost. `namespaces` is the highest row-id namespace. Parts
    are numbered as they come: those below `compacted` stand in the compacted tables, but for those that could not be
    read (`unread`). `views` is the digest of what the views were made from.
    """

    tables: int = TABLES
    position: int = 0
    pending: list[tuple[int, str, bool]] = Field(default_factory=list)
    namespaces: int = 0
    open_runs: list[str] = Field(default_factory=list)
    next_part: int = 0
    compacted: int = 0
    unread: list[int] = Field(default_factory=list)
    segments: dict[str, list[Segment]] = Field(default_factory=dict)
    views: str = ""

    def all_segments(self) -> list[Segment]:
        """The segments of all tables."""
        return [segment for listed in self.segments.values() for segment in listed]


def load(store: Store) -> State | None:
    """The stored state; None when there is none that this version can use."""
    try:
        state = State.model_validate_json(store.get(KEY))
    except (ValidationError, NotInWarehouse):
        return None
    return state if state.tables == TABLES and _whole(store, state) else None


def _whole(store: Store, state: State) -> bool:
    """Whether all segments are there. On a disk a power cut may also leave one shorter than it was."""
    if store.storage_options is None:
        return all(store.size(segment.file) == segment.bytes for segment in state.all_segments())
    present = set(store.keys(layout.CATALOG))
    return all(segment.file in present for segment in state.all_segments())
