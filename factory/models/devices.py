"""Which of a machine's devices an engine may use, where several engines share the machine (`data_parallel`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def own_devices(engine: int | None, each: int) -> Iterator[None]:
    """Show this process `each` devices: those of engine number `engine`, of the ones that are visible. It must come
    before CUDA is first used. None: all of them."""
    if engine is None:
        yield
        return
    before = os.environ.get(_VISIBLE)
    own = range(engine * each, (engine + 1) * each)
    visible = before.split(",") if before else None
    os.environ[_VISIBLE] = ",".join(str(at) if visible is None else visible[at % len(visible)] for at in own)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before
