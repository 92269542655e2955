"""What can go wrong with one request, and what to do about each.

    WAIT     the server is full (429, 503, 529): ask again later; costs the row no attempt (see `pool` for when it does)
    RETRY    this attempt failed (5xx, reset, time-out, nonsense): ask again, `attempts` times in all
    DOWN     the server cannot be reached: ask another one, or this one when it is back; costs no attempt, but where a
             gateway says so (502) it does, since the request itself may be what brings its server down
    SHORTEN  prompt and `max_tokens` together are too long, the prompt is not: ask for `room` tokens
    RENAME   the server wants `max_completion_tokens`
    REJECT   the prompt is too long: a rejected row
    FAIL     the server will never answer this: a failed row
    DENY     403: a refused key where the server has answered nobody, a refused prompt where it has
    STOP     the server will answer nobody (key, model, credit): the step stops

Delays have full jitter (uniform between 0 and an exponential bound), so that requests that failed together do not
come back together; a server's `Retry-After` is a lower bound.
"""

from __future__ import annotations

import asyncio
import errno
import json
import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

_SHOWN, _READ = 300, 2000
_FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
_FULL = frozenset({429, 503, 529})
_VAST = "request too large"
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS})
_TOO_LONG = re.compile(r"context[ _-]?(?:length|size|window)|maximum model length|prompt is too long|input token count"
                       r"|too many (?:input |prompt )?tokens|max_new_tokens.{0,20}must be", re.IGNORECASE)
_CONTEXT = re.compile(r"(?:context[ _]length|context size|context window|model length)\D{0,20}(\d+)", re.IGNORECASE)
_TOGETHER = re.compile(r"requested|max_tokens|max_completion_tokens|completion", re.IGNORECASE)
_PROMPT = re.compile(r"(\d+) (?:in the (?:messages|prompt)|(?:tokens )?(?:from|of) (?:the )?(?:text )?input"
                     r"|input tokens|prompt tokens)", re.IGNORECASE)
_LEAST = re.compile(r"at least \d+ (?:input|prompt) tokens", re.IGNORECASE)


class Act(Enum):
    """What to do next; see the module docstring."""

    WAIT = auto()
    RETRY = auto()
    DOWN = auto()
    SHORTEN = auto()
    RENAME = auto()
    REJECT = auto()
    FAIL = auto()
    DENY = auto()
    STOP = auto()


class Fault(Exception):
    """One request was not answered. `kind` is the error's class in one word, `wait` the seconds the server asked for,
    `room` the new tokens that would fit, at most so many where it is `vague`."""

    def __init__(self, act: Act, kind: str, text: str, *, wait: float = 0.0, room: int = 0, vague: bool = False):
        super().__init__(f"{kind}: {text}")
        self.act, self.kind, self.text, self.wait, self.room, self.vague = act, kind, text, wait, room, vague


def delay(times: int, least: float = 0.0) -> float:
    """Seconds to wait after the `times`-th fault of a request, at least `least`."""
    bound = min(LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(times - 1, 10))
    return least + random.uniform(0, max(bound, least / 4))


def from_status(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """The fault that a response other than 200 stands for."""
    text, code = _message(body)
    what = f"status {status}" + (f", {text}" if text else "")
    if status == 402 or "insufficient_quota" in code or "insufficient_quota" in text:
        return Fault(Act.STOP, "no_credit", what)
    if status == 401:
        return Fault(Act.STOP, "refused_key", what)
    if status == 403:
        return Fault(Act.DENY, "refused", what)
    if status in (404, 405, 410) or 300 <= status < 400:
        return Fault(Act.STOP, "not_served", what)
    if status == 429 and _VAST in text.lower():
        # One request is more than a minute's allowance: no pause makes it smaller.
        return Fault(Act.FAIL, "bad_request", what)
    if status in _FULL or "overloaded" in code:
        return Fault(Act.WAIT, "overload", what, wait=_retry_after(headers))
    if status == 408:
        return Fault(Act.RETRY, "timeout", what)
    if status == 502:
        # A gateway whose server is away: until it is back, nobody need ask.
        return Fault(Act.DOWN, "server_error", what)
    if status >= 500 or status in (409, 425):
        return Fault(Act.RETRY, "server_error", what, wait=_retry_after(headers))
    return _refused(text, code, what)


def fault_in_body(error: Any) -> Fault:
    """The fault of a success whose body holds an error, as gateways send it."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return from_status(code, {}, json.dumps({"error": error}).encode())
    text, name = _message(json.dumps({"error": error}).encode())
    return Fault(Act.RETRY, "server_error", text or name or "an error without words")


def from_exception(error: BaseException) -> Fault | None:
    """The fault that an exception of the connection stands for; None for what is no fault of it."""
    import aiohttp

    text = clean(str(error), limit=_READ) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        if getattr(error, "errno", None) in _OURS:
            return Fault(Act.WAIT, "overload", text)
        return Fault(Act.DOWN, "connection", text)
    if isinstance(error, asyncio.TimeoutError):
        return Fault(Act.RETRY, "timeout", "no whole answer within the deadline")
    if isinstance(error, aiohttp.ClientError | OSError):
        return Fault(Act.RETRY, "connection", text)
    return None


def clean(text: str, secret: str | None = None, limit: int = _SHOWN) -> str:
    """A server's words on one line, cut, without the key."""
    if secret is not None and len(secret) >= 6:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _refused(text: str, code: str, what: str) -> Fault:
    if "max_completion_tokens" in text and "unsupported" in (text + code).lower():
        return Fault(Act.RENAME, "bad_request", what)
    if "context_length" in code or _TOO_LONG.search(text):
        context, prompt = _CONTEXT.search(text), _PROMPT.search(text)
        # An upper bound is what a prompt may have, not what this one has.
        both = context and prompt and _TOGETHER.search(text) and "upper bound" not in text.lower()
        room = int(context[1]) - int(prompt[1]) if both and context and prompt else 0
        if room > 0:
            return Fault(Act.SHORTEN, "bad_request", what, room=room, vague=bool(_LEAST.search(text)))
        return Fault(Act.REJECT, "prompt_too_long", text)
    return Fault(Act.FAIL, "bad_request", what)


def _message(body: bytes) -> tuple[str, str]:
    """(message, code and type) of an error's body: JSON as OpenAI, vLLM or FastAPI write it, or any text."""
    plain = _words(body[: 4 * _READ].decode("utf-8", "replace"))
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return plain, ""
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return (_words(error) if isinstance(error, str) else plain), ""
    text = error.get("message") or error.get("detail")
    return (_words(text) if isinstance(text, str) else plain), f"{error.get('code')} {error.get('type')}"


def _words(text: str) -> str:
    return clean(text, limit=_READ)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, from a number or an HTTP date; 0 where nothing usable is said."""
    try:
        if told := headers.get("retry-after-ms"):
            return _seconds(float(told) / 1000)
        told = headers.get("Retry-After", "").strip()
        if not told:
            return 0.0
        if told[0].isdigit():
            return _seconds(float(told))
        return _seconds(parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def _seconds(value: float) -> float:
    return min(value, 86400.0) if value > 0 else 0.0
