"""How far the running step is: tokens/s, requests in flight, answers/s, rows/s that were kept, what the answers cost,
the time that is left and how unsure it is (see `pace`).

Workers tell it in events. `{"answers", "tokens_in", "tokens_out", "cost", "currency", "accepted", "in_flight",
"source"}` are answers that came since the last one of that source, and the requests it is waiting for; `{"shard",
"counts", "reused"}` is a finished shard, `{"rows"}` are rows that were judged; `{"total", "done", "unit", "said"}` is a
step in one piece that speaks for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from factory.engine.pace import WINDOW_SECONDS, Laps, Rate
from factory.engine.told import about, money, roughly, span

if TYPE_CHECKING:
    from factory.engine.progress import Size

_LEAST_ANSWERS = 8
"""Fewer answers than this say nothing of what the others will cost."""


class Meter:
    """Counts of the running step, and what follows from them. A step in one piece tells itself how far it is.

    `clock` gives seconds; it is asked for every event, and when something is to be shown.
    """

    def __init__(self, step: str, size: Size, clock: Callable[[], float] = time.monotonic):
        self.step, self.size, self._clock = step, size, clock
        self.started = clock()
        self.reused = self.shards = self.rows = 0
        self.said = ""
        self.cost, self.currency = 0.0, ""
        self.tokens, self.answers, self.kept = Rate(self.started), Rate(self.started), Rate(self.started)
        self._laps = Laps()
        if size.unit == "shards":
            self._laps.start(self.started)
        self._told: int | None = None
        self._tells_kept = False
        self._flying: dict[Any, int] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Take note of answers, of a finished shard, or of what a step says of itself."""
        now, before = self._clock(), self._worked
        if "total" in event:
            if self._told is None:  # loading a model takes long and says nothing of the steps
                self._laps, before = Laps(), event["done"]
                self._laps.start(now)
            self._told, self.said = event["done"], event["said"]
            self.size = replace(self.size, units=event["total"], unit=event["unit"])
        self._add_answers(event, now)
        self.rows += event.get("rows", 0)
        if "counts" in event:
            self.shards += 1
            if not self._tells_kept:
                self.kept.add(now, max(event["counts"]["kept"] - event.get("reused", 0), 0))
        self._laps.add(now, self._worked - before)

    def _add_answers(self, event: dict[str, Any], now: float) -> None:
        self.reused += event.get("reused", 0)
        self.tokens.add(now, event.get("tokens_out", 0))
        self.answers.add(now, event.get("answers", 0))
        self.cost += event.get("cost", 0.0)
        self.currency = event.get("currency") or self.currency
        if "accepted" in event:
            self._tells_kept = True
            self.kept.add(now, event["accepted"])
        if "in_flight" in event:
            self._flying[event.get("source")] = event["in_flight"]

    @property
    def _worked(self) -> int:
        """Units done in this run, without what was there."""
        if self._told is not None:
            return self._told
        return {"answers": int(self.answers.total), "rows": self.rows}.get(self.size.unit, self.shards)

    @property
    def done(self) -> int:
        """Units done, with what was there."""
        there = self.reused if self.size.unit == "answers" and self._told is None else 0
        return min(self._worked + there, self.size.units)

    @property
    def place(self) -> str:
        """How far it is; nothing of a step in one piece that has not said yet."""
        if (self.size.units, self.size.unit) == (1, "shards"):
            return ""
        return f"{self.done:,}/{self.size.units:,} {self.size.unit}"

    def rates(self) -> list[str]:
        """What was measured, in parts that belong together: time, tokens, requests in flight, answers, ETA, spend."""
        now = self._clock()
        parts = [span(now - self.started)]
        if self._told is not None:
            parts.append(self.said)
        elif self.size.unit in ("answers", "rows"):
            parts.append(f"shard {min(self.shards, self.size.shards)}/{self.size.shards}")
        if self.tokens.total:
            long = now - self.started >= 2 * WINDOW_SECONDS
            parts.append(f"{self.tokens.lately(now):,.0f} tok/s"
                         + (f" ({self.tokens.overall(now):,.0f} overall)" if long else ""))
        flying = sum(self._flying.values())
        if flying:
            parts.append(f"{flying:,} in flight")
        made = [f"{_rate(rate.lately(now))} {word}" for rate, word in
                ((self.answers, "answers/s"), (self.kept, "rows/s")) if rate.total]
        return [part for part in (*parts, *made, self._eta(now), self._spend()) if part]

    def _eta(self, now: float) -> str:
        left = self._laps.left(now, self.size.units - self.done)
        return f"ETA {about(left.seconds, left.spread)}" if left is not None else ""

    def _spend(self) -> str:
        """What the answers cost, and what they will have cost at the end if the others are like them."""
        if not self.cost:
            return ""
        spent, worked, left = money(self.cost, self.currency), self._worked, self.size.units - self.done
        if self.answers.total < _LEAST_ANSWERS or not left or not worked:
            return spent
        return f"{spent}, ≈{roughly(self.cost * (1 + left / worked), self.currency)} at the end"


def folded(parts: Sequence[str], width: int, lines: int = 2) -> list[str]:
    """Parts joined by dots in so many lines of at most `width` characters; what finds no room is left out."""
    found = [""]
    for part in parts:
        longer = f"{found[-1]} · {part}" if found[-1] else part
        if len(longer) <= width:
            found[-1] = longer
        elif len(found) < lines:
            found.append(part)
    return [line[:width] for line in found]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
