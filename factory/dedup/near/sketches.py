"""Sketches of 32 bytes: two bits of each of 128 MinHash values, to dismiss pairs that only chance brought together.

b-bit minwise hashing (Li and König, "b-Bit Minwise Hashing", WWW 2010, with b = 2; here two bits of a multiplicative
hash of the value, whose own low bits are poor). Two sketches agree in a place with probability p = J + (1 - J) / 4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import inlined, kernel

PLACES, WORDS = 128, 4
_DEVIATIONS = 4.5
_SPREAD, _30 = np.uint32(0x9E3779B1), np.uint32(30)
_EVEN = np.uint64(0x5555555555555555)
_M2, _M4, _SUM = np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


@inlined
def differing(one: Any, two: Any) -> Any:
    """The number of places in which two sketches differ."""
    total = np.uint64(0)
    for word in range(WORDS):
        bits = one[word] ^ two[word]
        bits = (bits | (bits >> np.uint64(1))) & _EVEN
        bits = (bits & _M2) + ((bits >> np.uint64(2)) & _M2)
        bits = (bits & _M4) + ((bits >> np.uint64(4)) & _M4)
        total += (bits * _SUM) >> np.uint64(56)
    return np.int64(total)


@kernel
def sketch_kernel(signatures: Any, out: Any) -> None:
    """Fill `out` (rows x 4) from the first 128 values of each signature."""
    for row in range(len(signatures)):
        for word in range(WORDS):
            bits = np.uint64(0)
            for at in range(32):
                value = np.uint32(signatures[row, 32 * word + at] * _SPREAD) >> _30
                bits |= np.uint64(value) << np.uint64(2 * at)
            out[row, word] = bits


def sketch(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """The sketches (rows x 4) of signatures of at least 128 values."""
    if signatures.shape[1] < PLACES:
        raise ValueError(f"a sketch takes {PLACES} values of a signature, not {signatures.shape[1]}")
    out = np.empty((len(signatures), WORDS), np.uint64)
    sketch_kernel(signatures, out)
    return out


def most_differing(floor: float) -> int:
    """Places in which a pair at the floor differs at most, but for a chance of 4e-6 (4.5 standard deviations)."""
    chance = 0.75 * (1 - floor)
    return min(PLACES, math.ceil(PLACES * chance + _DEVIATIONS * math.sqrt(PLACES * chance * (1 - chance))))
