"""What tests of the endpoint backend share: requests, and the backend opened for some URLs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")

from factory.models.base import Completion, Request, Sampling
from factory.models.openai import open_openai
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve

KEY = "sk-test-0123456789"


def ask(number: int, text: str = "", **sampling: Any) -> Request:
    return Request(f"{number:x}", number, Sampling(**sampling), messages=({"role": "user", "content": text or
                                                                           f"number {number}"},))


@contextmanager
def opened(*urls: str, model: str = "scripted", **runtime: Any) -> Iterator[Any]:
    backend = open_openai(resolve(ModelSpec(served=model, revision="r1"), Path("/")),
                          ModelRuntime(endpoint=urls, **runtime))
    try:
        yield backend
    finally:
        backend.close()


def answers(backend: Any, requests: Iterator[Request] | list[Request]) -> dict[str, Completion]:
    found = [one for one in backend.generate(iter(requests)) if one is not None]
    assert len({one.key for one in found}) == len(found)
    return {one.key: one for one in found}


class _Refuser(BaseHTTPRequestHandler):
    """Lists what the server's `listing` is, and answers what its `reply` says."""

    def do_GET(self) -> None:
        served: Any = self.server
        self._send(200 if self.path == "/v1/models" else 404, served.listing)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served: Any = self.server
        served.bodies.append(body)
        status, answer = served.reply(body)
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 307:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/v1/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


@contextmanager
def refusing(reply: Callable[[dict[str, Any]], tuple[int, Any]],
             listing: Any = None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    served: Any = _Server(("127.0.0.1", 0), _Refuser)
    served.reply, served.bodies, served.listing = reply, [], listing or {"data": [{"id": "scripted"}]}
    thread = threading.Thread(target=served.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_address[1]}/v1", served.bodies
    finally:
        served.shutdown()
        served.server_close()
        thread.join()
