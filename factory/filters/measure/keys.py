"""Hashes of byte spans and sets of them, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined
from factory.text.words import mix

from .spans import at_byte

STEP = np.uint64(0x9E3779B97F4A7C15)
_SEED, _32 = np.uint64(0x243F6A8885A308D3), np.uint64(32)  # the first bits of pi's fraction


@inlined
def load4(data: Any, place: Any) -> Any:
    """Four bytes as one number, the first lowest; LLVM makes one load of it."""
    at = np.uint64(place)
    return (np.uint64(data[at]) | np.uint64(data[at + np.uint64(1)]) << np.uint64(8)
            | np.uint64(data[at + np.uint64(2)]) << np.uint64(16) | np.uint64(data[at + np.uint64(3)]) << np.uint64(24))


@inlined
def load8(data: Any, place: Any) -> Any:
    """Eight bytes as one number, the first lowest."""
    at = np.uint64(place)
    value = np.uint64(data[at])
    for byte in range(1, 8):
        value |= np.uint64(data[at + np.uint64(byte)]) << np.uint64(8 * byte)
    return value


@inlined
def hash_span(data: Any, at: int, stop: int) -> Any:
    """64-bit hash of the bytes data[at:stop], never 0: eight bytes w at a time, h = (h xor w) * STEP, h ^= h >> 32; the
    last bytes one by one. The length is in the beginning."""
    value = _SEED + np.uint64(stop - at)
    while at + 8 <= stop:
        value = (value ^ load8(data, at)) * STEP
        value ^= value >> _32
        at += 8
    while at < stop:
        value = (value ^ np.uint64(at_byte(data, at))) * STEP
        at += 1
    value = mix(value)
    return value if value != np.uint64(0) else np.uint64(1)


@inlined
def table_size(entries: int) -> Any:
    """Slots of a hash set for `entries`: a power of two, at most half full."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@inlined
def add_key(slots: Any, bits: Any, key: Any) -> Any:
    """Add a key (not 0) to the set `slots`, of `bits + 1` places (a power of two); whether it was there before."""
    place = key & bits
    while slots[place] != np.uint64(0):
        if slots[place] == key:
            return True
        place = (place + np.uint64(1)) & bits
    slots[place] = key
    return False
