"""The endpoint backend against real servers on loopback, kind and unkind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.openai import faults, open_openai
from factory.models.openai.client import EndpointBackend
from factory.models.openai.endpoint import ALONE
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve
from factory.models.watch import Watched

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scripted_server.py"
KEY = "sk-test-0123456789"


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


GOOD = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(("status", "error"), [
    (402, {}), (404, {}), (307, {}), (401, {"message": f"bad key {KEY}"}), (429, {"code": "insufficient_quota"})])
def test_a_server_that_answers_nobody_ends_the_step_after_what_is_in_flight(
        monkeypatch: pytest.MonkeyPatch, status: int, error: dict[str, str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["content"] == "slow":
            time.sleep(0.3)
            return 200, GOOD
        return status, {"error": error}

    with refusing(reply) as (url, bodies), opened(url) as backend:
        found: list[Completion | None] = []
        with pytest.raises(ModelError) as caught:
            _collect(backend.generate(iter([ask(1, "slow"), ask(2), ask(3, "slow")])), found)
    assert sorted(one.key for one in found if one) == ["1", "3"]
    assert not isinstance(caught.value, BackendDied)
    assert KEY not in str(caught.value)
    assert len(bodies) == 3


def _collect(source: Iterator[Any], seen: list[Any]) -> None:
    for one in source:
        seen.append(one)


def test_requests_are_put_as_the_server_wants_them() -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
                                              "Use 'max_completion_tokens' instead.", "code": "unsupported_parameter"}}
        if body["max_completion_tokens"] > 40:
            return 400, {"error": {"message": "This model's maximum context length is 50 tokens. However, you "
                                              "requested 522 tokens (10 in the messages, 512 in the completion)."}}
        return 200, GOOD

    with refusing(reply) as (url, bodies), opened(url) as backend:
        found = answers(backend, [ask(number) for number in range(20)])
    assert {(one.text, one.error, one.rejected, one.attempts) for one in found.values()} == {("yes", None, None, 1)}
    assert len(bodies) <= 60


def refusal(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message}}


def said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.mark.parametrize(("status", "message", "kind"), [
    (429, "Request too large on tokens per min: Limit 30000, Requested 40012", "bad_request"),
    (503, "no room for this one", "overload"), (403, "your input was flagged", "refused")])
def test_refusals_of_one_row_fail_that_row(monkeypatch: pytest.MonkeyPatch, status: int, message: str,
                                           kind: str) -> None:
    monkeypatch.setattr(faults, "LONGEST_DELAY", 0.05)

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if said(body) == "bad":
            return refusal(status, message)
        time.sleep(0.03)  # the refusal comes before any answer
        return 200, GOOD

    with refusing(reply) as (url, _), opened(url, silence=20) as backend:
        found = answers(backend, [ask(0, "bad"), *map(ask, range(1, 200))])
    assert str(found["0"].error).startswith(f"{kind}: ")
    assert message in str(found["0"].error)
    assert {one.error for key, one in found.items() if key != "0"} == {None}


def test_a_key_that_is_refused_to_all_stops_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (refusing(lambda _: refusal(403, "go away")) as (url, bodies), opened(url) as backend,
          pytest.raises(ModelError, match=r"go away.*OPENAI_API_KEY") as caught):
        answers(backend, map(ask, range(500)))
    assert not isinstance(caught.value, BackendDied)
    assert len(bodies) <= ALONE


def test_the_last_words_of_a_server_that_refuses_all() -> None:
    with (refusing(lambda _: refusal(429, "come back tomorrow")) as (url, _), opened(url, silence=0.5) as backend,
          pytest.raises(BackendDied, match="come back tomorrow")):
        answers(backend, map(ask, range(5)))


def test_an_outage_costs_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a second and more, all that is asked gets a 500."""
    monkeypatch.setattr(faults, "LONGEST_DELAY", 0.2)
    began: list[float] = []

    def reply(_: dict[str, Any]) -> tuple[int, Any]:
        began.append(time.monotonic())
        if len(began) > 50 and time.monotonic() - began[50] < 1.5:
            return refusal(500, "internal")
        return 200, GOOD

    with refusing(reply) as (url, _), opened(url, attempts=3) as backend:
        found = answers(backend, map(ask, range(400)))
    assert len(found) == 400
    assert {one.error for one in found.values()} == {None}


def test_an_outage_without_end_stops_the_step_and_burns_nothing() -> None:
    with refusing(lambda _: refusal(500, "internal")) as (url, bodies), opened(url, silence=1.0) as backend:
        found: list[Completion | None] = []
        with pytest.raises(BackendDied, match="internal"):
            _collect(backend.generate(map(ask, range(3000))), found)
    assert not any(found)
    assert len(bodies) < 500


def test_a_long_answer_is_no_silence_where_nobody_can_tell() -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(1.5 if said(body) == "long" else 0)
        return 200, GOOD

    with refusing(reply) as (url, bodies):
        model = resolve(ModelSpec(served="scripted", revision="r1"), Path("/"))
        runtime = ModelRuntime(endpoint=url, silence=0.4, deadline=30)
        backend = Watched(lambda: open_openai(model, runtime), "scripted", runtime)
        try:
            found = answers(backend, [ask(1), ask(2, "long")])
        finally:
            backend.close()
    assert (found["2"].error, found["2"].attempts) == (None, 1)
    assert len(bodies) == 2


@pytest.mark.parametrize(("prompt", "answered"), [(5000, False), (1900, True), (2047, False)])
def test_a_server_that_does_not_say_how_long_the_prompt_is(prompt: int, answered: bool) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        wanted = body["max_tokens"]
        if prompt + wanted <= 2048:
            return 200, GOOD
        return refusal(400, f"This model's maximum context length is 2048 tokens. However, you requested {wanted} "
                            f"output tokens and your prompt contains at least {2049 - wanted} input tokens, for a "
                            "total of at least 2049 tokens.")

    with refusing(reply) as (url, bodies), opened(url) as backend:
        found = answers(backend, [ask(1, max_tokens=1024)])
    assert (found["1"].text == "yes") is answered
    assert answered or str(found["1"].rejected).startswith("prompt_too_long: ")
    assert len(bodies) <= 7


@pytest.mark.parametrize("odd", [{"finish_reason": {"type": "stop"}}, {"message": {"content": [1]}},
                                 {"token_ids": ["a"]}])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_read_fails_its_row(odd: dict[str, Any], stream: bool) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"choices": [{**GOOD["choices"][0], **(odd if said(body) == "bad" else {})}]}

    with refusing(reply) as (url, _), opened(url, attempts=2, stream=stream) as backend:
        found = answers(backend, [ask(0, "bad"), *map(ask, range(1, 20))])
    assert str(found["0"].error).startswith("bad_response: ")
    assert {one.error for key, one in found.items() if key != "0"} == {None}


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
