"""An HTTP proxy in front of the S3 server that spoils chosen requests, as networks and gateways do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Fault = Callable[["_Handler", bytes], bool]
"""Does something to one request; True when the request is done with."""


def answers(status: int) -> Fault:
    """Answer with this status instead of asking the server."""
    def spoil(handler: _Handler, body: bytes) -> bool:
        handler.reply(status, {}, b"<Error><Code>Injected</Code></Error>")
        return True
    return spoil


def answers_after(status: int) -> Fault:
    """Let the server do it, then answer with this status."""
    def spoil(handler: _Handler, body: bytes) -> bool:
        handler.forward(body)
        return answers(status)(handler, body)
    return spoil


def loses_answer(handler: _Handler, body: bytes) -> bool:
    """Let the server do it, then break the connection."""
    handler.forward(body)
    handler.close_connection = True
    handler.connection.close()
    return True


def loses_request(handler: _Handler, body: bytes) -> bool:
    """Break the connection before the server hears of it."""
    handler.close_connection = True
    handler.connection.close()
    return True


def hangs(seconds: float) -> Fault:
    """Let the server do it, and keep the answer for so long."""
    def spoil(handler: _Handler, body: bytes) -> bool:
        handler.forward(body)
        time.sleep(seconds)
        return loses_request(handler, body)
    return spoil


def ignores_conditions(handler: _Handler, body: bytes) -> bool:
    """Pass the request on without its If-None-Match, as some gateways do."""
    del handler.headers["If-None-Match"]
    return False


class FaultProxy:
    """`plan` holds the faults of the next requests of one method (None: leave alone); then `always` applies."""

    def __init__(self, upstream: str):
        self.upstream = urlsplit(upstream).netloc
        self.method, self.plan, self.always = "PUT", list[Fault | None](), None
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    always: Fault | None

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            if method == self.method and self.plan:
                return self.plan.pop(0)
            return self.always

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.next_fault(self.command, self.path)
        if fault is not None and fault(self, body):
            return
        self.reply(*self.forward(body))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            upstream.close()

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
