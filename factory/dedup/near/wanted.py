"""Which keys of earlier rows a new wave has too: one compiled scan over them, in the order in which they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
# A key's bit is named by its top 26 bits: the byte by the first 23, the place in it by the next three.
_BYTE, _BIT, _IN_BYTE = np.uint64(41), np.uint64(38), np.uint64(7)


@kernel
def _enter(wanted: Any, marks: Any) -> Any:
    """Set the bit of each key."""
    for at in range(len(wanted)):
        marks[wanted[at] >> _BYTE] |= np.uint8(1) << np.uint8((wanted[at] >> _BIT) & _IN_BYTE)


@kernel
def _meet(keys: Any, numbers: Any, wanted: Any, marks: Any, out_keys: Any, out_numbers: Any) -> int:
    """Write the entries whose key is wanted; how many."""
    count = 0
    for row in range(len(keys)):
        for band in range(keys.shape[1]):
            key = keys[row, band]
            if not (marks[key >> _BYTE] >> np.uint8((key >> _BIT) & _IN_BYTE)) & 1:
                continue
            at = np.searchsorted(wanted, key)
            if at < len(wanted) and wanted[at] == key:
                out_keys[count], out_numbers[count] = key, numbers[row]
                count += 1
    return count


def entries_among(pieces: Iterator[tuple[U64, U32]], wanted: U64) -> Iterator[tuple[U64, U32]]:
    """Of (band keys, rows) the entries whose key is one of the wanted (ascending)."""
    if not len(wanted):
        return
    marks = np.zeros(1 << 23, np.uint8)  # a bit for each value of a key's top 26: most are told apart by them alone
    _enter(wanted, marks)
    for keys, numbers in pieces:
        out_keys, out_numbers = np.empty(keys.size, np.uint64), np.empty(keys.size, np.uint32)
        count = _meet(keys, numbers, wanted, marks, out_keys, out_numbers)
        yield out_keys[:count], out_numbers[:count]
