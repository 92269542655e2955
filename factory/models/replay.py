"""Answers without a model, recorded or made by rule: for tests, rehearsals and benchmarks at full row count.

Recorded: a JSONL file of {"prompt", "answers"}; sample k of a prompt is `answers[k % len(answers)]`, where an answer is
a string or {"text", "finish_reason"}. The prompt is the row's column `prompt` (else the request's own text) and k the
row's `sample_index` (else 0). A prompt that is not there is an error, not an invention.

By rule: the request's seed picks a rule by weight and seeds `rng` for its template, so an answer depends on its seed
and row only. `rng` is splitmix64 (Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure
16), which is fixed by its definition and costs nothing to start. Templates run in Jinja's immutable sandbox.

Tokens are words (runs of non-blanks). `max_tokens` and stop strings cut as a model's would, so raising `max_tokens`
changes only answers that were cut.
"""

from __future__ import annotations

import json
import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from factory.engine.errors import DataError, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.open import backend
from factory.models.rendering import cut_at_stop, refuse_empty
from factory.models.runtime import ModelRuntime
from factory.models.spec import ReplayRule, ResolvedModel

_MASK = (1 << 64) - 1
_BLANKS = bytes(code < 128 and chr(code).isspace() for code in range(256))
_WORD = re.compile(r"\S+")

Answer = tuple[str, str]
Answerer = Callable[[Request], Answer | Completion]
Item = TypeVar("Item")


class Rng:
    """The numbers a rule may draw: `random()` in [0, 1), `integer(low, high)` inclusive, `choice(items)`."""

    __slots__ = ("_state",)

    def __init__(self, seed: int):
        self._state = seed & _MASK

    def _next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def random(self) -> float:
        """A float in [0, 1)."""
        return (self._next() >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both possible."""
        if high < low:
            raise ValueError(f"rng.integer({low}, {high}): the second number is the smaller one")
        return low + (self._next() * (high - low + 1) >> 64)

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]


class ReplayBackend:
    """Answers one request at a time with `answer`; see the module docstring."""

    def __init__(self, answer: Answerer, log: str | None, delay: float):
        self._answer, self._delay = answer, delay
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """Answer every request once, in order."""
        for request in requests:
            if self._log is not None:
                # One write per line on O_APPEND: lines of a process that is killed are whole.
                os.write(self._log, f"{request.key}\n".encode())
            if self._delay:
                time.sleep(self._delay)
            found = refuse_empty(request) or self._answer(request)
            yield found if isinstance(found, Completion) else _finish(request, *found)

    def stop(self) -> None:
        """Nothing waits here: answers end with the requests."""

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None


@backend("replay")
def open_replay(model: ResolvedModel, runtime: ModelRuntime) -> ReplayBackend:
    """Read the answers or compile the rules.

    Raises:
        ModelError: not a replay model, or a rule's template is malformed.
        DataError: a line of the answers file is malformed, with file and line.
    """
    replay = model.spec.replay
    if replay is None:
        raise ModelError(f"model {model.name} has no `replay`: the replay backend has nothing to answer with")
    answer = _by_rule(replay.rules) if replay.rules else _recorded(Path(model.location))
    return ReplayBackend(answer, runtime.log, runtime.delay)


def _finish(request: Request, text: str, reason: str) -> Completion:
    text, reason, words = _limit(text, reason, request.sampling)
    return Completion(request.key, text, reason, _count_asked(request.prompt, request.messages, request.prefill), words)


def _limit(text: str, reason: str, sampling: Sampling) -> tuple[str, str, int]:
    if sampling.stop and (cut := cut_at_stop(text, sampling.stop)) is not None:
        text, reason = cut, "stop"
    words = _count_words(text)
    if words <= sampling.max_tokens:
        return text, reason, words
    end = next(word.end() for count, word in enumerate(_WORD.finditer(text), 1) if count == sampling.max_tokens)
    return text[:end], "length", sampling.max_tokens


def _count_words(text: str) -> int:
    """How many pieces `str.split` would make, without making them where the text is plain ASCII."""
    if len(text) < 200 or not text.isascii():
        return len(text.split())
    import numpy as np

    blank = np.frombuffer(text.encode("ascii").translate(_BLANKS), dtype=np.bool_)
    return int(np.count_nonzero(blank[:-1] & ~blank[1:])) + int(not blank[0])


def _count_asked(prompt: str | None, messages: Sequence[Mapping[str, str]] | None, prefill: str) -> int:
    if messages is None:
        return _count_prompt(prompt or "") + len(prefill.split())
    return sum(_count_prompt(message["content"]) for message in messages) + len(prefill.split())


@lru_cache(maxsize=32)
def _count_prompt(text: str) -> int:
    """Samples of one prompt come one after the other."""
    return _count_words(text)


def _by_rule(rules: Sequence[ReplayRule]) -> Answerer:
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    templates = []
    for number, rule in enumerate(rules):
        try:
            templates.append(environment.from_string(rule.text))
        except TemplateSyntaxError as error:
            raise ModelError(f"replay rule {number}, line {error.lineno}: {error.message}. Expected a Jinja template "
                             "over the row's columns and rng") from error
    bounds = list(accumulate(rule.weight for rule in rules))
    last = max(number for number, rule in enumerate(rules) if rule.weight)

    def answer(request: Request) -> Answer | Completion:
        rng = Rng(request.seed)
        number = min(bisect_right(bounds, rng.random() * bounds[-1]), last)
        try:
            return templates[number].render({**request.row, "rng": rng}), rules[number].finish_reason
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return Completion(request.key, error=f"replay_rule: rule {number} cannot be rendered for this row: {error}")

    return answer


def _recorded(path: Path) -> Answerer:
    book: dict[str, list[Answer]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            prompt, answers = _read_line(line, f"{path}:{number}")
            if prompt in book:
                raise DataError(f"{path}:{number}: an earlier line has the same prompt: keep one line per prompt")
            book[prompt] = answers

    def answer(request: Request) -> Answer | Completion:
        prompt = request.row.get("prompt")
        if not isinstance(prompt, str):
            prompt = request.prompt if request.messages is None else request.messages[-1]["content"]
        answers = book.get(prompt or "")
        if answers is None:
            return Completion(request.key, error=f"not_recorded: {path.name} has no answer to this prompt")
        return answers[int(request.row.get("sample_index") or 0) % len(answers)]

    return answer


def _read_line(line: str, where: str) -> tuple[str, list[Answer]]:
    try:
        entry: Any = json.loads(line)
        answers = [(one, "stop") if isinstance(one, str) else (one["text"], one.get("finish_reason", "stop"))
                   for one in entry["answers"]]
        prompt = entry["prompt"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f'{where}: expected {{"prompt": text, "answers": [text or {{"text", "finish_reason"}}]}}: '
                        f"{error}") from error
    good = isinstance(prompt, str) and answers and all(
        isinstance(text, str) and reason in ("stop", "length") for text, reason in answers)
    if not good:
        raise DataError(f"{where}: expected a prompt that is text, and at least one answer (stop or length)")
    return prompt, answers
