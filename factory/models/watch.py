"""The watchdog: an engine or server that dies or falls silent is started again, once, and nothing is asked twice that
was answered.

`Watched` is a backend around another one. It knows which requests the inner backend has taken and not answered; they
are what a new engine is asked. An engine counts as lost when it says so (`BackendDied`); when requests are in flight
and for `runtime.silence` seconds none was answered and its `life` (tokens written so far, where it counts them) did not
grow (longer, where the backend says so with its `patience`, since it looks for hanging servers itself); or when over
`runtime.silence` seconds it wrote fewer than `runtime.floor` tokens a second, although more requests were waiting
(the last answers of a step may be slow). Time spent outside the engine counts for nothing.

An engine that is lost again within ten minutes of its restart ends the step. All of this happens in the thread that
iterates, at the ticks of the inner backend.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Backend, Completion, Request
from factory.models.runtime import ModelRuntime

_HEALTHY_SECONDS = 600.0
_CLOSE_SECONDS = 10.0


class Watched:
    """`opener` opens the backend that is watched; `tell` is told of a restart. `grace` is how many seconds a lost
    engine gets to close."""

    def __init__(self, opener: Callable[[], Backend], name: str, runtime: ModelRuntime,
                 tell: Callable[[str], None] | None = None, *, grace: float = _CLOSE_SECONDS):
        self._opener, self._name, self._runtime, self._tell = opener, name, runtime, tell
        self._grace, self._stopped = grace, False
        self._restarted: float | None = None
        self._flying: dict[str, Request] = {}
        self._asked: dict[str, int] = {}
        self._pulse = _Pulse(runtime)
        self._inner: Backend | None = opener()

    @property
    def life(self) -> int:
        """Tokens that the engine of now has written, where it counts them."""
        return int(getattr(self._inner, "life", 0))

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        """Answer every request once (see `Backend`).

        Raises:
            ModelError: the engine was lost twice, or cannot be started again; or as the watched backend.
        """
        source = iter(requests)
        while self._inner is not None:
            # What was in flight goes first: a new engine is asked for it before anything new.
            stream = self._inner.generate(self._feed(list(self._flying.values()), source))
            self._pulse.start(getattr(self._inner, "life", None))
            try:
                for done in stream:
                    if done is not None:
                        if self._flying.pop(done.key, None) is None:
                            continue
                        before = self._asked.pop(done.key, 0)
                        done = replace(done, attempts=done.attempts + before) if before else done
                    with self._pulse.paused():
                        yield done
                    self._check(done)
                return
            except BackendDied as error:
                closed = self._abandon(stream)
                if self._stopped:
                    return
                self._restart(error, closed)

    def stop(self) -> None:
        """Pass it on; an engine that is lost from now on is not started again."""
        self._stopped = True
        if self._inner is not None:
            self._inner.stop()

    def close(self) -> None:
        """Close the watched backend."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def _feed(self, again: list[Request], source: Iterator[Request]) -> Iterator[Request]:
        yield from again
        self._pulse.waiting = True
        while not self._stopped:
            with self._pulse.paused():
                request = next(source, None)
            if request is None:
                break
            self._flying[request.key] = request
            yield request
        self._pulse.waiting = False

    def _check(self, done: Completion | None) -> None:
        trouble = self._pulse.beat(done, getattr(self._inner, "life", None), getattr(self._inner, "patience", 0.0),
                                   busy=bool(self._flying))
        if trouble:
            raise BackendDied(trouble)

    def _restart(self, error: BackendDied, closed: bool) -> None:
        """Put a new engine in the place of a lost one.

        Raises:
            ModelError: it is too soon after the last time, or it does not start.
        """
        lost = f"{len(self._flying):,} requests in flight"
        since = None if self._restarted is None else time.monotonic() - self._restarted
        if since is not None and since < _HEALTHY_SECONDS:
            raise ModelError(f"model {self._name} was lost again, {since:.0f} s after it had been started again, with "
                             f"{lost}. Finished answers are kept: mend the cause (memory, the server, runtime.silence "
                             f"or runtime.floor), then run again. Seen last: {error}") from error
        if self._tell is not None:
            self._tell(f"model {self._name} is started again and asked again for {lost}: {str(error).splitlines()[0]}")
        try:
            self._inner = self._opener()
        except ModelError as second:
            stuck = "" if closed else f" (it did not close within {self._grace:g} s, and may still hold its memory)"
            raise ModelError(f"model {self._name} was lost with {lost}{stuck} and does not start again: {second}. "
                             f"Finished answers are kept: mend it, then run again. Seen first: {error}") from error
        self._restarted = time.monotonic()
        for key in self._flying:
            self._asked[key] = self._asked.get(key, 0) + 1

    def _abandon(self, stream: Iterator[Completion | None]) -> bool:
        """Close a lost engine; False when it hangs while it closes."""
        inner, self._inner = self._inner, None

        def end() -> None:
            with contextlib.suppress(Exception):
                getattr(stream, "close", lambda: None)()
            with contextlib.suppress(Exception):
                inner.close()  # type: ignore[union-attr]

        thread = threading.Thread(target=end, name="closing", daemon=True)
        thread.start()
        thread.join(self._grace)
        return not thread.is_alive()


class _Pulse:
    """When an engine last gave a sign of life, and how fast it wrote since a mark. Times are monotonic seconds."""

    def __init__(self, runtime: ModelRuntime):
        self._silence, self._floor = runtime.silence, runtime.floor
        self.waiting = False
        self._life: int | None = None
        self._sign = self._mark = 0.0
        self._written = 0

    def start(self, life: int | None) -> None:
        """A new engine, which has written `life` tokens."""
        self._life, self.waiting = life, False
        self._rest()

    def _rest(self) -> None:
        self._sign = self._mark = time.monotonic()
        self._written = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in which the engine is not looked at."""
        before = time.monotonic()
        try:
            yield
        finally:
            away = time.monotonic() - before
            self._sign += away
            self._mark += away

    def beat(self, done: Completion | None, life: int | None, patience: float, *, busy: bool) -> str:
        """Look once; what is wrong, or ''."""
        now, silence = time.monotonic(), max(self._silence, patience)
        if done is not None or life != self._life:
            self._sign = now
        self._written += self._new_tokens(done, life)
        self._life = life
        if not busy:
            self._rest()
            return ""
        if now - self._sign > silence:
            return f"it gave no sign of life for {now - self._sign:.0f} s (runtime.silence is {self._silence:g})"
        if not self.waiting:
            self._mark, self._written = now, 0
        elif now - self._mark > self._silence:
            rate = self._written / (now - self._mark)
            if rate < self._floor:
                return (f"it wrote {rate:.1f} tokens/s over the last {now - self._mark:.0f} s (runtime.floor is "
                        f"{self._floor:g})")
            self._mark, self._written = now, 0
        return ""

    def _new_tokens(self, done: Completion | None, life: int | None) -> int:
        if life is not None:
            return max(0, life - (self._life or 0))
        return done.tokens_out if done is not None else 0
