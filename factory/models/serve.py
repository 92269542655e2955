"""A `vllm serve` on this machine, looked after: found or started, waited for, started again once, stopped.

A step with `endpoint: managed` first looks for a server that `factory serve` keeps for the same model (`Shared`): it is
noted in a small file that only this user can read. Otherwise it starts one of its own (`Managed`), on a free port of
127.0.0.1, which ends with the step, however the step ends.

Whoever answers at a port need not be the server that was started for it. So each has a second name, its mark, which it
lists among its models: a server without the mark is somebody else's, and is asked nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
_PORT_SECONDS = 10.0  # until the port of a server that was killed is free again
_MOST_BYTES = 1 << 20
_OURS = {"port": "`--port` of `factory serve`", "served-model-name": "`runtime.served_name`"}


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
    """A server of this process. `port` 0 takes a free one, which stays the same when the server is started again.
    `context` is how many tokens it sees, `mark` the name that it alone has.

    Raises:
        ModelError: another server has the port; and as `serve`.
    """

    def __init__(self, model: ResolvedModel, runtime: ModelRuntime, port: int = 0):
        self.name, self.mark = runtime.served_name or model.name, f"start-{uuid.uuid4().hex}"
        self.port, self._port_named = port or _free_port(), bool(port)
        self.url = f"http://{HOST}:{self.port}/v1"
        self.context: int | None = None
        self._key = _wanted_key(runtime)
        self._arguments = arguments(model, runtime, [self.name, self.mark], self.port)
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
            if self._hosted.alive and self._answers():
                return
            if self._starts > 1:
                raise BackendDied(f"the server of model {self.name} died again: it {self._hosted.ending()}")
            self._hosted.close()
            self._start(_PORT_SECONDS)

    def close(self) -> None:
        """See `Served`."""
        self._closed = True
        with self._handling:
            self._hosted.close()

    def _start(self, patience: float = 0.0) -> None:
        """Start the server and wait until it answers; `patience` is how long its port may be taken, in seconds."""
        if not _await_port(self.port, patience):
            raise self._taken()
        with self._handling:
            if self._closed:
                raise BackendDied(f"the server of model {self.name} has been closed")
            self._starts += 1
            self._hosted = Hosted("serve", self._arguments, self._environment)
        try:
            while not self._answers():
                if self._closed:
                    raise BackendDied(f"the server of model {self.name} has been closed")
                if not self._hosted.alive:
                    raise self._failure()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            with self._handling:
                self._hosted.close()
            raise

    def _answers(self) -> bool:
        """Whether it answers, and not another server at its port."""
        if not healthy(self.url):
            return False
        served = _listed(self.url, self._key)
        if served is not None and self.mark not in served:
            raise self._taken()
        if served is not None:
            self.context = served[self.mark]
        return served is not None

    def _taken(self) -> ModelError:
        kind = ModelError if self._port_named else BackendDied
        return kind(f"the server of model {self.name} cannot have port {self.port} of {HOST}: another program listens "
                    "there. End that program, or name another `--port` (0 takes a free one)")

    def _failure(self) -> ModelError:
        code = self._hosted.process.returncode
        kind = ModelError if code > 0 else BackendDied
        return kind(f"the server of model {self.name} did not start: it {self._hosted.ending()}")


class Shared:
    """A server that a `factory serve` keeps; it outlives whoever uses it. `key` is sent in case it wants one."""

    def __init__(self, url: str, name: str, pid: int, mark: str, key: str | None = None):
        self.url, self.name, self._pid, self._mark, self._key = url, name, pid, mark, key
        self._closed = False

    def answers(self) -> bool:
        """Whether its keeper runs and it answers, and not another server at its port."""
        return _runs(self._pid) and healthy(self.url) and self._mark in (_listed(self.url, self._key) or ())

    def revive(self) -> None:
        """See `Served`: its keeper starts it again; this waits for it."""
        until = time.monotonic() + _SHARED_SECONDS
        while not self.answers():
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
    return find(model, runtime) or Managed(model, runtime)


def arguments(model: ResolvedModel, runtime: ModelRuntime, names: Sequence[str], port: int) -> list[str]:
    """The command line of `vllm serve`; `runtime.options` are its own options, and win.

    Raises:
        ModelError: an option for what is set elsewhere; and as `local.context`.
    """
    for key in runtime.options:
        if key.replace("_", "-") in _OURS:
            raise ModelError(f"model {model.name}: `runtime.options.{key}` is not for a managed server: set "
                             f"{_OURS[key.replace('_', '-')]} instead")
    found: dict[str, Any] = {
        "host": HOST, "port": port, "max_model_len": local.context(model, runtime),
        "tensor_parallel_size": runtime.tensor_parallel, "data_parallel_size": runtime.data_parallel,
        "generation_config": "vllm",  # what a request leaves out is off, not the model's own taste
        "enable_prefix_caching": True, "disable_uvicorn_access_log": True}
    if model.kind == "hub":
        found |= {"revision": model.spec.revision, "tokenizer_revision": model.spec.revision}
    if runtime.batch is not None:
        found["max_num_seqs"] = runtime.batch
    if runtime.dtype != "auto":
        found["dtype"] = runtime.dtype
    line = ["--model", str(local.folder(model)), "--served-model-name", *names]
    for key, value in {**found, **runtime.options}.items():
        option = key.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{option}" if value else f"--no-{option}")
        else:
            line += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return line


def healthy(url: str) -> bool:
    """Whether the server at a base URL on this machine says that it can answer."""
    answer = _get(url.removesuffix("/v1") + "/health")
    return answer is not None and answer[0] == 200


def find(model: ResolvedModel, runtime: ModelRuntime) -> Shared | None:
    """The server that a `factory serve` of this user keeps for the model, if it runs and answers, and sees as many
    tokens as are wanted: `runtime.context`, or all that the model sees.

    Raises:
        ModelError: as `local.context`.
    """
    try:
        note = json.loads(noted(model).read_text(encoding="utf-8"))
        context, key = int(note["context"]), os.environ.get(runtime.key, "").strip() or None
        found = Shared(str(note["url"]), str(note["name"]), int(note["pid"]), str(note["mark"]), key)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not found.url.startswith(f"http://{HOST}:") or not found.answers():
        return None
    return found if context >= local.context(model, runtime) else None


@contextmanager
def announced(model: ResolvedModel, served: Managed) -> Iterator[None]:
    """Note a server for `find` as long as the block runs."""
    path = noted(model)
    note = {"url": served.url, "name": served.name, "pid": os.getpid(), "mark": served.mark, "context": served.context,
            "identity": model.identity, "started": time.time()}
    scratch = path.with_suffix(f".{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(note, file)
    os.replace(scratch, path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text(encoding="utf-8"))["mark"] == served.mark:  # not a later keeper's
                path.unlink()


def noted(model: ResolvedModel) -> Path:
    """Where a server of this model is noted, in a folder that only this user can read, which is made when missing.

    Raises:
        OSError: the folder cannot be made, or is not this user's own.
    """
    above = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        above = Path(tempfile.gettempdir())
    own = above / f"dataset-factory-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or own.is_symlink():
        raise PermissionError(f"{own} belongs to somebody else or can be written by others: remove it")
    name = hashlib.sha256(json.dumps(model.identity, sort_keys=True).encode()).hexdigest()[:32]
    return own / f"serve-{name}.json"


def _listed(url: str, key: str | None) -> dict[str, Any] | None:
    """The models of a server at a base URL and how many tokens each sees, where it says so. None while it does not
    answer; nothing where it refuses the key or answers something else than a list of models."""
    answer = _get(url + "/models", key)
    if answer is None or answer[0] >= 500:
        return None
    try:
        return {str(one["id"]): one.get("max_model_len") for one in json.loads(answer[1])["data"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _get(url: str, key: str | None = None) -> tuple[int, bytes] | None:
    """Status and body of what a server of this machine answers, None where it does not."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        question = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
        with direct.open(question, timeout=_ANSWER_SECONDS) as answer:
            return answer.status, answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _wanted_key(runtime: ModelRuntime) -> str | None:
    """The API key that vLLM will ask for, if any."""
    given = runtime.options.get("api_key", runtime.options.get("api-key")) or os.environ.get("VLLM_API_KEY")
    first = given[0] if isinstance(given, list) else given
    return str(first) if first else None


def _await_port(port: int, seconds: float) -> bool:
    """Whether a port of this machine is free, or becomes so."""
    until = time.monotonic() + seconds
    while True:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended may linger
            try:
                tried.bind((HOST, port))
                tried.listen(1)
                return True
            except OSError:
                if time.monotonic() >= until:
                    return False
        time.sleep(_POLL_SECONDS)


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
