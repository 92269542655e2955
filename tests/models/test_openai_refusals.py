"""The endpoint backend against servers that refuse: one row, everybody, for a while, or in words of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")

from openai_kit import KEY, answers, ask, opened, refusing

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion
from factory.models.openai import faults, open_openai
from factory.models.openai.endpoint import ALONE
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve
from factory.models.watch import Watched

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
