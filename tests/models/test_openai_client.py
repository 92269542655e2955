"""The endpoint backend against real servers on loopback, kind and unkind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")

from openai_kit import KEY, answers, ask, opened, refusing

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.openai.client import EndpointBackend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scripted_server.py"


class Scripted:
    """A server process of its own; it dies with this one."""

    def __init__(self, *options: str, **environment: str):
        self.options, self.environment, self.port = options, environment, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(SCRIPT), "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, **self.environment})
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.url, self.port = told["url"], told["port"]

    def script(self, *rules: dict[str, Any]) -> None:
        urllib.request.urlopen(f"{self.url[:-3]}/_script", json.dumps(rules).encode()).close()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url[:-3]}/_stats") as response:
            return dict(json.load(response))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def shared() -> Iterator[Scripted]:
    server = Scripted("--words", "4", "12", "--key", "TEST_KEY", TEST_KEY=KEY)
    yield server
    server.end()


@pytest.fixture
def server(shared: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shared.script()
    return shared


def test_all_are_answered_once_and_pulled_little_ahead(server: Scripted) -> None:
    pulled, done, most = 0, 0, 0

    def feed() -> Iterator[Request]:
        nonlocal pulled
        for number in range(400):
            pulled += 1
            yield ask(number)

    with opened(server.url, concurrency=8) as backend:
        texts = {}
        for one in backend.generate(feed()):
            if one is not None:
                done += 1
                most = max(most, pulled - done)
                texts[one.key] = one.text
        assert backend.life > 400
        again = answers(backend, [ask(number) for number in range(400)])
    assert len(texts) == 400
    assert most <= 8 + 2 * 64
    assert server.stats()["most_in_flight"] <= 8
    assert {key: one.text for key, one in again.items()} == texts
    with opened(server.url, stream=True) as backend:
        streamed = answers(backend, [ask(number) for number in range(400)])
    assert {key: one.text for key, one in streamed.items()} == texts
    assert {key: one.tokens_out for key, one in streamed.items()} == {k: one.tokens_out for k, one in again.items()}


@pytest.mark.parametrize(("rule", "stream", "kind"), [
    ({"do": "status", "status": 500}, False, "server_error"), ({"do": "reset"}, False, "connection"),
    ({"do": "half_body"}, False, "connection"), ({"do": "half_stream"}, True, "connection"),
    ({"do": "half_stream", "clean": True}, True, "connection"), ({"do": "wrong_json"}, False, "bad_response"),
    ({"do": "empty_choices"}, False, "empty_choices"), ({"do": "hang"}, False, "timeout")])
def test_faults_cost_attempts_and_then_the_row(server: Scripted, rule: dict[str, Any], stream: bool, kind: str) -> None:
    server.script({**rule, "match": "twice", "times": 1}, {**rule, "match": "always"})
    deadline = 0.5 if kind == "timeout" else 60
    with opened(server.url, attempts=2, stream=stream, deadline=deadline) as backend:
        found = answers(backend, [ask(1, "once"), ask(2, "twice"), ask(3, "always")])
    assert (found["1"].error, found["1"].attempts) == (None, 1)
    assert (found["2"].error, found["2"].attempts) == (None, 2)
    assert str(found["3"].error).startswith(f"{kind}: ")
    assert found["3"].attempts == 2


def test_overload_costs_no_attempt(server: Scripted) -> None:
    server.script({"do": "status", "status": 429, "retry_after": 0.05, "times": 2, "share": 0.2},
                  {"do": "status", "status": 503, "times": 1, "share": 0.2})
    with opened(server.url, attempts=1) as backend:
        found = answers(backend, [ask(number) for number in range(40)])
    assert {(one.error, one.attempts) for one in found.values()} == {(None, 1)}
    assert len(found) == 40


def test_rows_that_cannot_be_asked(server: Scripted) -> None:
    server.script({"do": "context_error", "match": "long", "wording": "openai"},
                  {"do": "status", "status": 400, "match": "bad"})
    with opened(server.url) as backend:
        found = answers(backend, [
            ask(1, "a\ud800b"), ask(2, "long"), ask(3, "bad"), ask(4, "x" * 100_000), ask(5, "\0五"),
            Request("6", 6, Sampling()), Request("7", 7, Sampling(), prompt="")])
    assert str(found["1"].error).startswith("not_unicode: ")
    assert str(found["2"].rejected).startswith("prompt_too_long: ")
    assert str(found["3"].error).startswith("bad_request: ")
    assert (found["3"].attempts, found["2"].attempts) == (1, 1)
    assert str(found["6"].rejected).startswith("prompt_missing: ")
    assert all(found[key].error is found[key].rejected is None for key in "457")


def test_ticks_while_nothing_finishes_and_stop_answers_what_was_begun(server: Scripted) -> None:
    server.script({"do": "slow_first_byte", "seconds": 1.2})
    with opened(server.url, concurrency=4) as backend:
        ticks, found, pulled = 0, [], []

        def feed() -> Iterator[Request]:
            for number in range(10_000):
                pulled.append(f"{number:x}")
                yield ask(number)

        for one in backend.generate(feed()):
            if one is None:
                ticks += 1
                backend.stop()
            else:
                found.append(one)
        assert ticks >= 1
        assert sorted(one.key for one in found) == ["0", "1", "2", "3"]
        assert all(one.error is None for one in found)
        assert len(pulled) <= 200
        assert answers(backend, [ask(1)]) == {}


def test_close_at_any_time_leaves_nothing(server: Scripted) -> None:
    server.script({"do": "hang", "share": 0.5}, {"do": "status", "status": 500, "share": 0.5})
    before = threading.active_count()
    for wait in (0.0, 0.05, 0.3):
        with opened(server.url) as backend:
            ended = threading.Event()

            def run(backend: Any = backend, ended: threading.Event = ended) -> None:
                list(backend.generate(ask(number) for number in range(1000)))
                ended.set()

            thread = threading.Thread(target=run)
            thread.start()
            time.sleep(wait)
            backend.close()
            assert ended.wait(5)
            thread.join()
            backend.close()
    assert threading.active_count() == before
    connections = psutil.Process().net_connections("tcp")
    assert not [one for one in connections if one.raddr and one.raddr.port == server.port]


@pytest.mark.parametrize("rule", [{"do": "hang"}, {"do": "status", "status": 429}])
def test_silence_ends_the_step(server: Scripted, rule: dict[str, Any]) -> None:
    server.script(rule)
    with opened(server.url, silence=1.0) as backend, pytest.raises(BackendDied, match="no server has answered for 1 s"):
        answers(backend, [ask(number) for number in range(5)])


def test_a_server_that_goes_away_for_good() -> None:
    gone = Scripted("--latency", "0.02")
    with opened(gone.url, silence=1.0) as backend:
        found = []

        def run() -> None:
            for one in backend.generate(ask(number) for number in range(100_000)):
                found.append(one)
                if len(found) == 50:
                    gone.end()

        with pytest.raises(BackendDied):
            run()
    assert not any(one is not None and one.error for one in found)


def test_a_managed_server_is_started_again() -> None:
    managed, found, starts = Scripted("--latency", "0.02"), {}, 0

    def revive() -> None:
        nonlocal starts
        starts += 1
        managed.start()

    backend = EndpointBackend([managed.url], "scripted", ModelRuntime(), {}, revive=revive, end=managed.end)
    try:
        for one in backend.generate(ask(number) for number in range(600)):
            if one is not None:
                found[one.key] = one
                if len(found) == 100:
                    managed.end()
    finally:
        backend.close()
    assert starts == 1
    assert len(found) == 600
    assert all(one.error is None for one in found.values())
    assert managed.process.poll() is not None


def test_close_while_a_server_is_being_started() -> None:
    managed, asked, ready = Scripted(), threading.Event(), threading.Event()

    def revive() -> None:
        asked.set()
        ready.wait(30)

    backend = EndpointBackend([managed.url], "scripted", ModelRuntime(), {}, revive=revive, end=managed.end)
    managed.end()
    stream = backend.generate(iter([ask(1)]))
    assert next(stream) is None
    assert asked.wait(10)
    backend.close()
    ready.set()
    assert list(stream) == []


def test_wrong_settings_are_told_at_opening(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(*urls: str, **settings: Any) -> str:
        with pytest.raises(ModelError) as caught, opened(*urls, **settings):
            pass
        return str(caught.value)

    assert "it serves scripted" in problem(server.url, model="scribbled")
    assert f"{server.url}: name that" in problem(server.url[:-3])
    assert "no server answered" in problem("http://127.0.0.1:9/v1", silence=0.2)
    with refusing(lambda _: (500, {}), listing=["scripted"]) as (url, _):
        assert "does not speak the OpenAI protocol" in problem(url)
    assert "hunter2" not in problem("http://me:hunter2@127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-key")
    told = problem(server.url)
    assert "OPENAI_API_KEY" in told
    assert "sk-another-key" not in told
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    assert "two words" not in problem(server.url)


def test_one_of_several_may_be_away_at_opening(server: Scripted) -> None:
    with opened("http://127.0.0.1:9/v1", server.url) as backend:
        found = answers(backend, [ask(number) for number in range(50)])
    assert all(one.error is None for one in found.values())


def test_prompts_of_a_local_model_go_as_token_ids(tiny: Path, server: Scripted) -> None:
    from factory.models.openai.managed import Prompts
    from factory.models.openai.pool import Job
    from factory.models.openai.wire import Answer

    model, runtime = resolve(ModelSpec(path=str(tiny)), Path("/")), ModelRuntime()
    prompts = Prompts(model, runtime)
    backend = EndpointBackend([server.url], "scripted", runtime, {}, prompts)
    received = server.stats()["received"]
    try:
        found = answers(backend, [ask(1, "<|end|>"), ask(2, "x" * 500), ask(3, "a\ud800"), ask(4, "plain")])
    finally:
        backend.close()
    assert str(found["2"].rejected).startswith("prompt_too_long: ")
    assert found["3"].error is not None
    assert server.stats()["received"] - received == 2
    assert all(found[key].text for key in "14")

    job, end = prompts.jobs([ask(1, "<|end|>", stop=("##",))])[0], min(prompts.ends)
    assert isinstance(job, Job)
    assert job.ids is not None
    assert job.ids.count(end) == 1  # the template's own, not the row's
    written = prompts.jobs([Request("5", 5, Sampling(), prompt="<think>a ##b")])[0]
    assert isinstance(written, Job)
    answer = Answer(Completion("1", "as the server put it", "length"), (*(written.ids or ()), end))
    made = prompts.completion(job, answer)
    assert (made.text, made.finish_reason) == ("<think>a ", "stop")
