"""What the scripted server says, and which requests it treats badly.

An answer is a function of {model, messages or prompt, seed, sampling} and nothing else: its first word is the start of
the request's hash, so that a mixed-up answer is seen, and the others are drawn from a small lexicon by that hash. One
token is one word. The number of words is log-uniform between two bounds; `max_tokens` cuts (`length`), stop strings cut
(`stop`). So a larger `max_tokens` gives a longer beginning of the same text.

A script is a list of rules; the first that fits a request is applied to it. `match` (text in the prompt), `every` (each
N-th request that gets as far as this rule), `share` (of all requests, by hash), `times` (how often for one request) and
`total` (how often at all) say when; all that are given must hold. `do` says what:

    status              answer `status`, with `retry_after` seconds (as a date with `date: true`) and `code` in the body
    slow_first_byte     wait `seconds`, then answer
    hang                answer nothing until the client goes
    half_body           announce the whole body, send half of it, close
    half_stream         some chunks of a stream, then close (`clean: true`: a regular end, without the last chunks)
    reset               close with a TCP reset
    wrong_json          200 with a body that is no JSON
    empty_choices       200 with no choices
    finish              the answer with `reason` as its finish_reason
    duplicate_choices   the answer twice
    reasoning_content   half of the answer as `reasoning_content`
    no_usage            the answer without usage
    context_error       400, too long, in the words of vLLM or OpenAI (`wording`)
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_DECIDES = ("model", "messages", "prompt", "seed", "temperature", "top_p", "top_k", "stop", "add_generation_prompt")
_LEXICON = """so we find that the sum of both is even hence x = 3 and y ≤ 7 naïve però weil 因此 我们 得到 答案 ∑ √2 🙂
wait check again then each side squared gives $a^2$ therefore \\frac{1}{2} is what remains to be shown next""".split()  # noqa: SIM905

_Do = Literal["status", "slow_first_byte", "hang", "half_body", "half_stream", "reset", "wrong_json", "empty_choices",
              "finish", "duplicate_choices", "reasoning_content", "no_usage", "context_error"]


class Rule(BaseModel):
    """One line of a script; see the module docstring."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: _Do
    match: str | None = None
    every: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, ge=0, le=1)
    times: int | None = Field(default=None, ge=1)
    total: int | None = Field(default=None, ge=1)
    status: int = Field(default=500, ge=400, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    date: bool = False
    code: str = "scripted"
    seconds: float = Field(default=1.0, ge=0)
    clean: bool = False
    reason: str = "length"
    wording: Literal["vllm", "openai"] = "vllm"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the server understands it. `hash` names all that decides its answer."""

    hash: str
    text: str
    model: str
    tokens_in: int
    max_tokens: int | None
    stop: tuple[str, ...]
    chat: bool
    stream: bool
    usage: bool


def read_request(body: dict[str, Any], *, chat: bool) -> Asked:
    """Read a body of /chat/completions or /completions.

    Raises:
        ValueError: no prompt, or one of the wrong form.
    """
    if chat:
        said = body.get("messages")
        if not isinstance(said, list) or not said or not all(isinstance(one.get("content"), str) for one in said):
            raise ValueError("messages: a list of {role, content} is needed")
        text = "\n".join(one["content"] for one in said)
    else:
        said = body.get("prompt")
        if isinstance(said, list) and all(isinstance(one, int) for one in said):
            text = " ".join(map(str, said))
        elif isinstance(said, str):
            text = said
        else:
            raise ValueError("prompt: a text or a list of token ids is needed")
    decides = json.dumps({name: body[name] for name in _DECIDES if body.get(name) is not None}, sort_keys=True)
    stop = body.get("stop") or ()
    options = body.get("stream_options") or {}
    return Asked(hashlib.sha256(decides.encode()).hexdigest()[:24], text, str(body.get("model")), len(text.split()),
                 body.get("max_completion_tokens", body.get("max_tokens")),
                 (stop,) if isinstance(stop, str) else tuple(stop), chat, bool(body.get("stream")),
                 not body.get("stream") or bool(options.get("include_usage")))


def answer(asked: Asked, low: int, high: int) -> tuple[list[str], str]:
    """The words of the answer and its finish_reason; between `low` and `high` words where nothing cuts it."""
    rng = random.Random(int(asked.hash, 16))
    count = round(math.exp(rng.uniform(math.log(low), math.log(high))))
    words = [asked.hash[:12], *rng.choices(_LEXICON, k=count - 1)]
    limit = count if asked.max_tokens is None else asked.max_tokens
    reason = "stop" if count <= limit else "length"
    words = words[:limit]
    text = " ".join(words)
    ends = [at for at in (text.find(mark) for mark in asked.stop if mark) if at >= 0]
    return (text[:min(ends)].split(), "stop") if ends else (words, reason)


def digest(text: str) -> str:
    """A short name of a prompt's text, exact to the character."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class Script:
    """Rules, and how often each was applied."""

    def __init__(self, rules: list[dict[str, Any]]):
        self.rules = [Rule.model_validate(rule) for rule in rules]
        self.applied: Counter[tuple[int, str]] = Counter()
        self.totals: Counter[int] = Counter()
        self.seen: Counter[int] = Counter()

    def pick(self, asked: Asked) -> Rule | None:
        """The rule for this request, counted as applied."""
        for number, rule in enumerate(self.rules):
            if self._fits(number, rule, asked):
                self.applied[number, asked.hash] += 1
                self.totals[number] += 1
                return rule
        return None

    def _fits(self, number: int, rule: Rule, asked: Asked) -> bool:
        if rule.match is not None and rule.match not in asked.text:
            return False
        if rule.share is not None and _fraction(f"{number} {asked.hash}") >= rule.share:
            return False
        if rule.times is not None and self.applied[number, asked.hash] >= rule.times:
            return False
        if rule.total is not None and self.totals[number] >= rule.total:
            return False
        self.seen[number] += 1
        return rule.every is None or self.seen[number] % rule.every == 0


def _fraction(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / float(1 << 48)
