"""A server that speaks the OpenAI protocol, always says the same, and misbehaves on demand.

    python benchmarks/scripted_server.py --port 0 --rate 200 --slots 64 --latency 0.05 --script rules.json

Prints one JSON line with its `url` when it listens on 127.0.0.1, and dies when its standard input closes. Serves
/v1/models, /health, /metrics, /v1/chat/completions and /v1/completions (text or token ids; streams where asked).
Answers and rules are explained in `scripted_answers`. One prompt fails for ever: whatever contains `--poison`.

`--log` gets a line for each request received and each answer written to its end: `received|finished HASH MAX_TOKENS
TEXT OTHERS`, where HASH names all that decides the answer, TEXT is a digest of the prompt alone and OTHERS the requests
in hand then. POST /_script replaces the rules. GET /_stats tells counts since the start, and since the last
GET /_stats?reset=1 (which begins them anew) `most_in_flight`, `first_at` and `last_at`: the times of the first request
and the last answer on the system's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web
from scripted_answers import Asked, Rule, Script, answer, digest, read_request

BODY_LIMIT = 64 << 20
WORDS_PER_CHUNK = 8
POISON = "this prompt always fails"


class Server:
    """State of one server: its settings, its script, its counts."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.script = Script(json.loads(Path(options.script).read_text()) if options.script else [])
        self.key = os.environ[options.key] if options.key else None
        self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if options.log else None
        self.slots = asyncio.Semaphore(options.slots)
        self.by_status: Counter[int] = Counter()
        self.by_rule: Counter[str] = Counter()
        self.received = self.finished = self.in_flight = self.most_in_flight = self.words = 0
        self.next_end = 0.0
        self.first_at: float | None = None
        self.last_at: float | None = None

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.add_routes([
            web.get("/v1/models", self.models), web.get("/health", self.health), web.get("/metrics", self.metrics),
            web.post("/v1/chat/completions", self.complete), web.post("/v1/completions", self.complete),
            web.post("/_script", self.replace_script), web.get("/_stats", self.stats)])
        return app

    async def models(self, request: web.Request) -> web.StreamResponse:
        if not self._allowed(request):
            return _refusal(401, "invalid_api_key", "no such key")
        listed = [{"id": name, "object": "model", "owned_by": "scripted"} for name in self.options.model]
        return web.json_response({"object": "list", "data": listed})

    async def health(self, _request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=f'vllm:generation_tokens_total{{engine="0",model_name="scripted"}} {self.words}.0\n')

    async def replace_script(self, request: web.Request) -> web.StreamResponse:
        self.script = Script(await request.json())
        return web.json_response({})

    async def stats(self, request: web.Request) -> web.StreamResponse:
        told = {"received": self.received, "finished": self.finished, "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight, "by_status": dict(self.by_status),
                "by_rule": dict(self.by_rule), "first_at": self.first_at, "last_at": self.last_at}
        if "reset" in request.query:
            self.most_in_flight, self.first_at, self.last_at = self.in_flight, None, None
        return web.json_response(told)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or do to it what the script says."""
        try:
            asked = read_request(await request.json(), chat=request.path.endswith("/chat/completions"))
        except (ValueError, AttributeError) as error:
            return await self._send(request, _refusal(400, "bad_request", str(error)))
        self.received += 1
        self.first_at = self.first_at or time.monotonic()
        self._write_log("received", asked)
        refused = self._refuse(request, asked)
        if refused is not None:
            return await self._send(request, refused)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with self.slots:
                rule = self.script.pick(asked)
                if rule is not None:
                    self.by_rule[rule.do] += 1
                response = await self._serve(request, asked, rule)
        finally:
            self.in_flight -= 1
        return response

    def _refuse(self, request: web.Request, asked: Asked) -> web.Response | None:
        if not self._allowed(request):
            return _refusal(401, "invalid_api_key", "no such key")
        if asked.model not in self.options.model:
            return _refusal(404, "model_not_found", f"The model `{asked.model}` does not exist.")
        if self.options.context and asked.tokens_in >= self.options.context:
            return _too_long("vllm", self.options.context, asked.tokens_in)
        if self.slots.locked() and not self.options.queue:
            return _refusal(429, "overloaded", "too many requests in flight", self.options.retry_after)
        return None

    async def _serve(self, request: web.Request, asked: Asked, rule: Rule | None) -> web.StreamResponse:
        if self.options.poison in asked.text:
            return await self._send(request, _refusal(500, "poison", "this one always fails"))
        do = rule.do if rule else None
        if rule and do == "status":
            after = None if rule.retry_after is None else (
                formatdate(time.time() + rule.retry_after, usegmt=True) if rule.date else rule.retry_after)
            return await self._send(request, _refusal(rule.status, rule.code, "as scripted", after))
        if rule and do == "context_error":
            return await self._send(request, _too_long(rule.wording, 2048, 2049))
        if do == "reset":
            return self._drop(request, web.Response(), reset=True)
        if rule and do in ("hang", "slow_first_byte"):
            await asyncio.sleep(1e6 if do == "hang" else rule.seconds)
        words, reason = answer(asked, *self.options.words)
        await self._pace(0 if asked.stream else len(words))
        body = _whole(asked, words, reason, rule)
        if asked.stream and do not in ("half_body", "wrong_json"):
            return await self._stream(request, asked, words, body, rule)
        data = b'{"choices": [{"mess' if do == "wrong_json" else json.dumps(body).encode()
        if do in ("half_body", "half_stream"):
            response = web.StreamResponse(headers={"Content-Length": str(len(data)),
                                                   "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(data[:len(data) // 2])
            return self._drop(request, response)
        return await self._send(request, web.Response(body=data, content_type="application/json"), asked, len(words))

    async def _stream(self, request: web.Request, asked: Asked, words: list[str], body: dict[str, Any],
                      rule: Rule | None) -> web.StreamResponse:
        """The answer as server-sent events, `WORDS_PER_CHUNK` words each."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces = _pieces(asked, body)
        half = rule is not None and rule.do == "half_stream"
        for piece in pieces[:len(pieces) // 2] if half else pieces:
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
            if self.options.per_word:
                await asyncio.sleep(self.options.per_word * WORDS_PER_CHUNK)
        if half and rule is not None and not rule.clean:
            return self._drop(request, response)
        if not half:
            await response.write(b"data: [DONE]\n\n")
        return await self._send(request, response, asked, len(words))

    async def _pace(self, words: int) -> None:
        """Wait as long as the answer takes: latency, its words, and the server's rate."""
        wait = self.options.latency + self.options.per_word * words
        if wait:
            await asyncio.sleep(wait)
        if self.options.rate:
            now = time.monotonic()
            self.next_end = max(now, self.next_end) + 1 / self.options.rate
            await asyncio.sleep(self.next_end - now)

    async def _send(self, request: web.Request, response: web.StreamResponse, asked: Asked | None = None,
                    words: int = 0) -> web.StreamResponse:
        """Write a response to its end; only then it counts."""
        await response.prepare(request)
        await response.write_eof()
        self.by_status[response.status] += 1
        if asked is not None:
            self.finished += 1
            self.last_at = time.monotonic()
            self.words += words
            self._write_log("finished", asked)
        return response

    def _drop(self, request: web.Request, response: web.StreamResponse, *, reset: bool = False) -> web.StreamResponse:
        """Close the connection, with a TCP reset or after what was written."""
        transport = request.transport
        if transport is not None:
            if reset:
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                              struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()
        return response

    def _allowed(self, request: web.Request) -> bool:
        return self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}"

    def _write_log(self, what: str, asked: Asked) -> None:
        if self.log is not None:
            line = f"{what} {asked.hash} {asked.max_tokens} {digest(asked.text)} {self.in_flight}\n"
            os.write(self.log, line.encode())


def _refusal(status: int, code: str, message: str, retry_after: float | str | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}" if isinstance(retry_after, float)
                                              else str(retry_after)}
    return web.json_response({"error": {"message": message, "type": code, "param": None, "code": code}},
                             status=status, headers=headers)


def _too_long(wording: str, context: int, tokens: int) -> web.Response:
    if wording == "vllm":
        error = {"message": f"This model's maximum context length is {context} tokens. However, your prompt contains "
                            f"{tokens} input tokens, which exceeds this limit even without any output tokens. Please "
                            "reduce the length of the input prompt.",
                 "type": "BadRequestError", "param": "input_tokens", "code": 400}
    else:
        error = {"message": f"This model's maximum context length is {context} tokens. However, your messages resulted "
                            f"in {tokens} tokens. Please reduce the length of the messages.",
                 "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    return web.json_response({"error": error}, status=400)


def _whole(asked: Asked, words: list[str], reason: str, rule: Rule | None) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    do = rule.do if rule else None
    half = len(words) // 2 if do == "reasoning_content" and asked.chat else 0
    said: dict[str, Any] = {"text": " ".join(words)}
    if asked.chat:
        said = {"message": {"role": "assistant", "content": " ".join(words[half:]),
                            **({"reasoning_content": " ".join(words[:half])} if half else {})}}
    choice = {"index": 0, **said, "finish_reason": rule.reason if rule and do == "finish" else reason}
    choices = {"empty_choices": [], "duplicate_choices": [choice, choice]}.get(do or "", [choice])
    body: dict[str, Any] = {
        "id": f"scripted-{asked.hash}", "object": "chat.completion" if asked.chat else "text_completion",
        "created": 0, "model": asked.model, "choices": choices}
    if do != "no_usage":
        body["usage"] = {"prompt_tokens": asked.tokens_in, "completion_tokens": len(words),
                         "total_tokens": asked.tokens_in + len(words),
                         "prompt_tokens_details": {"cached_tokens": asked.tokens_in // 4}}
    return body


def _pieces(asked: Asked, body: dict[str, Any]) -> list[dict[str, Any]]:
    """A whole body cut into the chunks of a stream."""
    head = {**{name: body[name] for name in ("id", "created", "model")},
            "object": "chat.completion.chunk" if asked.chat else "text_completion"}
    pieces: list[dict[str, Any]] = []
    for choice in body["choices"]:
        parts = choice["message"] if asked.chat else {"text": choice["text"]}
        for name in ("reasoning_content", "content", "text"):
            words = parts.get(name, "").split(" ")
            for start in range(0, len(words) if name in parts else 0, WORDS_PER_CHUNK):
                said = (" " if start else "") + " ".join(words[start:start + WORDS_PER_CHUNK])
                piece = {"delta": {name: said}} if asked.chat else {name: said}
                pieces.append({**head, "choices": [{"index": 0, **piece, "finish_reason": None}]})
        last: dict[str, Any] = {"delta": {}} if asked.chat else {"text": ""}
        pieces.append({**head, "choices": [{"index": 0, **last, "finish_reason": choice["finish_reason"]}]})
    if asked.usage and "usage" in body:
        pieces.append({**head, "choices": [], "usage": body["usage"]})
    return pieces


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server for tests and benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", action="append", help="name it serves, may be given again (default: scripted)")
    parser.add_argument("--log")
    parser.add_argument("--script", help="JSON file: a list of rules")
    parser.add_argument("--rate", type=float, default=0.0, help="most answers a second (0: as they come)")
    parser.add_argument("--slots", type=int, default=1 << 20, help="most requests at a time; others get 429")
    parser.add_argument("--queue", action="store_true", help="others wait instead")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds, told with the 429 of full slots")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--per-word", type=float, default=0.0, help="seconds for each word of it")
    parser.add_argument("--words", type=int, nargs=2, default=(20, 120), metavar=("LOW", "HIGH"))
    parser.add_argument("--context", type=int, default=0, help="prompts of as many words get 400")
    parser.add_argument("--key", help="environment variable that holds the key it demands")
    parser.add_argument("--poison", default=POISON, help="text whose prompts fail for ever")
    options = parser.parse_args(arguments)
    options.model = options.model or ["scripted"]
    return options


def _die_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


async def serve(options: argparse.Namespace) -> None:
    """Listen until the process dies."""
    runner = web.AppRunner(Server(options).application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/v1", "port": port, "pid": os.getpid()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    threading.Thread(target=_die_with_input, daemon=True).start()
    asyncio.run(serve(read_options()))
