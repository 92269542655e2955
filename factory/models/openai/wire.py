"""Requests as an OpenAI-compatible server reads them, and what it answers as a completion. Nothing is sent here.

Messages go to /chat/completions, plain prompts to /completions. A prefill is put behind a plain prompt; behind messages
it is a last assistant message that the server goes on writing (`continue_final_message`, which vLLM and SGLang know).
Where this process has the model's tokenizer, every request is a list of token ids for /completions instead, so that a
row's text can never become a control token; the answer's token ids are asked for too, because only they tell a
reasoning tag that a tokenizer declares special from the control tokens that are no text.

Reasoning that a server reports apart (in a field, or as `thinking` parts of the content) is joined to the text:
"<think>\\n", the reasoning, "\\n</think>\\n\\n", the content; without the opening where the prefill has made it,
without the closing where the limit cut the thinking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.engine.text import THINK_CLOSE, THINK_OPEN
from factory.models.base import Completion, Request
from factory.models.openai.faults import Act, Fault, fault_in_body
from factory.models.rendering import cut_at_stop

CHAT, PLAIN = "chat/completions", "completions"
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_BROKEN = frozenset({"abort", "error"})
_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Dialect:
    """How these servers want to be asked. `limit` names the field for the most new tokens. Seeds are cut to 31 bits,
    since some servers read 32 signed ones, unless every server is known to be `vllm`, which takes 63; there, top_k is
    told even when it is off, since the model's own settings would take its place. `options` are put into every body
    last; null takes a field out."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: str = "max_tokens"
    vllm: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion as the server wrote it, and the token ids of its text where they were asked for."""

    completion: Completion
    ids: tuple[int, ...] | None = None


def compose(request: Request, dialect: Dialect, room: int | None, ids: Sequence[int] | None) -> tuple[str, bytes]:
    """The path under the base URL, and the body. `room` is the most new tokens that fit, where it is known; `ids` is
    the tokenised prompt, prefill included.

    Raises:
        UnicodeEncodeError: the text has no UTF-8 form (half of a surrogate pair).
    """
    sampling = request.sampling
    body: dict[str, Any] = {"model": dialect.model}
    if ids is not None:
        path = PLAIN
        body |= {"prompt": list(ids), "return_token_ids": True}
    elif request.messages is None:
        path = PLAIN
        body["prompt"] = (request.prompt or "") + request.prefill
    else:
        path = CHAT
        body["messages"] = [dict(message) for message in request.messages]
        if request.prefill:
            body["messages"].append({"role": "assistant", "content": request.prefill})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
    body |= {"temperature": sampling.temperature, "top_p": sampling.top_p,
             "seed": request.seed if dialect.vllm else request.seed % _SEEDS}
    body[dialect.limit] = sampling.max_tokens if room is None else min(room, sampling.max_tokens)
    if sampling.top_k or dialect.vllm:
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if dialect.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if sampling.extra:
        body |= json.loads(sampling.extra)
    if dialect.options:
        body = {name: value for name, value in {**body, **dialect.options}.items() if value is not None}
    return path, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def read(payload: Any, request: Request, attempts: int) -> Answer:
    """The first choice of a response.

    Raises:
        Fault: it is no answer: an error inside a success, no choices, fields of the wrong form.
    """
    if not isinstance(payload, dict):
        raise Fault(Act.RETRY, "bad_response", "expected a JSON object")
    if payload.get("error"):
        raise fault_in_body(payload["error"])
    choices = payload.get("choices")
    if choices == []:
        raise Fault(Act.RETRY, "empty_choices", "the server answered without a choice")
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise Fault(Act.RETRY, "bad_response", "expected `choices`, a list of objects")
    choice = choices[0]
    reason = _reason(choice.get("finish_reason"))
    text, reason = _text(choice, request, reason)
    tokens_in, tokens_out, cached = _usage(payload.get("usage"))
    ids = choice.get("token_ids")
    if isinstance(ids, list) and not all(type(one) is int and one >= 0 for one in ids):
        raise Fault(Act.RETRY, "bad_response", "expected `token_ids` to be a list of numbers")
    return Answer(Completion(request.key, text, reason, tokens_in, tokens_out, cached_in=cached, attempts=attempts),
                  tuple(ids) if isinstance(ids, list) else None)


def _reason(told: Any) -> str:
    if told is not None and not isinstance(told, str):
        raise Fault(Act.RETRY, "bad_response", "expected `finish_reason` to be a string")
    if told in _BROKEN:
        raise Fault(Act.RETRY, "server_error", f"the server gave the answer up (finish_reason {told})")
    return "length" if told in _CUT else "content_filter" if told == "content_filter" else "stop"


def _text(choice: Mapping[str, Any], request: Request, reason: str) -> tuple[str, str]:
    message = choice.get("message")
    said = choice.get("text") if message is None else message.get("content") if isinstance(message, dict) else 0
    thought = (message.get("reasoning_content") or message.get("reasoning")) if isinstance(message, dict) else None
    if isinstance(said, list):
        said, thinking = read_parts(said)
        thought = thought or thinking
    if said is not None and not isinstance(said, str):
        raise Fault(Act.RETRY, "bad_response", "expected the choice's text to be a string")
    text = said or ""
    if request.sampling.stop and (cut := cut_at_stop(text, request.sampling.stop)) is not None:
        text, reason = cut, "stop"
    if isinstance(thought, str) and thought:
        text = _join(thought, text, request.prefill, reason)
    return text, reason


def read_parts(content: Sequence[Any]) -> tuple[str, str]:
    """(text, thought) of content that is a list of parts, as Mistral writes it; other kinds of part are no text.

    Raises:
        Fault: a part is no object, or its text no string.
    """
    text: list[str] = []
    thought: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "thinking" and isinstance(inner := part.get("thinking"), list):
            thought += [piece for piece in read_parts(inner) if piece]
        elif kind in ("text", "thinking") and isinstance(part.get(kind), str):
            (text if kind == "text" else thought).append(part[kind])
        elif not isinstance(part, dict) or kind in ("text", "thinking"):
            raise Fault(Act.RETRY, "bad_response", "expected the parts of the content to be texts")
    return "".join(text), "".join(thought)


def _join(thought: str, text: str, prefill: str, reason: str) -> str:
    opened = prefill.rfind(THINK_OPEN) > prefill.rfind(THINK_CLOSE) or thought.lstrip().startswith(THINK_OPEN)
    lead = "" if opened else f"{THINK_OPEN}\n"
    if not text and reason == "length":
        return lead + thought.lstrip("\n")
    return f"{lead}{thought.strip(chr(10))}\n{THINK_CLOSE}\n\n{text.lstrip(chr(10))}"


def _usage(usage: Any) -> tuple[int, int, int]:
    """Prompt, new and cached tokens; what a server does not tell is not counted."""
    if not isinstance(usage, dict):
        return 0, 0, 0
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    tokens_in = _count(usage.get("prompt_tokens"))
    cached = cached or _count(usage.get("prompt_cache_hit_tokens"))
    return tokens_in, _count(usage.get("completion_tokens")), min(cached, tokens_in)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
