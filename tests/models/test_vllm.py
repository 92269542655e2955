"""vLLM on a CPU with a tiny model: one engine for all tests but the exhaustive ones, for a start takes a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_model import CONTEXT, below, gone, make_model

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve

pytest.importorskip("vllm", reason="vllm is not installed")
Ask = Callable[..., Request]

PROMPTS = ["The sum of 2 and 3", "ümlaut 😀", "a", "x" * 70, "<|user|>chat<|end|>"]


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny, tmp_path_factory.mktemp("engine-model"))


def open_engine(folder: Path, **options: Any) -> Any:
    from factory.models.vllm import open_vllm

    runtime = ModelRuntime(batch=8, options={"block_size": 32, **options})
    return open_vllm(resolve(ModelSpec(path=str(folder)), Path("/")), runtime)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    backend = open_engine(folder)
    yield backend
    backend.close()


def answers(backend: Any, requests: list[Request]) -> dict[str, Completion]:
    found = [one for one in backend.generate(iter(requests)) if one is not None]
    assert sorted(one.key for one in found) == sorted(request.key for request in requests)
    return {one.key: one for one in found}


def test_greedy_answers_are_those_of_transformers(engine: Any, folder: Path, ask: Ask) -> None:
    requests = [ask(text, max_tokens=12) for text in PROMPTS]
    requests += [ask(text, key=f"{text}/think", max_tokens=12, prefill="<think>\n") for text in PROMPTS]
    requests.append(Request("chat", 1, Sampling(max_tokens=12), messages=({"role": "user", "content": "hi"},)))
    requests += [Request(f"stop/{mark}", 1, Sampling(max_tokens=12, stop=(mark,)), prompt="The sum")
                 for mark in ("e", "</think>", "no such words")]
    other = open_backend(resolve(ModelSpec(path=str(folder)), Path("/")),
                         ModelRuntime(backend="transformers", device="cpu", dtype="float32"))
    try:
        found = {key: replace(one, cached_in=0) for key, one in answers(engine, requests).items()}
        assert found == answers(other, requests)
    finally:
        other.close()


def test_a_stop_string_that_is_written_cuts_the_text(engine: Any, ask: Ask) -> None:
    whole = answers(engine, [ask("The sum", max_tokens=30)])["The sum/0"].text
    mark = whole[8:10]
    cut = answers(engine, [ask("The sum", max_tokens=30, stop=(mark,))])["The sum/0"]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(mark)], "stop")
    assert cut.tokens_out < 30


def test_a_row_that_cannot_be_asked_takes_no_other_with_it(engine: Any, ask: Ask) -> None:
    found = answers(engine, [
        ask("y" * CONTEXT, key="long"), ask("y" * (CONTEXT - 1), key="full", max_tokens=50), ask("", key="empty"),
        Request("missing", 1, Sampling()), ask("\ud800", key="surrogate"), ask("fine", key="fine", max_tokens=3)])
    assert (found["long"].rejected or "").startswith("prompt_too_long: ")
    assert found["long"].tokens_in == CONTEXT
    assert (found["full"].tokens_out, found["full"].error, found["full"].rejected) == (1, None, None)
    assert (found["empty"].rejected or "").startswith("prompt_empty: ")
    assert (found["missing"].rejected or "").startswith("prompt_missing: ")
    assert (found["surrogate"].error or "").startswith("not_unicode: ")
    assert found["fine"].tokens_out == 3 or found["fine"].finish_reason == "stop"


def test_samples_depend_on_their_seed_alone_and_share_their_prompt(engine: Any, ask: Ask) -> None:
    def samples(count: int) -> list[Request]:
        return [ask("z" * 80, key=str(seed), seed=2**62 + seed, temperature=1.0, top_p=0.95, top_k=40, max_tokens=10)
                for seed in range(count)]

    alone, crowd = answers(engine, samples(2)), answers(engine, samples(40))
    assert all(crowd[key].text == alone[key].text for key in alone)
    assert len({one.text for one in crowd.values()}) > 20
    assert sum(one.cached_in for one in crowd.values()) >= 39 * 64
    assert engine.life >= sum(one.tokens_out for one in crowd.values())


def test_it_is_fed_while_it_works_and_ticks(engine: Any, ask: Ask) -> None:
    pulled: list[int] = []

    def source() -> Iterator[Request]:
        for number in range(200):
            pulled.append(number)
            yield ask(f"q{number}", max_tokens=4)

    seen, most = 0, 0
    for one in engine.generate(source()):
        seen += one is not None
        most = max(most, len(pulled) - seen)
    assert seen == 200
    assert most <= 8 + 16


def test_after_stop_what_was_begun_is_answered_and_no_more(engine: Any, ask: Ask) -> None:
    stream = engine.generate(iter([ask(f"s{number}", max_tokens=40) for number in range(100)]))
    first = next(one for one in stream if one is not None)
    engine.stop()
    rest = [one for one in stream if one is not None]
    assert all(one.error is None and one.tokens_out for one in [first, *rest])
    assert len(rest) < 50
    processes = below(engine._hosted.process.pid)
    engine.close()
    assert gone(processes)


def test_what_cannot_run_says_so_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    from factory.models.vllm import open_vllm

    with pytest.raises(ModelError, match="replay"):
        open_vllm(resolve(ModelSpec(replay={"rules": [{"text": "x"}]}), tmp_path), ModelRuntime())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="tokenizer"):
        open_vllm(resolve(ModelSpec(path=str(tmp_path)), Path("/")), ModelRuntime())


@pytest.mark.exhaustive
def test_arguments_that_vllm_refuses_are_an_error_with_the_end_of_its_log(folder: Path) -> None:
    with pytest.raises(ModelError, match="no_such_option"):
        open_engine(folder, no_such_option=1)


@pytest.mark.exhaustive
def test_the_engine_is_killed(folder: Path, ask: Ask) -> None:
    backend = open_engine(folder)
    processes = below(backend._hosted.process.pid)
    try:
        stream = backend.generate(iter([ask(f"k{number}", max_tokens=200) for number in range(100)]))
        next(stream)
        core = next(one for one in processes if "EngineCore" in one.name())
        os.kill(core.pid, signal.SIGKILL)
        with pytest.raises(BackendDied, match="EngineCore"):
            list(stream)
    finally:
        backend.close()
    assert gone(processes)


_DRIVER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_vllm import open_engine
if __name__ == "__main__":
    engine = open_engine(Path(sys.argv[1]))
    print(engine._hosted.process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.exhaustive
def test_no_process_outlives_a_driver_that_is_killed(folder: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, str(folder), str(Path(__file__).parent)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    processes = below(int(driver.stdout.readline()))
    assert len(processes) > 1
    driver.kill()
    driver.wait()
    assert gone(processes)
