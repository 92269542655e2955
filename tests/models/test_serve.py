"""`factory serve` with a tiny model, found by a backend with `endpoint: managed`; and what a note of a server is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from engine_model import CONTEXT, below, gone, make_model

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion, Request
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.serve import Managed, Shared, _free_port, arguments, find, noted
from factory.models.spec import ModelSpec, ResolvedModel, resolve

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> ResolvedModel:
    return resolve(ModelSpec(path=str(make_model(tiny, tmp_path / "model"))), Path("/"))


@pytest.fixture(autouse=True)
def own_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def keeper(model: ResolvedModel) -> Iterator[subprocess.Popen[str]]:
    """A `factory serve` of the model that answers."""
    command = [sys.executable, "-m", "factory.cli", "serve", str(model.location), "--set", "batch=8"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    yield process
    process.kill()
    process.wait()


def note(url: str, context: int = CONTEXT, mark: str = "start-1", pid: int | None = None) -> str:
    """What `factory serve` notes."""
    return json.dumps({"url": url, "name": "m", "pid": pid or os.getpid(), "context": context, "mark": mark})


@contextmanager
def answering(*names: str, port: int = 0, key: str = "") -> Iterator[int]:
    """A server that is well and serves these models, to those who have the key; its port."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = self.path != "/health" and key and self.headers["Authorization"] != f"Bearer {key}"
            listed = json.dumps({"data": [{"id": name, "max_model_len": 99} for name in names]}).encode()
            self.send_response(401 if refused else 200)
            self.end_headers()
            self.wfile.write(b"" if refused or self.path != "/v1/models" else listed)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask_all(model: ResolvedModel, requests: list[Request]) -> dict[str, Completion]:
    backend = open_backend(model, ModelRuntime(endpoint="managed"))
    try:
        return {one.key: one for one in backend.generate(iter(requests)) if one is not None}
    finally:
        backend.close()


@needs_vllm
@pytest.mark.slow
def test_a_kept_server_is_found_started_again_once_and_stopped(
        keeper: subprocess.Popen[str], model: ResolvedModel, ask: Callable[..., Request], own_notes: Path) -> None:
    pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")
    served = find(model, ModelRuntime())
    assert served is not None
    assert keeper.stdout is not None
    note = noted(model)
    assert note.stat().st_mode & 0o777 == 0o600
    requests = [ask(f"q{number}", max_tokens=8) for number in range(20)]
    first = ask_all(model, requests)
    assert all(one.error is None and one.tokens_out for one in first.values())

    processes = below(keeper.pid)[1:]
    os.kill(next(one.pid for one in processes if "serve" in one.cmdline()), signal.SIGKILL)
    assert gone(processes)
    served.revive()
    assert {key: one.text for key, one in ask_all(model, requests).items()} == {
        key: one.text for key, one in first.items()}

    processes = below(keeper.pid)
    keeper.send_signal(signal.SIGINT)
    assert keeper.stdout.read().endswith("stopped\n")
    assert gone(processes)
    assert (keeper.wait(), list(note.parent.iterdir())) == (0, [])
    assert find(model, ModelRuntime()) is None
    with pytest.raises(BackendDied, match="factory serve"):
        served.revive()


@needs_vllm
@pytest.mark.exhaustive
def test_no_server_outlives_a_keeper_that_is_killed(keeper: subprocess.Popen[str]) -> None:
    processes = below(keeper.pid)
    keeper.kill()
    assert gone(processes)


@pytest.mark.parametrize("text", [
    "", "[]", "{", '{"url": "http://127.0.0.1:1/v1"}', '{"url": 1, "name": 2, "pid": "x"}',
    note("http://127.0.0.1:1/v1"), note("http://example.invalid:80/v1"), note("http://127.0.0.1:1/v1", pid=2**31 - 2)])
def test_a_note_of_no_living_server_counts_for_nothing(model: ResolvedModel, text: str) -> None:
    noted(model).write_text(text)
    assert find(model, ModelRuntime()) is None


def test_a_folder_of_notes_that_others_can_write_is_not_read(model: ResolvedModel, own_notes: Path) -> None:
    noted(model).write_text(note("http://127.0.0.1:1/v1"))
    noted(model).parent.chmod(0o777)
    assert find(model, ModelRuntime()) is None


def test_a_server_whose_keeper_is_gone_is_not_waited_for() -> None:
    with pytest.raises(BackendDied, match="factory serve"):
        Shared("http://127.0.0.1:1/v1", "m", 2**31 - 2, "start-1").revive()


def test_settings_become_the_servers_arguments(model: ResolvedModel) -> None:
    line = arguments(model, ModelRuntime(context=100, batch=3, dtype="bfloat16", tensor_parallel=2,
                                         options={"enable_prefix_caching": False, "seed": 5}), ["name", "mark"], 8000)
    named = line.index("--served-model-name")
    assert line[named + 1:named + 3] == ["name", "mark"]
    pairs = dict(pairwise(line))
    assert pairs["--model"] == str(model.location)
    assert [pairs[f"--{key}"] for key in ("host", "max-model-len", "max-num-seqs", "dtype", "tensor-parallel-size",
                                          "seed")] == ["127.0.0.1", "100", "3", "bfloat16", "2", "5"]
    assert "--no-enable-prefix-caching" in line
    assert "--enable-prefix-caching" not in line


@pytest.mark.parametrize("option", ["port", "served_model_name", "served-model-name"])
def test_options_do_not_say_what_a_managed_server_is_found_by(model: ResolvedModel, option: str) -> None:
    with pytest.raises(ModelError, match=option):
        arguments(model, ModelRuntime(options={option: "x"}), ["name", "mark"], 8000)


def test_a_kept_server_is_used_by_those_for_whom_it_sees_enough(model: ResolvedModel) -> None:
    with answering("m", "start-1") as port:
        for kept, wanted, found in [(CONTEXT, None, True), (100, None, False), (100, 101, False), (100, 100, True),
                                    (CONTEXT, 10**6, True)]:
            noted(model).write_text(note(f"http://127.0.0.1:{port}/v1", kept))
            assert (find(model, ModelRuntime(context=wanted)) is not None) == found


def test_another_server_at_a_noted_port_counts_for_nothing(
        model: ResolvedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("m", "start-2") as port:
        noted(model).write_text(note(f"http://127.0.0.1:{port}/v1"))
        assert find(model, ModelRuntime()) is None
    with answering("m", "start-1", key="secret") as port:
        noted(model).write_text(note(f"http://127.0.0.1:{port}/v1"))
        assert find(model, ModelRuntime(key="NO_SUCH_KEY")) is None
        monkeypatch.setenv("SUCH_KEY", "secret")
        assert find(model, ModelRuntime(key="SUCH_KEY")) is not None


def test_a_port_that_is_taken_is_named(model: ResolvedModel) -> None:
    with answering("m") as port, pytest.raises(ModelError, match=str(port)):
        Managed(model, ModelRuntime(), port)


@needs_vllm
def test_a_server_that_takes_the_port_during_the_start_is_not_believed(model: ResolvedModel) -> None:
    port, done = _free_port(), threading.Event()

    def servers() -> list[psutil.Process]:
        return [one for one in psutil.Process().children() if "factory.models.vllm_host" in one.cmdline()]

    def take() -> None:
        while not servers():
            time.sleep(0.005)
        with answering("m", port=port):
            done.wait(60)

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    with pytest.raises(ModelError, match=f"port {port}"), closing(Managed(model, ModelRuntime(), port)):
        pass
    done.set()
    taker.join()
    assert not servers()


def test_without_a_runtime_folder_notes_are_in_the_temporary_one(
        model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for missing in ("none", "file/none"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / missing))
        assert noted(model).parent.parent == tmp_path
    with answering("m", "start-1") as port:
        noted(model).write_text(note(f"http://127.0.0.1:{port}/v1"))
        assert find(model, ModelRuntime()) is not None
