"""Looking after servers: at opening, when one has gone away, and while they write.

At opening every base URL is asked what it serves; one that answers is enough to begin, the others join when they do.
A server that went away is asked every second or two until it is back. A managed one is started again once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread

from factory.engine.errors import ModelError
from factory.models.openai.endpoint import Endpoint
from factory.models.openai.faults import Fault
from factory.models.openai.listing import look, written
from factory.models.openai.pool import Pool

_LOOK_EVERY = 1.0
_TICK = 0.5
_COUNT_EVERY = 10.0


class Care:
    """Keeps a pool's servers. `revive` (managed servers) starts the server again; it may take minutes."""

    def __init__(self, name: str, silence: float, revive: Callable[[], None] | None):
        self._name, self._silence, self._revive = name, silence, revive
        self._kinds: dict[Endpoint, bool] = {}
        self._mute: set[Endpoint] = set()
        self.pool: Pool | None = None

    async def open(self, pool: Pool, patience: float) -> None:
        """Ask every server; returns when one answers.

        Raises:
            ModelError: none answered in `patience` seconds; a server does not serve the model or refuses the key.
        """
        self.pool = pool
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while True:
            tried = await asyncio.gather(*map(self._look, pool.endpoints), return_exceptions=True)
            wrong = [error for error in tried if isinstance(error, BaseException) and not isinstance(error, Fault)]
            if wrong:
                raise wrong[0]
            if any(one.up for one in pool.endpoints):
                break
            if loop.time() >= until:
                told = "; ".join(f"{one.label}: {one.reason}" for one in pool.endpoints)
                raise ModelError(f"model {self._name}: no server answered within {patience:g} s ({told}). Start it, or "
                                 "correct `runtime.model.endpoint`")
            await asyncio.sleep(min(_LOOK_EVERY, patience))
        for one in pool.endpoints:
            if not one.up:
                self.lost(one)
        pool.spawn(self._watch(pool))

    def lost(self, endpoint: Endpoint) -> None:
        """Look for an endpoint until it is back."""
        assert self.pool is not None
        self.pool.spawn(self._mend(self.pool, endpoint))

    async def _look(self, endpoint: Endpoint) -> None:
        assert self.pool is not None
        pool = self.pool
        try:
            listing = await look(pool.exchange, endpoint, self._name)
        except Fault as fault:
            endpoint.lost(pool.exchange.clean(fault.text))
            raise
        self._kinds[endpoint] = listing.vllm
        if (vllm := all(self._kinds.values())) != pool.dialect.vllm:
            pool.dialect = replace(pool.dialect, vllm=vllm)
        endpoint.found()

    async def _mend(self, pool: Pool, endpoint: Endpoint) -> None:
        while not endpoint.up:
            try:
                await self._look(endpoint)
            except Fault:
                if self._revive is not None:
                    await self._restart(pool, self._revive)
                await asyncio.sleep(_LOOK_EVERY * random.uniform(1, 2))
        self._mute.discard(endpoint)
        pool.dispatch()

    async def _restart(self, pool: Pool, revive: Callable[[], None]) -> None:
        done: Future[None] = Future()
        # Running, it cannot be cancelled: when the loop ends first, nobody is told.
        done.set_running_or_notify_cancel()

        def run() -> None:
            try:
                revive()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        # A thread of its own: the loop's pool of threads would keep the loop from closing while a server starts.
        Thread(target=run, daemon=True, name="revive").start()
        waiting = asyncio.wrap_future(done)
        try:
            while not (await asyncio.wait([waiting], timeout=_TICK))[0]:
                pool.signed = asyncio.get_running_loop().time()
            waiting.result()
        finally:
            waiting.cancel()
        pool.signed = asyncio.get_running_loop().time()

    async def _watch(self, pool: Pool) -> None:
        every = min(_COUNT_EVERY, self._silence / 4)
        counted = -every
        while True:
            now = asyncio.get_running_loop().time()
            if now - counted >= every and not pool.dialect.stream:
                counted = now
                # A server that hangs must not keep this loop from noticing the silence.
                pool.spawn(self._count(pool))
            pool.check()
            pool.dispatch()
            await asyncio.sleep(min(_TICK, every))

    async def _count(self, pool: Pool) -> None:
        for one in pool.endpoints:
            if not one.up or one in self._mute:
                continue
            tokens = await written(pool.exchange, one)
            if tokens is None:
                self._mute.add(one)
                one.counts = False
            elif one.told(tokens):
                pool.signed = asyncio.get_running_loop().time()
