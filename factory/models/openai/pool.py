"""Many requests over several servers: who is asked next, what happens to a request that failed, when to give up.

A request waits in line, is in flight at one server, or rests after a fault; what it brought goes into the queue `out`.
Everything here runs in the loop of the backend's thread, so nothing is locked. The step is given up when no server has
answered anything for `silence` seconds while requests were open, whether they hang, refuse or are gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from factory.engine.errors import BackendDied
from factory.models.base import Completion, Request
from factory.models.openai import wire
from factory.models.openai.endpoint import Endpoint, choose
from factory.models.openai.exchange import Exchange
from factory.models.openai.faults import Act, Fault, delay
from factory.models.openai.wire import Answer, Dialect


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way. `ids` is its tokenised prompt where it goes as token ids, `room` the most new tokens that
    fit where that is known."""

    request: Request
    ids: list[int] | None = None
    room: int | None = None
    attempts: int = 0
    path: str = ""
    body: bytes = b""
    dialect: Dialect | None = None


Item = Completion | tuple[Job, Answer] | Exception | None
"""What `out` brings: a row's own trouble, an answer, the end of the step, or None when all that was begun is done."""


@dataclass(slots=True)
class Pool:
    """Requests over `endpoints`. `lost` is told of an endpoint that has just gone away."""

    exchange: Exchange
    endpoints: Sequence[Endpoint]
    dialect: Dialect
    attempts: int
    silence: float
    lost: Callable[[Endpoint], None]
    out: SimpleQueue[Item] = field(default_factory=SimpleQueue)
    exhausted: bool = False
    signed: float = 0.0
    in_flight: int = 0
    _waiting: deque[Job] = field(default_factory=deque)
    _resting: dict[Job, asyncio.TimerHandle] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: bool = False
    _failure: Exception | None = None
    _wake: asyncio.TimerHandle | None = None

    def begin(self, out: SimpleQueue[Item]) -> None:
        """Answer into `out` from now on. A pool that has failed or was stopped says so at once."""
        self.out, self.exhausted = out, False
        if self._stopping:
            self._drained()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs in line; after a stop they are dropped."""
        if self._stopping:
            return
        if not self.open:
            self.signed = self._now()
        self._waiting.extend(jobs)
        self.dispatch()

    def finish(self) -> None:
        """No more jobs will come."""
        self.exhausted = True
        self.dispatch()

    def stop(self) -> None:
        """Drop what is not in flight; `out` gets None when the rest is done."""
        self._stopping = True
        self._waiting.clear()
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        self._drained()

    def fail(self, error: Exception, *, now: bool = False) -> None:
        """End the step with an error, when what is in flight is done (it may be paid for), or `now`."""
        self._failure = self._failure or error
        self.stop()
        if now:
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """End every task."""
        self.stop()
        if self._wake is not None:
            self._wake.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.out.put(None)

    @property
    def open(self) -> bool:
        """Whether any request is without its answer."""
        return bool(self.in_flight or self._waiting or self._resting)

    def check(self) -> None:
        """Give up when nobody has answered for too long."""
        if self.open and self._now() - self.signed > self.silence:
            told = "; ".join(f"{one.label}: {'it hangs' if one.up else one.reason}" for one in self.endpoints)
            self.fail(BackendDied(f"no server has answered for {self.silence:g} s ({told}). What was answered is kept"),
                      now=True)

    def dispatch(self) -> None:
        """Send what may be sent now."""
        now = self._now()
        while self._waiting:
            endpoint = choose(self.endpoints, now, len(self._waiting) if self.exhausted else 0)
            if endpoint is None:
                break
            job = self._waiting.popleft()
            if self._written(job):
                endpoint.sent(now)
                self.in_flight += 1
                task = asyncio.get_running_loop().create_task(self._attempt(job, endpoint, now))
                self._tasks.add(task)
                task.add_done_callback(partial(self._returned, endpoint))
        for one in self.endpoints:
            one.full = bool(self._waiting) and one.in_flight >= int(one.limit)
        pauses = [pause for one in self.endpoints if one.up and (pause := one.pause(now))] if self._waiting else []
        if pauses and self._wake is None:
            self._wake = asyncio.get_running_loop().call_later(min(pauses) + 0.001, self._woken)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends with the pool; an exception in it ends the step."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _woken(self) -> None:
        self._wake = None
        self.dispatch()

    def _written(self, job: Job) -> bool:
        """Whether the job's body is ready; a text without a UTF-8 form fails the row."""
        if job.dialect is not self.dialect:
            try:
                job.path, job.body = wire.compose(job.request, self.dialect, job.room, job.ids)
            except UnicodeEncodeError as error:
                self.out.put(Completion(job.request.key, attempts=0, error="not_unicode: the text cannot be sent: "
                                        f"{error.reason} at character {error.start}"))
                return False
            job.dialect = self.dialect
        return True

    async def _attempt(self, job: Job, endpoint: Endpoint, sent: float) -> None:
        alive, counted = None, 0

        def live(pieces: int) -> None:
            nonlocal counted
            counted += pieces
            endpoint.wrote(pieces)
            self.signed = self._now()

        if self.dialect.stream:
            alive = live
        try:
            answer = await self.exchange.ask(endpoint, job.path, job.body, job.request, job.attempts + 1, alive)
        except Fault as fault:
            self._faulted(job, endpoint, fault, sent)
            return
        now = self._now()
        self.signed = now
        endpoint.answered(now)
        endpoint.wrote(max((answer.completion.tokens_out or 1) - counted, 0))
        self.out.put((job, answer))

    def _returned(self, endpoint: Endpoint, task: asyncio.Task[None]) -> None:
        endpoint.left()
        self.in_flight -= 1
        self._ended(task)
        if self._stopping:
            self._drained()
        else:
            self.dispatch()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.fail(error)

    def _drained(self) -> None:
        if not self.in_flight:
            self.out.put(self._failure)

    def _faulted(self, job: Job, endpoint: Endpoint, fault: Fault, sent: float) -> None:
        if fault.act in (Act.WAIT, Act.RETRY) and fault.kind in ("overload", "timeout"):
            endpoint.overloaded(sent, self._now(), fault.wait)
        if fault.act is Act.DOWN and endpoint.up:
            endpoint.lost(self.exchange.clean(fault.text))
            self.lost(endpoint)
        if fault.act in (Act.SHORTEN, Act.RENAME, Act.REJECT, Act.FAIL):
            self.signed = self._now()
        if fault.act is Act.STOP:
            self.fail(self.exchange.stopping(endpoint, fault))
        elif fault.act is Act.REJECT:
            self.out.put(Completion(job.request.key, rejected=f"prompt_too_long: {self.exchange.clean(fault.text)}",
                                    attempts=job.attempts + 1))
        elif fault.act is Act.WAIT:
            # A server that answers others has room again soon; the exponent grows with refusals of all.
            self._rest(job, delay(1 + endpoint.refusals, fault.wait))
        elif self._changed(job, fault) or (fault.act is Act.DOWN and fault.kind == "connection"):
            self._line_up(job)
        else:
            job.attempts += 1
            if fault.act in (Act.RETRY, Act.DOWN) and job.attempts < self.attempts:
                self._rest(job, delay(job.attempts, fault.wait))
            else:
                self.out.put(_given_up(job, fault, self.exchange.clean(fault.text)))

    def _changed(self, job: Job, fault: Fault) -> bool:
        """Whether the request can be put in another way that the server has asked for, and has been."""
        if fault.act is Act.SHORTEN and fault.room < min(job.room or fault.room + 1, job.request.sampling.max_tokens):
            job.room, job.dialect = fault.room, None
            return True
        if fault.act is Act.RENAME:
            if job.dialect is self.dialect and self.dialect.limit == "max_tokens":
                self.dialect = replace(self.dialect, limit="max_completion_tokens")
            return job.dialect is not self.dialect
        return False

    def _rest(self, job: Job, seconds: float) -> None:
        if not self._stopping:
            self._resting[job] = asyncio.get_running_loop().call_later(seconds, self._rested, job)

    def _rested(self, job: Job) -> None:
        del self._resting[job]
        self._line_up(job)
        self.dispatch()

    def _line_up(self, job: Job) -> None:
        if not self._stopping:
            self._waiting.appendleft(job)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _given_up(job: Job, fault: Fault, text: str) -> Completion:
    request = job.request
    if fault.act is Act.FAIL and request.messages is None and not (request.prompt or request.prefill):
        return Completion(request.key, rejected=f"prompt_empty: {text}", attempts=job.attempts)
    return Completion(request.key, error=f"{fault.kind}: {text}", attempts=job.attempts)
