"""Sorting more (key, row) entries than memory holds: spill them by key range, then sort one range at a time.

Keys are hashes, so their top eight bits cut them into 256 ranges of nearly the same size. The buffer is cut into the
ranges by one counting pass and appended to the files; a sorted range is never larger than 1/256 of all entries, plus
what one much repeated key brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
RANGES, _FEW = 256, 1 << 16
_SHIFT, _PLACE = np.uint64(56), np.uint64((1 << 24) - 1)


@kernel
def cut_ranges(keys: Any, rows: Any, bounds: Any, out_keys: Any, out_rows: Any) -> None:
    """Copy entries into `out_keys` and `out_rows` by range, the order within a range kept; fill `bounds` (257)."""
    bounds[:] = 0
    for at in range(len(keys)):
        bounds[(keys[at] >> _SHIFT) + np.uint64(1)] += 1
    for at in range(RANGES):
        bounds[at + 1] += bounds[at]
    goals = bounds[:RANGES].copy()
    for at in range(len(keys)):
        part = keys[at] >> _SHIFT
        goal = goals[part]
        out_keys[goal], out_rows[goal] = keys[at], rows[at]
        goals[part] = goal + 1


@kernel
def _settle(packed: Any, keys: Any, rows: Any, out_keys: Any, out_rows: Any) -> None:
    """Entries in the order of `packed`, and by their whole keys where the packed bits are the same."""
    for at in range(len(packed)):
        place = packed[at] & _PLACE
        key, row, goal = keys[place], rows[place], at
        while goal > 0 and out_keys[goal - 1] > key:
            out_keys[goal], out_rows[goal] = out_keys[goal - 1], out_rows[goal - 1]
            goal -= 1
        out_keys[goal], out_rows[goal] = key, row


def sort_entries(keys: U64, rows: U32) -> tuple[U64, U32]:
    """Entries of one range by key, equal keys in the order given. Sorts 40 bits of the key with the entry's place in
    the other 24 as one integer, since numpy sorts integers with vector instructions some eight times faster than it
    finds the order of a stable sort."""
    if len(keys) > _PLACE:
        order = np.argsort(keys, kind="stable")
        return keys[order], rows[order]
    packed = ((keys << np.uint64(8)) & ~_PLACE) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    out_keys, out_rows = np.empty_like(keys), np.empty_like(rows)
    _settle(packed, keys, rows, out_keys, out_rows)
    return out_keys, out_rows


class Spill:
    """Entries on disk in `folder`; memory is some 24 bytes for each of `buffer` entries. A context manager that deletes
    its files at the end."""

    def __init__(self, folder: Path, buffer: int = 4_000_000) -> None:
        """`folder` is made; `buffer`: entries held before they are written."""
        folder.mkdir(parents=True, exist_ok=True)
        self._keys_path, self._rows_path = folder / "spill.keys", folder / "spill.rows"
        self._keys, self._rows = np.empty(buffer, np.uint64), np.empty(buffer, np.uint32)
        self._held = 0
        self._bounds: list[npt.NDArray[np.int64]] = []
        self._keys_path.write_bytes(b"")
        self._rows_path.write_bytes(b"")

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._keys_path.unlink(missing_ok=True)
        self._rows_path.unlink(missing_ok=True)

    @property
    def entries(self) -> int:
        """Entries added so far."""
        return sum(int(one[-1]) for one in self._bounds) + self._held

    def add(self, keys: U64, rows: U32) -> None:
        """Add `rows` (one uint32 each) under all their `keys` (rows x bands)."""
        self.add_entries(keys.reshape(-1), np.repeat(rows.astype(np.uint32, copy=False), keys.shape[1]))

    def add_entries(self, flat: U64, repeated: U32) -> None:
        """Add (key, row) entries."""
        at = 0
        while at < len(flat):
            take = min(len(flat) - at, len(self._keys) - self._held)
            self._keys[self._held:self._held + take] = flat[at:at + take]
            self._rows[self._held:self._held + take] = repeated[at:at + take]
            self._held += take
            at += take
            if self._held == len(self._keys):
                self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        keys, rows = np.empty(self._held, np.uint64), np.empty(self._held, np.uint32)
        bounds = np.empty(RANGES + 1, np.int64)
        cut_ranges(self._keys[:self._held], self._rows[:self._held], bounds, keys, rows)
        with self._keys_path.open("ab") as stream:
            keys.tofile(stream)
        with self._rows_path.open("ab") as stream:
            rows.tofile(stream)
        self._bounds.append(bounds)
        self._held = 0

    def ranges(self) -> Iterator[tuple[U64, U32]]:
        """The entries of one range after another, each sorted by key; equal keys in the order they were added."""
        if not self._bounds and self._held <= _FEW:
            order = np.argsort(self._keys[:self._held], kind="stable")
            yield self._keys[order], self._rows[order]
            return
        self._flush()
        self._keys, self._rows = self._keys[:0], self._rows[:0]
        bases = np.concatenate([[0], np.cumsum([one[-1] for one in self._bounds])]).astype(np.int64)
        for part in range(RANGES):
            spans = [(base + one[part], int(one[part + 1] - one[part]))
                     for base, one in zip(bases[:-1].tolist(), self._bounds, strict=True)]
            keys = np.concatenate([np.zeros(0, np.uint64), *(_read(self._keys_path, np.uint64, *one) for one in spans)])
            rows = np.concatenate([np.zeros(0, np.uint32), *(_read(self._rows_path, np.uint32, *one) for one in spans)])
            yield sort_entries(keys, rows)


def _read(path: Path, dtype: Any, at: int, count: int) -> npt.NDArray[Any]:
    return np.fromfile(path, dtype, count, offset=int(at) * np.dtype(dtype).itemsize)
