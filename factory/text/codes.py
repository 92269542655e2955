"""Code points and 64-bit mixing: the smallest compiled pieces, inlined into the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import inlined

_M1, _M2, _33 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
_REPLACED = 0xFFFD


@inlined
def mix(value: Any) -> Any:
    """MurmurHash3's finaliser: a bijection of 64-bit integers whose every bit depends on all."""
    value ^= value >> _33
    value *= _M1
    value ^= value >> _33
    value *= _M2
    return value ^ (value >> _33)


@inlined
def decode(data: Any, at: int, stop: int) -> tuple[Any, int]:
    """(code point, place after it) of the UTF-8 sequence at `at`, of two bytes or more. Reads no byte from `stop` on;
    a cut sequence is U+FFFD."""
    first = np.int64(data[at])
    if first < 0xE0:
        if at + 2 <= stop:
            return ((first & 0x1F) << 6) | (np.int64(data[at + 1]) & 0x3F), at + 2
    elif first < 0xF0:
        if at + 3 <= stop:
            return (((first & 0x0F) << 12) | ((np.int64(data[at + 1]) & 0x3F) << 6)
                    | (np.int64(data[at + 2]) & 0x3F)), at + 3
    elif at + 4 <= stop:
        code = (((first & 0x07) << 18) | ((np.int64(data[at + 1]) & 0x3F) << 12)
                | ((np.int64(data[at + 2]) & 0x3F) << 6) | (np.int64(data[at + 3]) & 0x3F))
        return min(code, 0x10FFFF), at + 4
    return _REPLACED, at + 1
