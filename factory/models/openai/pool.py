"""Many requests over several servers: who is asked next, what happens to a request that failed, when to give up.

A request waits in line, is in flight at one server, or rests after a fault; what it brought goes into the queue `out`.
Everything here runs in the loop of the backend's thread, so nothing is locked.

A request that failed may be bad, or the server may be out of order for all. It is the request's fault when the same
server has answered another one since it was sent (or since it failed first), or when no other is left to tell by: then
it costs the row an attempt. Otherwise the row pays nothing and waits, and others are tried. Refusals for want of room
are daily bread and cost nothing either; but a row that is refused again and again while others are answered fails.

The step is given up when no server has answered anything for `silence` seconds while requests were open, whether they
hang, refuse or are gone. A server that cannot tell how far it is (no stream, no count of tokens) may be writing a long
answer: time in which it has a request in flight does not count, up to `deadline`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
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

_STRIKES = 4
_REFUSALS, _PATIENT = 8, 4
_SHORTENED = 6
_LATE = 5.0


class _Blame(Enum):
    """Why a failure is the request's own: others were answered, or only such requests are left."""

    OTHERS = auto()
    LEFT = auto()


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way. `ids` is its tokenised prompt where it goes as token ids, `room` the most new tokens that
    fit where that is known. `attempts` are those that it has to pay for, of `tries`; `doubts` those that may have been
    the server's fault, `doubted` where and since when an answer to another request would tell; `refusals` how often
    there was no room for it while others were answered."""

    request: Request
    ids: list[int] | None = None
    room: int | None = None
    attempts: int = 0
    tries: int = 0
    doubts: int = 0
    doubted: tuple[Endpoint, float] | None = None
    refusals: int = 0
    shortened: int = 0
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
    deadline: float
    lost: Callable[[Endpoint], None]
    out: SimpleQueue[Item] = field(default_factory=SimpleQueue)
    exhausted: bool = False
    signed: float = 0.0
    in_flight: int = 0
    _waiting: deque[Job] = field(default_factory=deque)
    _resting: dict[Job, asyncio.TimerHandle] = field(default_factory=dict)
    _suspects: set[Job] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _looked: float = 0.0
    _excused: float = 0.0
    _signed_then: float = -1.0
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
        self._suspects.clear()
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
        now = self._now()
        if self.signed != self._signed_then:
            self._signed_then, self._excused = self.signed, 0.0
        elif self._may_write():
            self._excused += now - max(self._looked, self.signed)
        self._looked, silent = now, now - self.signed
        longest = max(self.silence, self.deadline + min(_LATE, self.deadline))
        limit = self.silence if silent - self._excused > self.silence else longest
        if self.open and silent > limit:
            told = "; ".join(f"{one.label}: {one.state}" for one in self.endpoints)
            self.fail(BackendDied(f"no server has answered for {limit:g} s ({told}). What was answered is kept"),
                      now=True)

    def _may_write(self) -> bool:
        """Whether a server that cannot say so may be writing an answer."""
        return not self.dialect.stream and any(one.up and one.in_flight and not one.counts for one in self.endpoints)

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
            answer = await self.exchange.ask(endpoint, job.path, job.body, job.request, job.tries + 1, alive)
        except Fault as fault:
            self._faulted(job, endpoint, fault, sent)
            return
        now = self._now()
        self.signed = now
        self._suspects.discard(job)
        endpoint.answered(now)
        endpoint.wrote(max((answer.completion.tokens_out or 1) - counted, 0))
        self.out.put((job, answer))

    def _returned(self, endpoint: Endpoint, task: asyncio.Task[None]) -> None:
        endpoint.left()
        self.in_flight -= 1
        if endpoint.denied is not None and not endpoint.in_flight:
            self.fail(self.exchange.stopping(endpoint, endpoint.denied))
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
        if fault.act in (Act.SHORTEN, Act.RENAME, Act.REJECT, Act.FAIL):
            self.signed = self._now()
        else:
            endpoint.trouble = self.exchange.clean(str(fault))
        if fault.act is Act.DOWN and endpoint.up:
            endpoint.lost(self.exchange.clean(fault.text))
            self.lost(endpoint)
        if fault.act is Act.STOP:
            self.fail(self.exchange.stopping(endpoint, fault))
        elif fault.act is Act.DENY and not endpoint.proven:
            endpoint.denied = fault
            self._line_up(job)
        elif fault.act is Act.WAIT:
            self._refused(job, endpoint, fault, sent)
        elif fault.act is Act.RETRY or (fault.act is Act.DOWN and fault.kind != "connection"):
            self._failed(job, endpoint, fault, sent)
        elif fault.act is Act.DOWN or (fault.act is Act.RENAME and self._renamed(job)):
            self._line_up(job)
        elif fault.act is Act.SHORTEN:
            self._shorten(job, fault)
        else:
            job.attempts += 1
            self._give_up(job, fault)

    def _failed(self, job: Job, endpoint: Endpoint, fault: Fault, sent: float) -> None:
        """An attempt failed: the row's fault, or an outage that is nobody's."""
        job.tries += 1
        endpoint.strikes += 1
        if others := self._at_fault(job, endpoint, sent):
            # Where only suspects are left, all that they did counts; else the doubtful ones may have met an outage.
            job.attempts += 1 + (job.doubts if others is _Blame.LEFT else min(job.doubts, 1))
            job.doubts, self.signed = 0, self._now()
        else:
            job.doubts += 1
        if fault.kind == "timeout" or (not others and endpoint.strikes > _STRIKES):
            endpoint.overloaded(sent, self._now(), fault.wait)
        if job.attempts < self.attempts:
            self._rest(job, delay(job.attempts + job.doubts, fault.wait))
        else:
            self._give_up(job, fault)

    def _refused(self, job: Job, endpoint: Endpoint, fault: Fault, sent: float) -> None:
        """The server is full, or says so of this request for ever."""
        endpoint.overloaded(sent, self._now(), fault.wait)
        blame = self._at_fault(job, endpoint, sent)
        if blame and endpoint.proven:
            job.refusals += 1
            self.signed = self._now()
        if job.refusals < max(_REFUSALS, _PATIENT * self.attempts):
            # A server that answers others has room again soon; the exponent grows with refusals of all.
            self._rest(job, delay(1 + max(endpoint.refusals, min(job.refusals, _PATIENT)), fault.wait))
        else:
            job.attempts += job.refusals
            self._give_up(job, fault)

    def _at_fault(self, job: Job, endpoint: Endpoint, sent: float) -> _Blame | None:
        """Whether it is the request that failed rather than the server; see the module docstring."""
        self._suspects.add(job)
        at, since = job.doubted or (endpoint, sent)
        others = at.last_answer > since or endpoint.last_answer > sent
        blame = _Blame.OTHERS if others else _Blame.LEFT if self._only_suspects() else None
        job.doubted = (endpoint, self._now()) if blame else (at, since)
        return blame

    def _only_suspects(self) -> bool:
        return self.exhausted and len(self._suspects) == self.in_flight + len(self._waiting) + len(self._resting)

    def _shorten(self, job: Job, fault: Fault) -> None:
        """Ask for fewer tokens; a prompt that leaves no room for any is too long."""
        most = min(job.room or job.request.sampling.max_tokens, job.request.sampling.max_tokens)
        room = min(fault.room, most // 2) if fault.vague or job.shortened else fault.room
        if not 0 < room < most or job.shortened == _SHORTENED:
            job.attempts += 1
            self._give_up(job, Fault(Act.REJECT, "prompt_too_long", fault.text))
            return
        job.room, job.dialect, job.shortened = room, None, job.shortened + 1
        self._line_up(job)

    def _renamed(self, job: Job) -> bool:
        """Whether the request can be put with the other name of the limit, and has not been."""
        if job.dialect is self.dialect and self.dialect.limit == "max_tokens":
            self.dialect = replace(self.dialect, limit="max_completion_tokens")
        return job.dialect is not self.dialect

    def _give_up(self, job: Job, fault: Fault) -> None:
        self._suspects.discard(job)
        self.out.put(_given_up(job, fault, self.exchange.clean(fault.text)))

    def _rest(self, job: Job, seconds: float) -> None:
        if not self._stopping:
            self._resting[job] = asyncio.get_running_loop().call_later(seconds, self._rested, job)

    def _rested(self, job: Job) -> None:
        del self._resting[job]
        self._line_up(job)
        self.dispatch()

    def _line_up(self, job: Job) -> None:
        if not self._stopping:
            # Behind those that have not failed: their answers tell whose fault it was.
            (self._waiting.append if job in self._suspects else self._waiting.appendleft)(job)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _given_up(job: Job, fault: Fault, text: str) -> Completion:
    request = job.request
    if fault.act is Act.REJECT:
        return Completion(request.key, rejected=f"prompt_too_long: {text}", attempts=job.attempts)
    if fault.act is Act.FAIL and request.messages is None and not (request.prompt or request.prefill):
        return Completion(request.key, rejected=f"prompt_empty: {text}", attempts=job.attempts)
    return Completion(request.key, error=f"{fault.kind}: {text}", attempts=job.attempts)
