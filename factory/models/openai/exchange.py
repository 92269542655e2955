"""One request over HTTP and what came back, on the loop of the backend.

Connections are kept between requests, but for less time than servers keep theirs (uvicorn 5 s), so that a request
seldom meets a closing one. Redirects are not followed: they would carry the key elsewhere. A proxy of the environment
is looked up once for each URL, and never for this machine's own addresses.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from factory.engine.errors import ModelError
from factory.models.base import Request
from factory.models.openai import wire
from factory.models.openai.endpoint import Endpoint
from factory.models.openai.faults import Act, Fault, clean, from_exception, from_status
from factory.models.openai.stream import Stream

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.client import _RequestContextManager

_KEEP_SECONDS = 4.0
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 10.0


class Exchange:
    """A session with servers. Make and use it inside a running loop. `deadline` is seconds for one whole answer."""

    def __init__(self, key: str, deadline: float):
        import aiohttp

        self._variable, self._secret = key, read_key(key)
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers["Authorization"] = f"Bearer {self._secret}"
        self._deadline = aiohttp.ClientTimeout(total=deadline, sock_connect=min(_CONNECT_SECONDS, deadline))
        self._look = aiohttp.ClientTimeout(total=min(_LOOK_SECONDS, deadline))
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=_KEEP_SECONDS, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers,
                                              cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True)
        self._proxies: dict[str, str | None] = {}

    def get(self, url: str) -> _RequestContextManager:
        """A short question: `async with exchange.get(url) as response`."""
        return self._session.get(url, timeout=self._look, allow_redirects=False, proxy=self._proxy(url))

    async def ask(self, endpoint: Endpoint, path: str, body: bytes, request: Request, attempts: int,
                  alive: Callable[[int], None] | None) -> wire.Answer:
        """Send a body and read the answer. `alive` (streams only) is told of pieces as they come.

        Raises:
            Fault: no answer, and what to do about it.
        """
        url = endpoint.address(path)
        try:
            async with self._session.post(url, data=body, timeout=self._deadline, allow_redirects=False,
                                          proxy=self._proxy(url)) as response:
                if response.status != 200:
                    raise from_status(response.status, response.headers, await response.read())
                if alive is not None and response.content_type == "text/event-stream":
                    payload = await _read_stream(response, alive)
                else:
                    payload = json.loads(await response.read())
            return wire.read(payload, request, attempts)
        except Fault:
            raise
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            raise Fault(Act.RETRY, "bad_response", "the answer is no JSON") from None
        except Exception as error:
            # Whatever one answer does to its reader is the trouble of one row.
            told = f"the answer cannot be read: {type(error).__name__}: {error}"
            raise from_exception(error) or Fault(Act.RETRY, "bad_response", told) from None

    def stopping(self, endpoint: Endpoint, fault: Fault) -> ModelError:
        """The error of a server that answers nobody."""
        said = self.clean(fault.text)
        if fault.kind == "refused_key":
            held = "holds a key that it refuses" if self._secret is not None else "is not set"
            return ModelError(f"endpoint {endpoint.label}: access denied ({said}). The environment variable "
                              f"{self._variable} {held}: set it, or name another in `runtime.model.key`")
        if fault.kind == "refused":
            return ModelError(f"endpoint {endpoint.label}: access denied ({said}), and it has answered nobody yet. "
                              f"Check the key in the environment variable {self._variable} and what the account may "
                              "use; if it refuses these prompts only, take them out")
        if fault.kind == "no_credit":
            return ModelError(f"endpoint {endpoint.label}: the account has no credit left ({said}). What was answered "
                              "is kept; the same command goes on from there")
        return ModelError(f"endpoint {endpoint.label} does not serve this ({said}). Check `runtime.model.endpoint` (a "
                          "base URL such as http://host:8000/v1) and `served_name`")

    def clean(self, text: str) -> str:
        """A server's words without the key."""
        return clean(text, self._secret)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _proxy(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.netloc not in self._proxies:
            own = parts.hostname is None or _is_own(parts.hostname) or proxy_bypass(parts.hostname)
            self._proxies[parts.netloc] = None if own else getproxies().get(parts.scheme)
        return self._proxies[parts.netloc]


def read_key(variable: str) -> str | None:
    """The API key in an environment variable, or None.

    Raises:
        ModelError: what it holds can be no key.
    """
    key = os.environ.get(variable, "").strip()
    if not all("!" <= char <= "~" for char in key):
        raise ModelError(f"the environment variable {variable} holds no API key: blanks or characters that a header "
                         "cannot carry are in it")
    return key or None


async def _read_stream(response: aiohttp.ClientResponse, alive: Callable[[int], None]) -> dict[str, Any]:
    stream = Stream()
    async for data in response.content.iter_any():
        before = stream.pieces
        stream.feed(data)
        alive(stream.pieces - before)
    return stream.end()


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
