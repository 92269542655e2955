"""Eight bytes at once: what the scan of ASCII text rests on (little-endian, as all machines that numba supports)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from factory.text.jit import inlined

SMALL, HIGH, ALL = np.uint64(0x2020202020202020), np.uint64(0x8080808080808080), np.uint64(0xFFFFFFFFFFFFFFFF)
"""In every byte: the bit that a small ASCII letter has and its capital has not; the highest bit."""
_FROM_A, _PAST_Z = np.uint64(0x1F1F1F1F1F1F1F1F), np.uint64(0x0505050505050505)


@intrinsic  # type: ignore[untyped-decorator]
def load_block(_: Any, data: Any, at: Any) -> Any:
    """The bytes data[at:at + 8] as a number, the first one lowest; all eight must be there."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        place = builder.bitcast(builder.gep(array.data, [values[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(data, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_: Any, value: Any) -> Any:
    """How many of the lowest bits are 0; 64 of the number 0."""

    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), emit


@inlined
def count_letters(block: Any) -> Any:
    """How many ASCII letters a block begins with, 0 to 8."""
    folded = (block | SMALL) & ~HIGH
    others = (~(folded + _FROM_A) | (folded + _PAST_Z) | block) & HIGH
    return np.int64(_trailing_zeros(others) >> np.uint64(3))


_WIDTH = np.uint64(64)


@inlined
def find_byte(data: Any, at: Any, end: Any, byte: Any) -> Any:
    """The first place of `byte` in data[at:end], or `end`."""
    place, stop = np.uint64(at), np.uint64(end)
    while place + _WIDTH <= stop:
        seen = np.uint8(0)
        for k in range(_WIDTH):  # without a way out, so that it runs on vectors
            seen |= np.uint8(data[place + k] == byte)
        if seen:
            break
        place += _WIDTH
    while place < stop and data[place] != byte:
        place += np.uint64(1)
    return np.int64(place)
