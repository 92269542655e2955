"""A `vllm serve` on this machine, looked after: found or started, waited for, started again once, stopped.

A step with `endpoint: managed` first looks for a server that `factory serve` keeps for the same model (`Shared`): it is
noted in a small file that only this user can read. Otherwise it starts one of its own (`Managed`), on a free port of
127.0.0.1, which ends with the step, however the step ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from factory.engine.errors import BackendDied, ModelError
from factory.models import local
from factory.models.hosting import Hosted, environment
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel

HOST = "127.0.0.1"
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_SHARED_SECONDS = 1800.0


class Served(Protocol):
    """A server that answers. `url` is its base URL, `name` the model's name there."""

    url: str
    name: str

    def revive(self) -> None:
        """Called when the server cannot be reached: returns when it answers again.

        Raises:
            BackendDied: it died before, and is not started a second time.
        """

    def close(self) -> None:
        """Stop the server, where it is this process's own. May be called at any time, and again."""


class Managed:
    """A server of this process. `port` 0 takes a free one, which stays the same when the server is started again."""

    def __init__(self, model: ResolvedModel, runtime: ModelRuntime, port: int = 0):
        self.name = runtime.served_name or model.name
        self.port = port or _free_port()
        self.url = f"http://{HOST}:{self.port}/v1"
        self._arguments = arguments(model, runtime, self.name, self.port)
        self._environment = environment(runtime)
        self._starts, self._closed = 0, False
        self._reviving, self._handling = threading.Lock(), threading.Lock()
        self._start()

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._hosted.alive

    def revive(self) -> None:
        """See `Served`."""
        with self._reviving:
            if self._hosted.alive and healthy(self.url):
                return
            if self._starts > 1:
                raise BackendDied(f"the server of model {self.name} died again: it {self._hosted.ending()}")
            self._hosted.close()
            self._start()

    def close(self) -> None:
        """See `Served`."""
        self._closed = True
        with self._handling:
            self._hosted.close()

    def _start(self) -> None:
        """Start the server and wait until it answers."""
        with self._handling:
            if self._closed:
                raise BackendDied(f"the server of model {self.name} has been closed")
            self._starts += 1
            self._hosted = Hosted("serve", self._arguments, self._environment)
        try:
            while not healthy(self.url):
                if self._closed:
                    raise BackendDied(f"the server of model {self.name} has been closed")
                if not self._hosted.alive:
                    raise self._failure()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            with self._handling:
                self._hosted.close()
            raise

    def _failure(self) -> ModelError:
        code = self._hosted.process.returncode
        kind = ModelError if code > 0 else BackendDied
        return kind(f"the server of model {self.name} did not start: it {self._hosted.ending()}")


class Shared:
    """A server that a `factory serve` keeps; it outlives whoever uses it."""

    def __init__(self, url: str, name: str, pid: int):
        self.url, self.name, self._pid = url, name, pid
        self._closed = False

    def revive(self) -> None:
        """See `Served`: its keeper starts it again; this waits for it."""
        until = time.monotonic() + _SHARED_SECONDS
        while not healthy(self.url):
            if self._closed or not _runs(self._pid) or time.monotonic() > until:
                raise BackendDied(f"the server of model {self.name} at {self.url} is gone: start `factory serve` again")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """See `Served`."""
        self._closed = True


def serve(model: ResolvedModel, runtime: ModelRuntime) -> Served:
    """The server that `factory serve` keeps for this model, or one of this process. Starting may take minutes.

    Raises:
        ModelError: the model cannot be served (its kind, its files, vLLM's arguments).
        BackendDied: the server was killed while it started.
        MissingExtraError: vllm is not installed.
    """
    return find(model) or Managed(model, runtime)


def arguments(model: ResolvedModel, runtime: ModelRuntime, name: str, port: int) -> list[str]:
    """The command line of `vllm serve`; `runtime.options` are its own options, and win."""
    found: dict[str, Any] = {
        "host": HOST, "port": port, "served_model_name": name, "max_model_len": local.context(model, runtime),
        "tensor_parallel_size": runtime.tensor_parallel, "data_parallel_size": runtime.data_parallel,
        "generation_config": "vllm",  # what a request leaves out is off, not the model's own taste
        "enable_prefix_caching": True, "disable_uvicorn_access_log": True}
    if model.kind == "hub":
        found |= {"revision": model.spec.revision, "tokenizer_revision": model.spec.revision}
    if runtime.batch is not None:
        found["max_num_seqs"] = runtime.batch
    if runtime.dtype != "auto":
        found["dtype"] = runtime.dtype
    line = ["--model", str(local.folder(model))]
    for key, value in {**found, **runtime.options}.items():
        option = key.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{option}" if value else f"--no-{option}")
        else:
            line += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return line


def healthy(url: str) -> bool:
    """Whether the server at a base URL on this machine says that it can answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url.removesuffix("/v1") + "/health", timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def find(model: ResolvedModel) -> Shared | None:
    """The server that a `factory serve` of this user keeps for the model, if it runs and answers."""
    try:
        note = json.loads(_note(model).read_text(encoding="utf-8"))
        found = Shared(str(note["url"]), str(note["name"]), int(note["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.url.startswith(f"http://{HOST}:") and _runs(found._pid) and healthy(found.url) else None


def announce(model: ResolvedModel, served: Managed) -> Path:
    """Note a server for `find`; gives the file to remove at the end."""
    path = _note(model)
    note = {"url": served.url, "name": served.name, "pid": os.getpid(), "identity": model.identity,
            "started": time.time()}
    scratch = path.with_suffix(f".{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(note, file)
    os.replace(scratch, path)
    return path


def _note(model: ResolvedModel) -> Path:
    """Where a server of this model is noted, in a folder that only this user can write."""
    above = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    own = above / f"dataset-factory-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or own.is_symlink():
        raise PermissionError(f"{own} belongs to somebody else or can be written by others: remove it")
    name = hashlib.sha256(json.dumps(model.identity, sort_keys=True).encode()).hexdigest()[:32]
    return own / f"serve-{name}.json"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])
