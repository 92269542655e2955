"""What answers cost, and how the run is told of them while they come: now and then, not one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from factory.engine.task import Event
from factory.models.base import Completion
from factory.models.runtime import Price
from warehouse.records import Usage

TELL_SECONDS = 0.25


class Ledger:
    """Counts answers, tokens and cost of one process that asks a model."""

    def __init__(self, emit: Callable[[Event], None], price: Price | None):
        self._emit, self._price = emit, price
        self._untold = {"answers": 0, "accepted": 0, "tokens_in": 0, "tokens_out": 0}
        self._cost = 0.0
        self._next = time.monotonic() + TELL_SECONDS

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of the price: its currency."""
        return {"currency": self._price.currency} if self._price is not None else {}

    def add(self, completion: Completion) -> None:
        """Take note of an answer that was asked for."""
        told = self._untold
        told["answers"] += 1
        told["tokens_in"] += completion.tokens_in
        told["tokens_out"] += completion.tokens_out
        told["accepted"] += completion.error is None and completion.rejected is None
        self._cost += self._of(completion)

    def _of(self, one: Completion) -> float:
        return self._price.of(one.tokens_in, one.tokens_out, one.cached_in) if self._price is not None else 0.0

    def usage(self, asked: Sequence[Completion], taken_up: Sequence[Completion], *, reused: int,
              seconds: float) -> Usage:
        """What the answers of a shard cost: those asked for now, and those `taken_up` from a run that was cut off
        before it could account for them. What an earlier version holds costs nothing again."""
        paid = [*asked, *taken_up]
        return Usage(tokens_in=sum(one.tokens_in for one in paid), tokens_out=sum(one.tokens_out for one in paid),
                     requested=len(asked), reused=reused, seconds=seconds, cost=sum(map(self._of, paid)))

    def now_and_then(self, in_flight: int) -> None:
        """Tell, if it is time to."""
        if time.monotonic() >= self._next:
            self.tell(in_flight)

    def tell(self, in_flight: int = 0) -> None:
        """Tell what came since the last time, and how many answers are awaited."""
        self._emit({**self._untold, **self.facts, "cost": self._cost, "in_flight": in_flight, "source": os.getpid()})
        self._untold = dict.fromkeys(self._untold, 0)
        self._cost = 0.0
        self._next = time.monotonic() + TELL_SECONDS
