"""Who writes text: requests in, completions out as they finish.

A backend pulls requests from an iterator when it has room and yields completions in whatever order they finish, so one
backend serves many shards and no shard border is a barrier. A backend never sees row ids; the sampling seed of a
request derives from its answer key, so a restarted engine does not repeat or change samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

OWN_FIELDS = frozenset({
    "model", "messages", "prompt", "n", "best_of", "seed", "temperature", "top_p", "top_k", "max_tokens",
    "max_completion_tokens", "stop", "stream", "stream_options", "echo", "logprobs", "return_token_ids",
    "continue_final_message", "add_generation_prompt"})
"""Fields of an HTTP request that are made from a step's params and templates; nothing else may set them."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding settings. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1.0 are off; `max_tokens` counts new tokens.
    `extra` is a JSON object of further fields for a server ("" for none)."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer wanted. `key` is the answer key (hex of 32 bytes); `messages` or `prompt` is set; `prefill` is put
    before the answer and is not part of the completion's text. `spans` are the (start, end) places of `prompt` that a
    row's text fills: what looks like a control token there is text (all text of messages is, too). `row` holds columns
    for the replay backend only."""

    key: str
    seed: int
    sampling: Sampling
    messages: tuple[Mapping[str, str], ...] | None = None
    prompt: str | None = None
    prefill: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `finish_reason` is `stop`, `length` or `content_filter`. `error` is "type: text" for an answer that
    could not be had; `rejected` is "code: text" where a rule refused the request (`prompt_too_long`). `cached_in` of
    `tokens_in` were not computed again, and may be cheaper; `attempts` counts how often it was asked."""

    key: str
    text: str = ""
    finish_reason: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    error: str | None = None
    rejected: str | None = None
    cached_in: int = 0
    attempts: int = 1


class Backend(Protocol):
    """A source of completions. Backends are opened in the process that pumps, and closed when the step ends.

    Two optional attributes are for the watchdog. `life: int` grows while the backend works (tokens written so far,
    unfinished answers included). `patience: float` is for a backend that looks for hanging servers itself: seconds
    without a sign of life before which it is not thought to hang, where that is longer than `runtime.silence`.
    """

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        """Answer every request once. Pulls lazily, and only in the thread that iterates; yields each completion as soon
        as it is finished, and None now and then while there is none, so that the caller may look at the clock.

        Raises:
            ModelError: no answer can be had any more (a missing model, a refused key).
            BackendDied: the engine or server behind it died or fell silent; another try may help.
        """
        ...

    def stop(self) -> None:
        """Finish what has been begun and answer nothing more; `generate` then ends early."""
        ...

    def close(self) -> None:
        """Free memory and processes."""
        ...
