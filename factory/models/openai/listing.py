"""Asking a base URL what it serves: at opening, so that a wrong name or key is told before any work; later, to learn
whether a server that went away is back.

Servers that list no models (404) are taken at their word. A name that is not in the list may still be served (some list
only a few of theirs), so it is asked for by name before it is called missing.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from factory.engine.errors import ModelError
from factory.models.openai.endpoint import Endpoint
from factory.models.openai.faults import Act, Fault, from_exception, from_status

if TYPE_CHECKING:
    from factory.models.openai.exchange import Exchange

_TOLD = 8


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server said: the names it serves, and whether it is vLLM."""

    names: tuple[str, ...]
    vllm: bool = False


async def look(exchange: Exchange, endpoint: Endpoint, name: str) -> Listing:
    """Ask once.

    Raises:
        Fault: DOWN when it cannot be reached or is not ready.
        ModelError: it refuses the key, does not serve the model, or is no such server.
    """
    status, body = await _get(exchange, endpoint, "models")
    if status in (404, 405, 501):
        await _hint_version(exchange, endpoint)
        return Listing(())
    if status != 200:
        fault = from_status(status, {}, body)
        if fault.act is Act.DENY:
            fault = Fault(Act.STOP, "refused_key", fault.text)
        if fault.act in (Act.STOP, Act.FAIL):
            raise exchange.stopping(endpoint, fault)
        raise Fault(Act.DOWN, "connection", fault.text)
    try:
        listed = json.loads(body)["data"]
        names = tuple(one["id"] for one in listed if isinstance(one["id"], str))
        vllm = any(one.get("owned_by") == "vllm" for one in listed)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"endpoint {endpoint.label} does not speak the OpenAI protocol: {endpoint.label}/models "
                         "answered something else than a list of models. Expected a base URL such as "
                         "http://host:8000/v1") from None
    if name not in names:
        status, _ = await _get(exchange, endpoint, f"models/{quote(name)}")
        if status != 200:
            raise ModelError(f"model {name!r} is not served at {endpoint.label}: {_told(name, names)}. Set "
                             "`runtime.model.served_name` to the model's name there")
    return Listing(names, vllm)


async def written(exchange: Exchange, endpoint: Endpoint) -> float | None:
    """How many tokens a vLLM server has written since it started; None where it does not say."""
    try:
        async with exchange.get(f"{endpoint.root}/metrics") as response:
            if response.status != 200:
                return None
            lines = (await response.read()).splitlines()
    except Exception as error:
        if from_exception(error) is None:
            raise
        return None
    found = [line.rsplit(b" ", 1)[-1] for line in lines if line.startswith(b"vllm:generation_tokens_total")]
    try:
        return sum(map(float, found)) if found else None
    except ValueError:
        return None


async def _get(exchange: Exchange, endpoint: Endpoint, path: str) -> tuple[int, bytes]:
    try:
        async with exchange.get(endpoint.address(path)) as response:
            return response.status, await response.read()
    except Exception as error:
        fault = from_exception(error)
        if fault is None:
            raise
        raise Fault(Act.DOWN, "connection", fault.text) from None


async def _hint_version(exchange: Exchange, endpoint: Endpoint) -> None:
    """A base URL without its /v1 is the commonest mistake."""
    if endpoint.label != endpoint.root:
        return
    try:
        status, _ = await _get(exchange, endpoint, "v1/models")
    except Fault:
        return
    if status in (200, 401, 403):
        raise ModelError(f"endpoint {endpoint.label} answers under {endpoint.label}/v1: name that as the endpoint")


def _told(name: str, names: tuple[str, ...]) -> Any:
    near = difflib.get_close_matches(name, names, n=_TOLD, cutoff=0.5)
    shown = list(dict.fromkeys([*near, *names]))[:_TOLD]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"it serves {', '.join(shown)}{more}" if shown else "it serves no model"
