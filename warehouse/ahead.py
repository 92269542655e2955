"""Reading ahead: several parts are read and decoded at once while the first is worked on.

polars and pyarrow let other threads run while they decode, and a small part uses one core. Results come in the order
asked for; no more than `DEPTH` are held, so memory is that of a few parts.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
DEPTH = min(4, CORES)


def read_ahead(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What each call returns, in order. Raises what a call raises, in its place; later calls may have been made."""
    rest = iter(calls)
    first = list(islice(rest, 2))
    if DEPTH < 2 or len(first) < 2:
        yield from (call() for call in (*first, *rest))
        return
    with ThreadPoolExecutor(DEPTH, "read-ahead") as threads:
        held: deque[Future[T]] = deque()
        try:
            for call in (*first, *islice(rest, DEPTH - 2)):
                held.append(threads.submit(call))
            while held:
                found = held.popleft().result()
                held.extend(threads.submit(call) for call in islice(rest, 1))
                yield found
        finally:
            for one in held:
                one.cancel()
