"""What an endpoint is sent, what its answers mean, how its window moves: all without a server."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.errors import ModelError
from factory.models.base import Request, Sampling
from factory.models.open import open_backend
from factory.models.openai.endpoint import START, Endpoint, choose
from factory.models.openai.faults import Act, Fault, clean, delay, fault_in_body, from_status
from factory.models.openai.stream import Stream
from factory.models.openai.wire import CHAT, PLAIN, Dialect, compose, read
from factory.models.runtime import ModelRuntime
from factory.models.sending import sent
from factory.models.spec import ModelSpec, resolve

SEED = 2**62 + 12345
ASK = {"role": "user", "content": "2+2?"}


def request(prefill: str = "", prompt: str | None = None, **sampling: Any) -> Request:
    return Request("k", SEED, Sampling(**sampling), messages=None if prompt is not None else (ASK,), prompt=prompt,
                   prefill=prefill)


def composed(asked: Request, dialect: Dialect | None = None, room: int | None = None,
             ids: list[int] | None = None) -> tuple[str, dict[str, Any]]:
    path, body = compose(asked, dialect or Dialect("m"), room, ids)
    return path, json.loads(body)


def chat(content: Any = "four", finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def test_chat_and_plain_bodies() -> None:
    path, body = composed(request(temperature=0.6, top_p=0.95, max_tokens=7))
    assert (path, body) == (CHAT, {"model": "m", "messages": [ASK], "temperature": 0.6, "top_p": 0.95,
                                   "seed": SEED % 2**31, "max_tokens": 7})
    path, body = composed(request(prompt="2+2=", prefill=" ", stop=("\n",), top_k=20))
    assert (path, body["prompt"], body["stop"], body["top_k"]) == (PLAIN, "2+2= ", ["\n"], 20)


def test_prefill_of_messages_is_continued() -> None:
    _, body = composed(request("<think>\n"))
    assert body["messages"] == [ASK, {"role": "assistant", "content": "<think>\n"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_token_ids_are_the_whole_prompt() -> None:
    path, body = composed(request("<think>"), Dialect("m", vllm=True), 5, [3, 1, 4])
    assert path == PLAIN
    assert "messages" not in body
    assert (body["prompt"], body["return_token_ids"], body["max_tokens"]) == ([3, 1, 4], True, 5)
    assert (body["seed"], body["top_k"]) == (SEED, 0)


def test_options_join_and_null_removes() -> None:
    dialect = Dialect("m", {"seed": None, "priority": 3}, limit="max_completion_tokens", stream=True)
    _, body = composed(request(), dialect)
    assert "seed" not in body
    assert "max_tokens" not in body
    assert (body["priority"], body["max_completion_tokens"]) == (3, 512)
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("options", [{"temperature": 0.1}, {"n": 3}, {"max_tokens": None}, {"reasoning_effort": "low"}])
def test_options_cannot_change_what_is_asked(options: dict[str, Any]) -> None:
    model = resolve(ModelSpec(served="m", revision="r1"), Path("/"))
    with pytest.raises(ModelError, match=next(iter(options))):
        open_backend(model, ModelRuntime(endpoint="http://127.0.0.1:9/v1", options=options))


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_unicode_arrives(text: str) -> None:
    assert composed(request(prompt=text))[1]["prompt"] == text


def test_parts_of_a_stream() -> None:
    stream = Stream()
    for content in ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
                    [{"type": "text", "text": "four"}]):
        stream.feed(f"data: {json.dumps({'choices': [{'delta': {'content': content}}]})}\n\n".encode())
    stream.feed(b"data: [DONE]\n\n")
    assert read(stream.end(), request(), 1).completion.text == "<think>\nhm\n</think>\n\nfour"


def test_what_is_shown_of_a_request_holds_no_key_of_its_url() -> None:
    model = resolve(ModelSpec(served="m", revision="r1"), Path("/"))
    _, (shown,) = sent(model, ModelRuntime(endpoint="https://host/v1?api-version=3&code=hunter2"), [request()])
    assert shown.url == "https://host/v1/chat/completions?api-version=***&code=***"


def test_half_a_surrogate_pair_cannot_be_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        compose(request(prompt="a\ud800b"), Dialect("m"), None, None)


@pytest.mark.parametrize(("payload", "prefill", "text", "reason"), [
    (chat(), "", "four", "stop"),
    (chat(finish=None), "", "four", "stop"),
    (chat(None), "", "", "stop"),
    (chat(finish="length"), "", "four", "length"),
    (chat(finish="content_filter"), "", "four", "content_filter"),
    (chat(reasoning_content="2 and 2"), "", "<think>\n2 and 2\n</think>\n\nfour", "stop"),
    (chat("\n\nfour", reasoning="\n2 and 2\n"), "", "<think>\n2 and 2\n</think>\n\nfour", "stop"),
    (chat(reasoning_content="2 and 2"), "<think>\n", "2 and 2\n</think>\n\nfour", "stop"),
    (chat(reasoning_content="2"), "<think></think><x>", "<think>\n2\n</think>\n\nfour", "stop"),
    (chat("", "length", reasoning_content="2 and"), "", "<think>\n2 and", "length"),
    (chat([{"type": "text", "text": "fo"}, {"type": "reference", "ids": [1]}, {"type": "text", "text": "ur"}]), "",
     "four", "stop"),
    (chat([{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}, {"type": "text", "text": "four"}]),
     "", "<think>\n2 and 2\n</think>\n\nfour", "stop"),
    ({"choices": [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "stop"}]}, "", "a", "stop"),
])
def test_what_an_answer_means(payload: dict[str, Any], prefill: str, text: str, reason: str) -> None:
    found = read(payload, request(prefill), 1).completion
    assert (found.text, found.finish_reason, found.error) == (text, reason, None)


def test_stop_strings_cut_even_where_the_server_left_them() -> None:
    found = read(chat("four END more", "length"), request(stop=("END",)), 1).completion
    assert (found.text, found.finish_reason) == ("four ", "stop")


def test_usage_is_taken_where_it_is_told() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    found = read({**chat(), "usage": told}, request(), 3).completion
    assert (found.tokens_in, found.tokens_out, found.cached_in, found.attempts) == (9, 4, 8, 3)
    for odd in (None, [], {"prompt_tokens": "9", "completion_tokens": -1, "prompt_tokens_details": None}):
        found = read({**chat(), "usage": odd}, request(), 1).completion
        assert (found.tokens_in, found.tokens_out, found.cached_in) == (0, 0, 0)


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["choices", "message", "content", "error", "usage", "finish_reason", "delta", "code", "token_ids", "type",
         "text"]), inner, max_size=4)))


@given(json_values)
def test_nonsense_is_a_fault_or_an_answer(payload: Any) -> None:
    with suppress(Fault):
        assert isinstance(read(payload, request(), 1).completion.text, str)


@pytest.mark.parametrize("odd", [{"type": "stop"}, ["stop"], 1])
def test_a_reason_that_is_no_text(odd: Any) -> None:
    with pytest.raises(Fault) as caught:
        read(chat(finish=odd), request(), 1)
    assert caught.value.kind == "bad_response"


EVENTS = [{"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm "}}]},
          {"choices": [{"index": 0, "delta": {"content": "fo"}}, {"index": 1, "delta": {"content": "no"}}]},
          {"choices": [{"index": 0, "delta": {"content": "ur \u2028 五"}, "finish_reason": "length"}]},
          {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]


@given(st.lists(st.integers(1, 40), min_size=1), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_a_stream_cut_anywhere(sizes: list[int], gap: str) -> None:
    data = (": hello" + gap + "".join(f"data: {json.dumps(event, ensure_ascii=False)}{gap}" for event in EVENTS)
            + "data: [DONE]" + gap).encode()
    stream, at, turn = Stream(), 0, 0
    while at < len(data):
        stream.feed(data[at:at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    found = read(stream.end(), request(), 1).completion
    assert (found.text, found.finish_reason) == ("<think>\nhm \n</think>\n\nfour \u2028 五", "length")
    assert (found.tokens_in, found.tokens_out, stream.pieces) == (3, 4, 3)


@pytest.mark.parametrize(("events", "kind"), [
    (EVENTS[:2], "connection"), (["{"], "bad_response"), ([[]], "bad_response"), (["[DONE]"], "empty_choices"),
    ([EVENTS[0], {"error": {"message": "engine died", "code": 500}}], "server_error")])
def test_half_a_stream_is_no_answer(events: list[Any], kind: str) -> None:
    def play() -> None:
        stream = Stream()
        for event in events:
            stream.feed(b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n")
        read(stream.end(), request(), 1)

    with pytest.raises(Fault) as caught:
        play()
    assert caught.value.kind == kind


def said(message: str, code: Any = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()


TOO_LONG = [
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, "
    "which exceeds this limit even without any output tokens.",
    "This model's maximum context length is 100 tokens. However, your prompt contains 9000 characters (more than 800 "
    "characters, which is the upper bound for 99 input tokens).",
    "This model's maximum context length is 2048 tokens. However, you requested 512 output tokens and your prompt "
    "contains 100000 characters (more than 98304 characters, which is the upper bound for 1536 input tokens).",
    "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
    "The decoder prompt (length 100) is longer than the maximum model length of 96.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "prompt is too long: 213462 tokens > 200000 maximum",
    "the request exceeds the available context size, try increasing it",
]


@pytest.mark.parametrize("text", TOO_LONG)
def test_long_prompts_are_told_apart(text: str) -> None:
    assert from_status(400, {}, said(text)).act is Act.REJECT


@pytest.mark.parametrize("text", [
    "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (100 in the messages, "
    "2000 in the completion). Please reduce the length of the messages or completion.",
    "Requested token count exceeds the model's maximum context length of 2048 tokens. You requested a total of 2100 "
    "tokens: 100 tokens from the input messages and 2000 tokens for the completion.",
    "'max_tokens' is too large: 2000. This model's maximum context length is 2048 tokens and your request has 100 "
    "input tokens (2000 > 2048 - 100)."])
def test_only_the_answer_would_not_fit(text: str) -> None:
    fault = from_status(400, {}, said(text))
    assert (fault.act, fault.room) == (Act.SHORTEN, 1948)


@pytest.mark.parametrize(("status", "body", "act"), [
    (429, b"slow down", Act.WAIT), (503, b"", Act.WAIT), (529, said("Overloaded"), Act.WAIT),
    (429, said("You exceeded your current quota", "insufficient_quota"), Act.STOP), (402, b"pay", Act.STOP),
    (429, said("Request too large for m on tokens per min (TPM): Limit 30000, Requested 40012.", "rate_limit_exceeded"),
     Act.FAIL),
    (401, said("Incorrect API key"), Act.STOP), (403, b"", Act.DENY), (404, said("no such model"), Act.STOP),
    (307, b"", Act.STOP), (500, b"<html>", Act.RETRY), (504, b"[", Act.RETRY), (408, b"", Act.RETRY),
    (502, b"Bad Gateway", Act.DOWN), (400, b"\xff\xfe", Act.FAIL), (422, b'{"detail": [1]}', Act.FAIL),
    (413, b"", Act.FAIL), (400, b"{" * 5000, Act.FAIL),
    (400, said("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "unsupported_parameter"),
     Act.RENAME)])
def test_classes_of_error(status: int, body: bytes, act: Act) -> None:
    fault = from_status(status, {}, body)
    assert fault.act is act
    shown = clean(fault.text)
    assert len(shown) <= 300
    assert "\n" not in shown


def test_errors_inside_a_success() -> None:
    assert fault_in_body({"message": "busy", "code": 429}).act is Act.WAIT
    assert fault_in_body({"message": "broken", "code": "502"}).act is Act.DOWN
    assert fault_in_body("broken").act is Act.RETRY


@pytest.mark.parametrize(("headers", "low", "high"), [
    ({"Retry-After": "7"}, 7, 7), ({"retry-after-ms": "250"}, 0.25, 0.25), ({}, 0, 0), ({"Retry-After": "-3"}, 0, 0),
    ({"Retry-After": formatdate(4e9, usegmt=True)}, 86400, 86400), ({"Retry-After": "soon"}, 0, 0),
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0), ({"Retry-After": "nan"}, 0, 0)])
def test_retry_after(headers: dict[str, str], low: float, high: float) -> None:
    assert low <= from_status(429, headers, b"").wait <= high


@given(st.integers(1, 10_000), st.floats(0, 100))
def test_delays_have_jitter_and_bounds(times: int, least: float) -> None:
    assert least <= delay(times, least) <= least + 30


def test_keys_are_cut_out() -> None:
    assert "sk-secret-1" not in clean("bad key sk-secret-1, really: sk-secret-1", "sk-secret-1")


def test_urls_hold_no_password() -> None:
    with pytest.raises(ModelError) as caught:
        Endpoint("http://me:hunter2@host/v1", 8)
    assert "hunter2" not in str(caught.value)
    assert Endpoint("http://host/v1/?api-version=3", 8).address("models") == "http://host/v1/models?api-version=3"


def opened(cap: int, url: str = "http://a/v1") -> Endpoint:
    endpoint = Endpoint(url, cap)
    endpoint.found()
    return endpoint


def play_round(endpoint: Endpoint, now: float, refused: int = 0) -> None:
    """Send all that fits; of those, so many are refused a second later and the others answered."""
    sent = 0
    while endpoint.has_room(now):
        endpoint.sent(now)
        sent += 1
    endpoint.full = True
    for turn in range(sent):
        endpoint.left()
        if turn < refused:
            endpoint.overloaded(now, now + 1)
        else:
            endpoint.answered(now + 1)


def test_a_window_doubles_until_the_first_overload() -> None:
    endpoint = opened(1000)
    for now in (0, 2, 4):
        play_round(endpoint, now)
    assert endpoint.limit == START * 8
    play_round(endpoint, 6, refused=50)
    assert 0.7 * START * 8 <= endpoint.limit <= 0.7 * START * 8 + 2
    before = endpoint.limit
    play_round(endpoint, 8)
    assert before + 0.9 < endpoint.limit < before + 1.1


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 50))
def test_a_window_stays_in_its_bounds(refusals: list[int], cap: int) -> None:
    endpoint = opened(cap)
    for turn, refused in enumerate(refusals):
        play_round(endpoint, turn * 100.0, refused)
        assert 1 <= endpoint.limit <= cap
        assert endpoint.in_flight == 0


def test_a_server_that_refuses_all_is_left_alone() -> None:
    endpoint = opened(100)
    play_round(endpoint, 0, refused=100)
    assert not endpoint.pause(1)  # one overload may be the window's fault
    play_round(endpoint, 2, refused=100)
    assert endpoint.pause(3) > 0


def simulate(rates: dict[str, float], total: int, cap: int) -> dict[str, float]:
    """When each of several servers, which answer in order at a fixed rate and queue without end, gave its last."""
    ends = {name: opened(cap, f"http://{name}/v1") for name in rates}
    queues: dict[str, list[float]] = {name: [] for name in rates}
    last = dict.fromkeys(rates, 0.0)
    now, left = 0.0, total
    while left or any(queues.values()):
        while left and (found := choose(list(ends.values()), now, left if left <= 64 else 0)) is not None:
            name = next(name for name, one in ends.items() if one is found)
            found.sent(now)
            queues[name].append(max(now, queues[name][-1] if queues[name] else 0.0) + 1 / rates[name])
            left -= 1
        for one in ends.values():
            one.full = left > 0 and one.in_flight >= int(one.limit)
        name = min((name for name in rates if queues[name]), key=lambda name: queues[name][0], default="")
        if name:
            now = queues[name].pop(0)
            last[name] = now
            ends[name].left()
            ends[name].answered(now)
    return last


@pytest.mark.parametrize("rates", [
    {"a": 200.0, "b": 50.0}, {"a": 100.0, "b": 100.0}, {"a": 300.0, "b": 10.0, "c": 30.0}])
def test_servers_of_any_speed_end_together(rates: dict[str, float]) -> None:
    total = 5000
    last = simulate(rates, total, 1024)
    assert total / max(last.values()) >= 0.95 * math.fsum(rates.values())
