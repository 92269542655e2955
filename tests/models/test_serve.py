"""`factory serve` with a tiny model, found by a backend with `endpoint: managed`; and what a note of a server is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from engine_model import below, gone, make_model

from factory.engine.errors import BackendDied
from factory.models.base import Completion, Request
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.serve import Shared, _note, arguments, find
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
    served = find(model)
    assert served is not None
    assert keeper.stdout is not None
    note = _note(model)
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
    assert find(model) is None
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
    json.dumps({"url": "http://127.0.0.1:1/v1", "name": "m", "pid": os.getpid()}),
    json.dumps({"url": "http://example.invalid:80/v1", "name": "m", "pid": os.getpid()}),
    json.dumps({"url": "http://127.0.0.1:1/v1", "name": "m", "pid": 2**31 - 2})])
def test_a_note_of_no_living_server_counts_for_nothing(model: ResolvedModel, text: str) -> None:
    _note(model).write_text(text)
    assert find(model) is None


def test_a_folder_of_notes_that_others_can_write_is_not_read(model: ResolvedModel, own_notes: Path) -> None:
    _note(model).write_text(json.dumps({"url": "http://127.0.0.1:1/v1", "name": "m", "pid": os.getpid()}))
    _note(model).parent.chmod(0o777)
    assert find(model) is None


def test_a_server_whose_keeper_is_gone_is_not_waited_for() -> None:
    with pytest.raises(BackendDied, match="factory serve"):
        Shared("http://127.0.0.1:1/v1", "m", 2**31 - 2).revive()


def test_settings_become_the_servers_arguments(model: ResolvedModel) -> None:
    line = arguments(model, ModelRuntime(context=100, batch=3, dtype="bfloat16", tensor_parallel=2,
                                         options={"enable_prefix_caching": False, "seed": 5}), "name", 8000)
    pairs = dict(pairwise(line))
    assert pairs["--model"] == str(model.location)
    assert [pairs[f"--{key}"] for key in ("host", "max-model-len", "max-num-seqs", "dtype", "tensor-parallel-size",
                                          "seed")] == ["127.0.0.1", "100", "3", "bfloat16", "2", "5"]
    assert "--no-enable-prefix-caching" in line
    assert "--enable-prefix-caching" not in line
