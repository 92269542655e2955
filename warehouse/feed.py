"""The feed: what was announced, one small numbered file each, so that news is found without listing everything.

Whoever is about to create a manifest, a checkpoint record, a tombstone or the record of a run first creates the next
free `feed/<n>.json`, which names the key. Numbers are contiguous, because each is claimed put-if-absent: a reader that
knows entry n asks for n + 1 until there is none. An entry is an intention; its writer may have died or lost the race
for the key. A reader keeps such an entry in mind and looks again. Numbers order versions: no clock does.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from warehouse import layout
from warehouse.errors import NotInWarehouse
from warehouse.objectstore import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """Announcement `position` of `key`; `undone` says that it was taken away again (a deletion, restored)."""

    position: int
    key: str
    undone: bool = False


class Feed:
    """The feed of one warehouse. `last` is the highest position this process knows to be taken."""

    def __init__(self, store: Store):
        self.store = store
        self.last = 0

    def announce(self, key: str, *, undone: bool = False) -> int:
        """Say that `key` is about to be created (or was just taken away); returns the position."""
        entry = json.dumps({"key": key, "undone": undone, "by": uuid.uuid4().hex}).encode()
        position = self.end() + 1
        while not self.store.put_if_absent(layout.feed(position), entry):
            position += 1
        self.last = position
        return position

    def end(self) -> int:
        """The last position that is taken; found by doubling steps, since positions have no gaps."""
        store, step = self.store, 1
        if not store.exists(layout.feed(self.last + 1)):
            return self.last
        low = self.last + 1
        while store.exists(layout.feed(low + step)):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if store.exists(layout.feed(middle)) else (low, middle)
        self.last = low
        return low

    def since(self, position: int) -> Iterator[Entry]:
        """The entries after `position`, in order."""
        for number in range(position + 1, self.end() + 1):
            try:
                found = json.loads(self.store.get(layout.feed(number)))
                yield Entry(number, str(found["key"]), bool(found.get("undone", False)))
            except (NotInWarehouse, ValueError, KeyError, TypeError):
                continue  # lost or damaged by hand: fsck names it, and a first reading lists what it announced
