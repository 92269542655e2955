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
HOPELESS = 200


class Ledger:
    """Counts answers, tokens and cost of one process that asks a model."""

    def __init__(self, emit: Callable[[Event], None], price: Price | None):
        self._emit, self._price = emit, price
        self._untold = {"answers": 0, "accepted": 0, "tokens_in": 0, "tokens_out": 0}
        self._cost = 0.0
        self.asked = self._failed = 0
        self._next = time.monotonic() + TELL_SECONDS

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of the price: its currency."""
        return {"currency": self._price.currency} if self._price is not None else {}

    def add(self, completion: Completion) -> None:
        """Take note of an answer that was asked for."""
        self.asked += 1
        self._failed += completion.error is not None
        told = self._untold
        told["answers"] += 1
        if completion.rejected is not None:  # it was never sent
            return
        told["tokens_in"] += completion.tokens_in
        told["tokens_out"] += completion.tokens_out
        told["accepted"] += completion.error is None
        self._cost += self._of(completion)

    def _of(self, one: Completion) -> float:
        return self._price.of(one.tokens_in, one.tokens_out, one.cached_in) if self._price is not None else 0.0

    @property
    def hopeless(self) -> bool:
        """Whether so many requests failed, and nothing else came, that asking on is waste."""
        return self.asked == self._failed >= HOPELESS

    def usage(self, answers: Sequence[Completion], *, asked: int, seconds: float) -> Usage:
        """What the answers of a shard took, whichever run asked for them; `asked` of them were asked for now."""
        sent = [one for one in answers if one.rejected is None]
        return Usage(tokens_in=sum(one.tokens_in for one in sent), tokens_out=sum(one.tokens_out for one in sent),
                     requested=asked, reused=len(answers) - asked, seconds=seconds, cost=sum(map(self._of, sent)))

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
