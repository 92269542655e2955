"""vLLM on this machine, without a server between: the backend for large runs.

vLLM's synchronous engine, the one that `LLM.generate` drives, runs in a process of its own (`vllm_host`), so that this
process's work never stands in its way, its output never reaches a terminal, and closing it frees all memory. Requests
are handed over while it runs: about half as many again as it answers at once, so it never waits and a kill loses
little. Prompts go over as token ids and answers come back as token ids; text is made here, by the same rules as in
every other backend (`rendering`).

The n samples of a prompt are n requests with seeds of their own, side by side, so that they share the prompt's
computed keys and values. What a row says depends on its own request, up to the rounding of batch-mates.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from factory.engine.errors import BackendDied, ModelError
from factory.models import local
from factory.models.base import Completion, Request
from factory.models.hosting import Hosted, environment
from factory.models.open import backend
from factory.models.rendering import Renderer, cut_at_stop, refuse_extra
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel

_TICK_SECONDS = 0.5
_GROUP = 64
_SPARE = 16


@dataclass(frozen=True, slots=True)
class _Flight:
    request: Request
    ids: list[int]


class VllmBackend:
    """Answers with an engine that is ready. `life` counts the tokens it has written, unfinished answers included."""

    def __init__(self, hosted: Hosted, renderer: Renderer, *, name: str, context: int, ends: frozenset[int]):
        self._hosted, self._renderer, self._name = hosted, renderer, name
        self._context, self._ends = context, ends
        self._stopped, self._asked = False, 0
        self.life = 0
        slots = self._wait_until_ready()
        self._most = slots + max(_SPARE, slots // 2)

    def _wait_until_ready(self) -> int:
        while True:
            message = self._message(_TICK_SECONDS, starting=True)
            if message is not None:
                return int(message[1])

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        """Answer every request once (see `Backend`).

        Raises:
            ModelError: no chat template for a chat request.
            BackendDied: the engine died; the message ends with the tail of its log.
        """
        source, exhausted, told = iter(requests), False, False
        flying: dict[int, _Flight] = {}
        while True:
            if self._stopped and not told:
                exhausted = told = True
                self._tell(("stop",))
            room = self._most - len(flying)
            if room > 0 and not exhausted:
                wanted = min(room, _GROUP)
                group = list(islice(source, wanted))
                exhausted = len(group) < wanted
                yield from self._hand_over(group, flying)
            if not flying:
                if exhausted:
                    return
                continue
            feeding = not exhausted and len(flying) < self._most
            message = self._message(0 if feeding else _TICK_SECONDS)
            done = self._take(message, flying) if message is not None else []
            yield from done
            if not done and not feeding:
                yield None

    def stop(self) -> None:
        """Finish the answers that have been begun; the others are left unanswered."""
        self._stopped = True

    def close(self) -> None:
        """End the engine and its processes. May be called again."""
        self._hosted.close(("close",))

    def _hand_over(self, group: list[Request], flying: dict[int, _Flight]) -> Iterator[Completion]:
        """Send a group to the engine; yields those that cannot be asked."""
        wanted = []
        for request in group:
            refuse_extra(request, self._name)
        for request, ids in zip(group, self._renderer.encode(group), strict=True):
            if isinstance(ids, Completion):
                yield ids
            elif len(ids) > self._context - 1:
                yield Completion(
                    request.key, tokens_in=len(ids), rejected=f"prompt_too_long: the prompt has {len(ids)} tokens, the "
                    f"model sees {self._context} and one must be left for the answer")
            else:
                self._asked += 1
                flying[self._asked] = _Flight(request, ids)
                wanted.append((self._asked, array("i", ids).tobytes(), self._settings(request, len(ids))))
        if wanted:
            self._tell(("ask", wanted))

    def _settings(self, request: Request, length: int) -> dict[str, Any]:
        sampling = request.sampling
        return {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
                "max_tokens": min(sampling.max_tokens, self._context - length), "stop": list(sampling.stop),
                "stop_token_ids": sorted(self._ends), "seed": request.seed}

    def _take(self, message: tuple[Any, ...], flying: dict[int, _Flight]) -> list[Completion]:
        """The completions that a message brings. What an earlier, abandoned `generate` asked is not answered."""
        if message[0] == "dropped":
            for number in message[1]:
                flying.pop(number, None)
            return []
        if message[0] == "refused":
            flight = flying.pop(message[1], None)
            return [Completion(flight.request.key, error=f"bad_request: {message[2]}")] if flight else []
        self.life = message[1]
        return [self._complete(flying.pop(answer[0]), *answer[1:]) for answer in message[2] if answer[0] in flying]

    def _complete(self, flight: _Flight, written: bytes, reason: str | None, cached: int) -> Completion:
        request, ids = flight.request, array("i", written).tolist()
        if reason not in ("stop", "length"):
            return Completion(request.key, tokens_in=len(flight.ids), tokens_out=len(ids),
                              error=f"engine: the answer ended with {reason!r}, expected stop or length")
        kept = ids[:-1] if ids and ids[-1] in self._ends else ids
        text = self._renderer.text(kept, flight.ids)
        cut = cut_at_stop(text, request.sampling.stop)
        return Completion(request.key, text if cut is None else cut, reason if cut is None else "stop",
                          len(flight.ids), len(ids), cached_in=cached)

    def _message(self, seconds: float, *, starting: bool = False) -> tuple[Any, ...] | None:
        try:
            if not self._hosted.pipe.poll(seconds):
                return None
            message: tuple[Any, ...] = self._hosted.pipe.recv()
        except (EOFError, OSError):
            message = ("dead", "")
        if message[0] == "dead":
            raise self._death(message[1], starting)
        return message

    def _tell(self, message: tuple[Any, ...]) -> None:
        try:
            self._hosted.pipe.send(message)
        except OSError:
            raise self._death("", False) from None

    def _death(self, words: str, starting: bool) -> ModelError:
        ending = self._hosted.ending(words)
        if starting and self._hosted.process.returncode != 1:
            return BackendDied(f"model {self._name}: vLLM died while it started: it {ending}")
        if starting:
            return ModelError(f"model {self._name}: vLLM could not start with it: {ending}")
        return BackendDied(f"model {self._name}: vLLM died: {ending}")


@backend("vllm")
def open_vllm(model: ResolvedModel, runtime: ModelRuntime) -> VllmBackend:
    """Start an engine for a hub, folder or GGUF model. Takes from half a minute to many.

    Raises:
        ModelError: the kind does not fit, the engine refuses its arguments, or the files cannot be loaded.
        MissingExtraError: vllm is not installed.
    """
    context = local.context(model, runtime)
    renderer, ends = local.renderer(model), local.ends(model)
    hosted = Hosted("engine", [], environment(runtime))
    try:
        hosted.pipe.send(arguments(model, runtime, context))
        return VllmBackend(hosted, renderer, name=model.name, context=context, ends=ends)
    except BaseException as error:
        hosted.close(("close",))
        if isinstance(error, OSError):
            raise BackendDied(f"model {model.name}: vLLM's process ended at once") from error
        raise


def arguments(model: ResolvedModel, runtime: ModelRuntime, context: int) -> dict[str, Any]:
    """vLLM's engine arguments for a model; `runtime.options` win."""
    found: dict[str, Any] = {
        "model": str(local.folder(model)), "dtype": runtime.dtype, "max_model_len": context,
        "tensor_parallel_size": runtime.tensor_parallel, "generation_config": "vllm", "disable_log_stats": True,
        "enable_prefix_caching": True}
    if model.kind == "hub":
        found |= {"revision": model.spec.revision, "tokenizer_revision": model.spec.revision}
    if runtime.batch is not None:
        found["max_num_seqs"] = runtime.batch
    return {**found, **runtime.options}
