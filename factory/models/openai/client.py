"""The backend: a thread whose loop talks to the servers, and the caller's thread, which feeds it and takes answers.

Requests are pulled as far ahead as the windows of all servers reach, and a few more, so that a server never waits for
the caller and a kill loses little. They go over in groups, since waking the other thread costs more than a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from factory.engine.errors import BackendDied
from factory.models.base import Completion, Request
from factory.models.openai.care import Care
from factory.models.openai.endpoint import ALONE, START, Endpoint
from factory.models.openai.exchange import Exchange
from factory.models.openai.faults import LONGEST_DELAY
from factory.models.openai.managed import Prompts
from factory.models.openai.pool import Item, Job, Pool
from factory.models.openai.wire import Answer, Dialect
from factory.models.rendering import refuse_empty
from factory.models.runtime import ModelRuntime

PATIENCE = 60.0
_AHEAD = 64
_GROUP = 16
_TICK = 0.5
_PULL_SECONDS = 0.1


class EndpointBackend:
    """Answers with servers at `urls`. `prompts` is set where the model lies on this machine; `revive` and `end` belong
    to a managed server. `life` counts the tokens that are known to be written."""

    def __init__(self, urls: Sequence[str], name: str, runtime: ModelRuntime, options: dict[str, Any],
                 prompts: Prompts | None = None, revive: Callable[[], None] | None = None,
                 end: Callable[[], None] | None = None):
        self._endpoints = [Endpoint(url, runtime.concurrency, START if len(urls) > 1 else ALONE) for url in urls]
        self._runtime, self._prompts, self._end = runtime, prompts, end
        self._dialect = Dialect(name, options, stream=runtime.stream)
        self._care = Care(name, runtime.silence, revive)
        self._stopped = self._closed = False
        self._loop, self._closing = asyncio.new_event_loop(), asyncio.Event()
        opened: Future[Pool] = Future()
        self._thread = Thread(target=self._run, args=(opened,), daemon=True, name="endpoint")
        self._thread.start()
        try:
            self._pool = opened.result()
        except BaseException:
            self.close()
            raise

    @property
    def life(self) -> int:
        """Tokens written so far."""
        return sum(one.life for one in self._endpoints)

    @property
    def patience(self) -> float:
        """Seconds for the watchdog: the pool looks for silent servers itself, and knows of attempts still to come."""
        return self._runtime.silence + self._runtime.attempts * (self._runtime.deadline + LONGEST_DELAY)

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        """Answer every request once (see `Backend`).

        Raises:
            ModelError: a server refuses the key, the model or the account; what was in flight is answered before.
            BackendDied: no server has answered for `runtime.silence` seconds.
        """
        out: SimpleQueue[Item] = SimpleQueue()
        self._call(self._pool.begin, out)
        source, pending, exhausted = iter(requests), 0, False
        while True:
            room = 0 if exhausted or self._stopped else self._room() - pending
            if room >= _GROUP:
                group, exhausted = _pull(source, min(room, _AHEAD))
                made = self._jobs(group)
                yield from (one for one in made if isinstance(one, Completion))
                jobs = [one for one in made if isinstance(one, Job)]
                self._call(self._pool.submit, jobs)
                if exhausted:
                    self._call(self._pool.finish)
                pending, room = pending + len(jobs), room - len(group)
            if exhausted and not pending:
                return
            feeding = room >= _GROUP and not exhausted
            found = self._take(out, 0.0 if feeding else _TICK)
            for item in found:
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                pending -= 1
                yield item if isinstance(item, Completion) else self._completion(*item)
            if not found and not feeding:
                yield None

    def stop(self) -> None:
        """Finish what is in flight; what is not is dropped. May be called from any thread."""
        if not self._stopped:
            self._stopped = True
            self._call(self._pool.stop)

    def close(self) -> None:
        """End the thread, its connections and a managed server. May be called at any time, and again."""
        if self._closed:
            return
        self._closed = self._stopped = True
        try:
            if self._end is not None:
                self._end()
        finally:
            self._call(self._closing.set)
            self._thread.join()

    def _run(self, opened: Future[Pool]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(opened))

    async def _serve(self, opened: Future[Pool]) -> None:
        """The life of the loop: open, then work until close."""
        runtime = self._runtime
        try:
            exchange = Exchange(runtime.key, runtime.deadline)
        except Exception as error:
            opened.set_exception(error)
            return
        pool = Pool(exchange, self._endpoints, self._dialect, runtime.attempts, runtime.silence, runtime.deadline,
                    self._care.lost)
        closing = asyncio.create_task(self._closing.wait())
        opening = asyncio.create_task(self._care.open(pool, min(PATIENCE, runtime.silence)))
        try:
            await asyncio.wait({opening, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                opened.set_exception(BackendDied("the backend was closed while it was opened"))
            elif (failure := opening.exception()) is not None:
                opened.set_exception(failure)
            else:
                opened.set_result(pool)
                await closing
        finally:
            await pool.close()
            await exchange.close()

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        """Run something in the loop; nothing where it has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work, *arguments)

    def _room(self) -> int:
        return sum(int(one.limit) for one in self._endpoints if one.up) + _AHEAD

    def _jobs(self, group: Sequence[Request]) -> list[Job | Completion]:
        if self._prompts is not None:
            return self._prompts.jobs(group)
        return [refuse_empty(request) or Job(request) for request in group]

    def _completion(self, job: Job, answer: Answer) -> Completion:
        return answer.completion if self._prompts is None else self._prompts.completion(job, answer)

    def _take(self, out: SimpleQueue[Item], seconds: float) -> list[Item]:
        """All that has come; waits for the first as long as it may."""
        found: list[Item] = []
        try:
            found.append(out.get(timeout=seconds) if seconds else out.get_nowait())
            while True:
                found.append(out.get_nowait())
        except Empty:
            if not found and not self._thread.is_alive():
                return [None] if self._closed else [BackendDied("the thread that talks to the servers has ended")]
        return found


def _pull(source: Iterator[Request], wanted: int) -> tuple[list[Request], bool]:
    """At most so many requests, fewer from a slow source; and whether it has ended."""
    group: list[Request] = []
    until = time.monotonic() + _PULL_SECONDS
    for request in source:
        group.append(request)
        if len(group) == wanted or time.monotonic() > until:
            return group, False
    return group, True
