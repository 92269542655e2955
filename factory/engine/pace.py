"""How fast a step goes and how long it may still take, from what it has done so far.

**Rates** are told over the last half minute, or as far back as it takes to hold a few reports of progress, so that a
backend that answers in bursts of a minute still shows a rate; and over the whole step.

**The time left** comes from *laps*: each report of progress closes one (so many units, so many seconds). Reports that
follow within a quarter of a second belong to the same lap; where there are more than 32 laps, neighbours are joined, so
laps grow with the run. The rate is units over seconds of the newer half of the laps (a run speeds up while it warms up,
and slows down when the questions get harder). How unsure it is follows from how far those laps lie from that rate (the
standard error of a ratio), and from how many laps are still to come, which will vary as much: the ± is about two such
errors, wider while laps are few, and would hold nineteen times of twenty if the future were like those laps. Nothing is
said before there are four laps, nor while the error is as large as the time itself. A silence longer than a usual lap
counts as one more lap, so the time left grows while nothing comes. What is not known is the end: the last answers of a
run come one by one, so the last percent takes longer than its share.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_SECONDS = 30.0
_LONGEST_WINDOW, _LEAST_REPORTS = 600.0, 4
_MARK_SECONDS, _MOST_MARKS = 1.0, 64
_LEAST_LAPS, _MOST_LAPS, _SAME_LAP = 4, 32, 0.25


class Rate:
    """A count that grows: units a second over the last half minute, and in all. Times are seconds of any clock."""

    def __init__(self, start: float):
        self.total, self._start = 0.0, start
        self._marks: deque[tuple[float, float]] = deque([(start, 0.0)])

    def add(self, now: float, units: float) -> None:
        """So many units more."""
        if not units:
            return
        self.total += units
        if now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, self.total))
            if len(self._marks) > _MOST_MARKS:
                self.lately(now)

    def lately(self, now: float) -> float:
        """Units a second over the window that ends now."""
        while len(self._marks) > 2:
            age = now - self._marks[1][0]
            if age < WINDOW_SECONDS or (age < _LONGEST_WINDOW and len(self._marks) <= _LEAST_REPORTS):
                break
            self._marks.popleft()
        since, before = self._marks[0]
        return (self.total - before) / max(now - since, 1e-6)

    def overall(self, now: float) -> float:
        """Units a second since the start."""
        return self.total / max(now - self._start, 1e-6)


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds that are left, and how far off that may be."""

    seconds: float
    spread: float


class Laps:
    """How long the rest will take. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._laps: list[tuple[float, float]] = []  # (units, seconds)
        self._last: float | None = None
        self._closed = float("-inf")  # when the first report of the newest lap came

    def start(self, now: float) -> None:
        """Time counts from here. Without this it counts from the first report, since what comes before (loading a
        model) says nothing of the pace."""
        self._last = now

    def add(self, now: float, units: float) -> None:
        """So many units were done since the last report."""
        if units <= 0:
            return
        if self._last is None:
            self._last = now
            return
        passed, self._last = now - self._last, now
        if now - self._closed < _SAME_LAP:
            before, seconds = self._laps[-1]
            self._laps[-1] = (before + units, seconds + passed)
            return
        self._laps.append((units, passed))
        self._closed = now
        if len(self._laps) > _MOST_LAPS:
            odd = [*self._laps[1::2], (0.0, 0.0)]
            self._laps = [(a + c, b + d) for (a, b), (c, d) in zip(self._laps[::2], odd, strict=False)]

    def left(self, now: float, units: float) -> Left | None:
        """The time for so many units more; None while there is too little to say."""
        if self._last is None or len(self._laps) < _LEAST_LAPS or units <= 0:
            return None
        recent = self._laps[-max(_LEAST_LAPS, len(self._laps) // 2):]
        silent = now - self._last
        if silent > sum(seconds for _, seconds in recent) / len(recent):
            recent = [*recent, (0.0, silent)]
        count, done, spent = len(recent), sum(one for one, _ in recent), sum(seconds for _, seconds in recent)
        if not spent:
            return None
        rate = done / spent
        scatter = sum((one - rate * seconds) ** 2 for one, seconds in recent) * count / (count - 1)
        to_come = max(units * count / done, 1.0)
        error = (scatter * (1 + count / to_come)) ** 0.5 / done
        spread = 2 * (1 + 2 / (count - 1)) * error
        return Left(units / rate, spread * units / rate) if spread < 1 else None
