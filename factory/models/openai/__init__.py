"""The backend for servers that speak the OpenAI protocol: one or several base URLs, or a managed `vllm serve`.

    wire       a request as a body, a response as a completion      listing   what a server serves
    stream     an answer that arrives in pieces                     endpoint  one server: window, rate, knee; the next
    faults     what went wrong, and what to do about it             pool      requests over servers
    exchange   one request over HTTP                                care      opening, servers that went away
    managed    prompts and texts of a local model                   client    the thread, and the backend

Keys come from the environment only. aiohttp comes with the extra `endpoint` and is imported when a model is opened.
"""

from __future__ import annotations

import importlib.util
import json
import resource

from factory.engine.errors import MissingExtraError, ModelError
from factory.models.base import OWN_FIELDS, Backend
from factory.models.open import backend
from factory.models.openai.exchange import read_key
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel

_OTHER_FILES = 512


_LEFT_OUT = frozenset({"seed", "temperature", "top_p", "top_k", "stream_options"})
"""Fields that a server may refuse to know; null leaves them out of the body."""

_CHANGING = frozenset({
    "reasoning_effort", "reasoning", "chat_template", "chat_template_kwargs", "min_p", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "logit_bias", "response_format", "structured_outputs", "tools",
    "tool_choice", "min_tokens", "stop_token_ids", "bad_words", "thinking"})
"""Fields that change answers, of servers that are common: they are identity."""


@backend("openai")
def open_openai(model: ResolvedModel, runtime: ModelRuntime) -> Backend:
    """Ask the servers what they serve, and begin with those that answer; starts the server where it is managed.

    Raises:
        ModelError: no endpoint, none that answers within a minute, or one that does not serve the model.
        MissingExtraError: aiohttp is not installed.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise MissingExtraError("aiohttp", "endpoint")
    from factory.models.openai.client import EndpointBackend

    if runtime.endpoint is None:
        raise ModelError(f"model {model.name}: the openai backend needs `runtime.model.endpoint`, a base URL such as "
                         "http://host:8000/v1, several of them, or `managed`")
    options = _sendable(runtime)
    read_key(runtime.key)
    if runtime.endpoint == "managed":
        return _open_managed(model, runtime)
    urls = [runtime.endpoint] if isinstance(runtime.endpoint, str) else list(dict.fromkeys(runtime.endpoint))
    if not urls:
        raise ModelError(f"model {model.name}: `runtime.model.endpoint` is an empty list; name a base URL")
    _allow_sockets(runtime.concurrency * len(urls))
    name = runtime.served_name or (str(model.location) if model.kind in ("served", "hub") else model.name)
    return EndpointBackend(urls, name, runtime, options)


def _open_managed(model: ResolvedModel, runtime: ModelRuntime) -> Backend:
    from factory.models.openai.client import EndpointBackend
    from factory.models.openai.managed import Prompts
    from factory.models.serve import serve

    prompts = Prompts(model, runtime)
    _allow_sockets(runtime.concurrency)
    served = serve(model, runtime)
    # The server has read `runtime.options` as its own arguments.
    options = {"stop_token_ids": sorted(prompts.ends)}
    try:
        return EndpointBackend([served.url], served.name, runtime, options, prompts, served.revive, served.close)
    except BaseException:
        served.close()
        raise


def _sendable(runtime: ModelRuntime) -> dict[str, object]:
    try:
        json.dumps(runtime.options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"`runtime.model.options` cannot be sent as JSON: {error}") from None
    for name, value in runtime.options.items():
        if name in OWN_FIELDS and not (value is None and name in _LEFT_OUT):
            raise ModelError(f"`runtime.model.options.{name}` would change what is asked behind the recipe's back: set "
                             "it in the step's `params`" + (" (null leaves it out)" if name in _LEFT_OUT else ""))
        if name in _CHANGING:
            raise ModelError(f"`runtime.model.options.{name}` changes what is answered, so it is no runtime setting: "
                             "write it in the step's `params.extra`")
    return runtime.options


def _allow_sockets(wanted: int) -> None:
    """Raise the soft limit of open files as far as a full window needs it and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
