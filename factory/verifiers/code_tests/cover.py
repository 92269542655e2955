"""Which tests to keep: a small set that still catches every wrong program that the whole set catches.

Finding the smallest such set is hard (set cover). Taking at each turn the test that catches most of what is not caught
yet comes within a factor of ln(n) + 1 of it. Ties go to the cheaper test and then to the earlier one, so the same tests
always give the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def choose_cover(catches: Sequence[AbstractSet[int]], costs: Sequence[int], *, at_least: int = 0,
                 at_most: int | None = None) -> list[int]:
    """Indices of the tests to keep, in ascending order.

    Args:
        catches: for each test the wrong programs that it catches.
        costs: for each test what it costs to run it (its size, say).
        at_least: keep as many as this where there are as many: those that catch most are added.
        at_most: keep no more than this, although some programs may then go uncaught (None: no bound).
    """
    most = len(catches) if at_most is None else min(at_most, len(catches))
    chosen: list[int] = []
    left = set().union(*catches) if catches else set()
    rest = set(range(len(catches)))
    while left and len(chosen) < most:
        best = min(rest, key=lambda test: (-len(catches[test] & left), costs[test], test))
        chosen.append(best)
        rest.discard(best)
        left -= catches[best]
    more = sorted(rest, key=lambda test: (-len(catches[test]), costs[test], test))
    return sorted(chosen + more[:max(0, min(at_least, most) - len(chosen))])
