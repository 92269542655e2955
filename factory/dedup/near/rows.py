"""All measured rows at once, without what is large: 96 bytes a row, in the order in which rows are numbered.

Rows are numbered by (row_key, row_id), or by (wave, row_key, row_id), so that a number depends on content and never on
where a row is stored. A row that was measured in two datasets counts once, in the earlier wave.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.dedup.near.measures import U64, words_of
from factory.dedup.near.sketches import WORDS
from factory.engine.gathered import Gathered, GatheredPart
from warehouse.ahead import read_ahead

I64 = npt.NDArray[np.int64]
_COLUMNS = ("row_id", "row_key", "scope", "set_hash", "size", "sketch")


class Rows(NamedTuple):
    """By number: `ids`, `keys` (x 2, big-endian halves of row_key), `scopes`, `set_hash` (x 2), `sizes`, `sketches`
    (x 4), `waves`, and `settled`: whether the row lies in a settled part. `places` has the number of each row of each
    part in stored order (-1: counted elsewhere, or without text). `silent` are rows without text, by (ids, keys)."""

    ids: I64
    keys: U64
    scopes: U64
    set_hash: U64
    sizes: npt.NDArray[np.uint32]
    sketches: U64
    waves: npt.NDArray[np.int32]
    settled: npt.NDArray[np.bool_]
    places: list[I64]
    silent: tuple[I64, U64]

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.ids)

    def hex_key(self, number: int) -> str:
        """The row_key of a row as hexadecimal digits."""
        return f"{int(self.keys[number, 0]):016x}{int(self.keys[number, 1]):016x}"


def load_rows(gathered: Gathered, by_wave: bool) -> Rows:
    """Read the narrow columns of all partials."""
    parts = list(read_ahead(partial(_arrays, part) for part in gathered.parts))
    counts, columns = [len(part[0]) for part in parts], []
    for at, empty in enumerate(_arrays(None)):
        columns.append(np.concatenate([empty, *(part[at] for part in parts)]))
        for part in parts:
            part[at] = None  # a column's pieces go as soon as it is whole
    ids, keys, sizes, waves = columns[0], columns[1], columns[4], columns[6]
    order = order_of(keys[:, 0], keys[:, 1], ids)
    if by_wave:
        order = order[np.argsort(waves[order], kind="stable")]
        if (waves < 0).any():
            order = order[_first_of_each(ids[order])]
    mute = (sizes == 0) & (waves >= 0)
    silent = ids[mute], keys[mute]
    order = order[sizes[order] > 0]
    number = np.full(len(ids), -1, np.int64)
    number[order] = np.arange(len(order))
    del ids, keys, sizes, waves
    for at in range(len(columns)):
        columns[at] = columns[at][order]
    places = np.split(number, np.cumsum(counts)[:-1]) if counts else []
    return Rows._make([*columns, places, silent])


def order_of(first: npt.NDArray[Any], *others: npt.NDArray[Any]) -> I64:
    """Where the rows lie in the order of these columns, the first the weightiest, and of their place. The first should
    hold hashes, of which few are the same: numpy orders one column several times faster than three."""
    order: I64 = np.argsort(first)
    same = first[order[1:]] == first[order[:-1]]
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    if tied.any():
        some = order[tied]
        order[tied] = some[np.lexsort((some, *(column[some] for column in reversed(others)), first[some]))]
    return order


def _arrays(part: GatheredPart | None) -> list[Any]:
    """The narrow columns of a part, or of none, as arrays."""
    if part is None:
        return [np.zeros(0, np.int64), np.zeros((0, 2), np.uint64), np.zeros(0, np.uint64), np.zeros((0, 2), np.uint64),
                np.zeros(0, np.uint32), np.zeros((0, WORDS), np.uint64), np.zeros(0, np.int32), np.zeros(0, np.bool_)]
    frame = part.read(_COLUMNS)
    return [frame["row_id"].to_numpy(), words_of(frame["row_key"], 2, ">"), frame["scope"].to_numpy(),
            words_of(frame["set_hash"], 2), frame["size"].to_numpy(), words_of(frame["sketch"], WORDS),
            np.full(frame.height, part.wave, np.int32), np.full(frame.height, part.settled, np.bool_)]


def _first_of_each(ids: I64) -> I64:
    """Where each id occurs first, ascending."""
    by_id = np.argsort(ids, kind="stable")
    first = np.ones(len(ids), np.bool_)
    first[1:] = ids[by_id[1:]] != ids[by_id[:-1]]
    return np.sort(by_id[first])


def band_keys_of(gathered: Gathered, rows: Rows, wanted: npt.NDArray[np.bool_],
                 bands: int) -> Iterator[tuple[U64, npt.NDArray[np.uint32]]]:
    """(band keys, numbers) of the wanted rows, a part at a time; parts without any are not read."""
    asked = [(part, places, np.flatnonzero((places >= 0) & wanted[places]))
             for part, places in zip(gathered.parts, rows.places, strict=True)]
    asked = [one for one in asked if len(one[2])]
    frames = read_ahead(partial(part.read, ["keys"]) for part, _, _ in asked)
    for frame, (_, places, inside) in zip(frames, asked, strict=True):
        keys = frame["keys"] if len(inside) == len(places) else frame["keys"].gather(pl.Series(inside))
        yield words_of(keys, bands), places[inside].astype(np.uint32)
