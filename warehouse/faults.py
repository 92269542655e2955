"""Named moments at which a process may die, so that tests can kill one there.

`point(name)` does nothing unless somebody in this process called `arm`. Tests arm a child process from an environment
variable that only they read; the product reads none. The names are those of the commit protocol in docs/warehouse.md.
"""

from __future__ import annotations

from collections.abc import Callable

_armed: Callable[[str], None] | None = None


def arm(at: Callable[[str], None] | None) -> None:
    """Call `at(name)` at every point from now on; None disarms."""
    global _armed
    _armed = at


def point(name: str) -> None:
    """A moment that a test may watch."""
    if _armed is not None:
        _armed(name)
