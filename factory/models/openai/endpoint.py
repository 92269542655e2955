"""One base URL: how many requests it may hold, how fast it answers, whether it is up; and which of several is next.

The window (`limit`) starts small and grows by one for each answer while it is full, so it doubles each round, until the
first overload; from then on by one a round. An overload or a time-out takes it to 0.7 of itself, once for all requests
that had been sent before (they all tell of the same overload). A server that refuses two windows in a row, with no
answer between, is left alone for as long as it asked, or ever longer.

The next request goes where it is expected to be answered first: (in flight + 1) / measured rate. A server that queues
without end would collect a full window, however slow, and still work on it when the others have finished. So the rate
is compared from round to round: the window beyond which more requests brought no more answers is its *knee*, and beyond
its knee a server gets a request only when it would be the first to answer, full ones counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from urllib.parse import parse_qsl, quote, urlsplit

from factory.engine.errors import ModelError
from factory.models.openai.faults import Fault, delay

START, ALONE = 32, 128  # the first window of one server among several, and of the only one: it cannot take too much
_SHRINK = 0.7
_RECENT = 128
_KNOWN = 4
_WIDER, _FASTER = 1.5, 1.15


class Endpoint:
    """One base URL. All times are seconds of one monotonic clock, given by the caller.

    `last_answer` is when it answered last, `strikes` and `trouble` how many requests failed since and what was said
    last. `denied` is a 403 of a server that has answered nobody: nothing more is sent until it is known whose fault it
    is. `counts` says whether it tells how many tokens it has written.
    """

    denied: Fault | None

    def __init__(self, url: str, cap: int, start: int = START):
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise ModelError(f"endpoint {parts.scheme}://…@{parts.hostname}: a URL holds no password. Put the key into "
                             "the environment and name its variable in `runtime.model.key`")
        self._base, self._query = parts.path.rstrip("/"), parts.query
        self.root = f"{parts.scheme}://{parts.netloc}"
        self.label = f"{self.root}{self._base}"
        self.cap, self.start, self.limit = cap, start, float(min(start, cap))
        self.up, self.in_flight, self.full = False, 0, False
        self.reason, self.trouble = "it has not answered yet", ""
        self.last_answer, self.strikes, self.denied = -inf, 0, None
        self.counts = False
        self._counted, self._grown = 0, 0
        self._tokens: float | None = None
        self._slow_start, self._shrunk, self._resume = True, -inf, 0.0
        self.refusals, self._answered_since = 0, True
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._round, self._round_at, self._round_left = 0, 0.0, 0
        self._mark: tuple[float, float] | None = None
        self.knee = inf

    def address(self, path: str) -> str:
        """The URL of a path under the base URL, with the base's own query."""
        return f"{self.label}/{path}" + (f"?{self._query}" if self._query else "")

    def shown(self, path: str) -> str:
        """The same for a reader: a query may hold a key, so its values are left out."""
        names = [name for name, _ in parse_qsl(self._query, keep_blank_values=True)]
        return f"{self.label}/{path}" + (f"?{'&'.join(f'{quote(name)}=***' for name in names)}" if self._query else "")

    @property
    def proven(self) -> bool:
        """Whether it has ever answered."""
        return self.last_answer > -inf

    @property
    def state(self) -> str:
        """What is wrong with it, as far as is known."""
        return self.reason if not self.up else self.trouble or "it hangs"

    def has_room(self, now: float) -> bool:
        """Whether a request may be sent there now."""
        return self.up and self.denied is None and self.in_flight < int(self.limit) and now >= self._resume

    def pause(self, now: float) -> float:
        """Seconds until it may be asked again; 0 when nothing but its window says no."""
        return max(self._resume - now, 0.0)

    def sent(self, now: float) -> None:
        """A request is on its way."""
        if not self.in_flight:
            self._recent.clear()
            self._recent.append(now)
            self._round_left = 0
        self.in_flight += 1

    def left(self) -> None:
        """A request has come back, whatever it brought."""
        self.in_flight -= 1

    def answered(self, now: float) -> None:
        """It brought an answer."""
        if self.full:
            self.limit = min(self.limit + (1.0 if self._slow_start else 1.0 / self.limit), float(self.cap))
        self.refusals, self._answered_since = 0, True
        self.last_answer, self.strikes, self.trouble, self.denied = now, 0, "", None
        self._recent.append(now)
        self._learn(now)

    def overloaded(self, sent_at: float, now: float, wait: float = 0.0) -> None:
        """It brought a refusal, or nothing in time. `wait` is what the server asked for."""
        if sent_at < self._shrunk:
            return
        self._slow_start = False
        self.limit, self._shrunk = max(self.limit * _SHRINK, 1.0), now
        if self._answered_since:
            self._answered_since = False
            return
        self.refusals += 1
        self._resume = now + delay(self.refusals, wait)

    def lost(self, reason: str) -> None:
        """It cannot be reached."""
        self.up, self.reason = False, reason

    def found(self) -> None:
        """It can be reached (again): begin with a small window."""
        self.up, self.limit, self._slow_start = True, min(self.limit, float(self.start)), True
        self._resume, self.refusals, self._answered_since = 0.0, 0, True
        self._recent.clear()

    def expected(self, now: float) -> float:
        """Seconds until one more request would be answered; 0 while too little is known."""
        if len(self._recent) < _KNOWN:
            return 0.0
        return (self.in_flight + 1) * max(now - self._recent[0], 1e-6) / (len(self._recent) - 1)

    def wrote(self, tokens: int) -> None:
        """An answer brought so many tokens, or a stream so many pieces."""
        self._counted += tokens

    def told(self, tokens: float) -> bool:
        """The server says how many tokens it has written; whether that is more than before."""
        known, self._tokens, self.counts = self._tokens, tokens, True
        more = 0 if known is None else int(tokens - known if tokens >= known else tokens)
        self._grown += more
        return more > 0

    @property
    def life(self) -> int:
        """Tokens written for us so far, as far as is known: by answers, or by the server's own count, which includes
        answers on their way (and other people's)."""
        return max(self._counted, self._grown)

    def _learn(self, now: float) -> None:
        """Compare the rate of a round (as many answers as were in flight at its start) with a round of a window that
        was narrower by half."""
        if self._round_left > 0:
            self._round_left -= 1
            if self._round_left:
                return
            wide, rate = float(self._round), self._round / max(now - self._round_at, 1e-6)
            if self._mark is None or rate > self._mark[1] * _FASTER:
                self._mark, self.knee = (wide, rate), inf
            elif wide >= self._mark[0] * _WIDER:
                self.knee = self._mark[0]
        self._round = self._round_left = max(self.in_flight, START // 2)
        self._round_at = now


def choose(endpoints: Sequence[Endpoint], now: float, last: int = 0) -> Endpoint | None:
    """Where the next request goes; None when it is better to wait. `last` is how many requests are left in all, where
    no more will come."""
    open_ones = [one for one in endpoints if one.has_room(now)]
    if not open_ones:
        return None
    if len(endpoints) == 1:
        return open_ones[0]
    best = min(open_ones, key=lambda one: one.expected(now))
    if best.in_flight < best.knee and not last:
        return best
    # A full one frees a place soon; with `last` requests left it would have answered all of them by this time.
    busy = [one for one in endpoints if one.up and one.in_flight and one not in open_ones and not one.pause(now)]
    ahead = [one.expected(now) * (one.in_flight + 1 + last) / (one.in_flight + 1) for one in busy]
    return None if best.in_flight and any(time < best.expected(now) for time in ahead) else best
