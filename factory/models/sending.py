"""What a model is sent, for a reader: the prompt behind its chat template, or the body of the HTTP request. Nothing is
sent and no weights are loaded; keys are in neither."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.models.base import Completion, Request
from factory.models.open import choose_name
from factory.models.quiet import quietly
from factory.models.rendering import Renderer
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel, pretrained


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it leaves. `pieces` are the texts of the prompt in order and whether each is a control token
    (empty where this machine has no tokenizer of the model), `tokens` how many there are; `url` and `body` are the HTTP
    request's; `refused` says why it would not be sent."""

    pieces: list[tuple[str, bool]] = field(default_factory=list)
    tokens: int | None = None
    url: str | None = None
    body: dict[str, Any] | None = None
    refused: str | None = None


def sent(model: ResolvedModel, runtime: ModelRuntime, requests: Sequence[Request]) -> tuple[str, list[Sent]]:
    """The backend's name, and each request as it would leave.

    Raises:
        ModelError: no backend fits, the endpoint's URL holds a password, or the model has no chat template for a chat
            request.
    """
    runtime = runtime.over(model.spec.runtime)
    name = choose_name(model, runtime)
    if name == "openai" and runtime.endpoint not in (None, "managed"):
        return name, [_posted(model, runtime, request) for request in requests]
    local = model.kind in ("hub", "folder", "gguf") and importlib.util.find_spec("transformers") is not None
    return name, _rendered(model, requests) if local else [Sent() for _ in requests]


def _posted(model: ResolvedModel, runtime: ModelRuntime, request: Request) -> Sent:
    from factory.models.openai.endpoint import Endpoint
    from factory.models.openai.wire import Dialect, compose

    urls = runtime.endpoint if isinstance(runtime.endpoint, tuple) else (runtime.endpoint,)
    named = runtime.served_name or (str(model.location) if model.kind in ("served", "hub") else model.name)
    try:
        path, body = compose(request, Dialect(named, runtime.options, stream=runtime.stream), None, None)
    except UnicodeEncodeError as error:
        return Sent(refused=f"not_unicode: {error.reason}")
    return Sent(url=Endpoint(str(urls[0]), 1).shown(path), body=json.loads(body))


def _rendered(model: ResolvedModel, requests: Sequence[Request]) -> list[Sent]:
    from transformers import AutoTokenizer

    source, options = pretrained(model.kind, model.location, model.spec.revision)
    with quietly():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError):
            return [Sent() for _ in requests]  # whoever opens the model will say what is wrong
    renderer = Renderer(tokenizer, model.name, model.spec.chat_template)
    return [Sent(refused=ids.error or ids.rejected) if isinstance(ids, Completion)
            else Sent(pieces=renderer.shown(ids), tokens=len(ids)) for ids in renderer.encode(requests)]
