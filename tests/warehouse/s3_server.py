"""An S3 server on loopback: moto in a process of its own, made to decide one request at a time.

moto looks whether a key exists and stores it in two steps; S3 does it in one. A lock around each request gives the
tests a store that keeps its word. Run as a script, it prints its port and serves until it is killed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable
from typing import Any

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true"}


class S3Server:
    """Starts the server and makes a bucket."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the S3 server ended at once, with {self.process.wait()}")
        self.endpoint = f"http://127.0.0.1:{port}"
        self.make_bucket(BUCKET)

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What a store opened on this server needs."""
        return {**KEYS, "AWS_ENDPOINT_URL": endpoint or self.endpoint}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with one_at_a_time:
            return list(application(environ, start_response))

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any, **__: Any) -> None:
            """Says nothing."""

    server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
