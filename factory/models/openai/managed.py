"""Prompts and texts of a server whose model lies on this machine: both are made here, by the rules of every other
embedded backend (`rendering`), so that a row's text is never read as control tokens and a prefill is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from factory.models import local
from factory.models.base import Completion, Request
from factory.models.openai.pool import Job
from factory.models.openai.wire import Answer
from factory.models.rendering import cut_at_stop
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel


class Prompts:
    """Tokenises requests for a model, and reads the token ids of its answers."""

    def __init__(self, model: ResolvedModel, runtime: ModelRuntime):
        self._renderer, self._context = local.renderer(model), local.context(model, runtime)
        self.ends = local.ends(model)

    def jobs(self, requests: Sequence[Request]) -> list[Job | Completion]:
        """The requests as token ids; a completion for one that cannot be asked."""
        try:
            encoded = self._renderer.encode(requests)
        except (UnicodeEncodeError, TypeError):
            if len(requests) > 1:
                return [one for request in requests for one in self.jobs([request])]
            return [Completion(requests[0].key, error="not_unicode: the text has no UTF-8 form")]
        return [ids if isinstance(ids, Completion) else self._job(request, ids)
                for request, ids in zip(requests, encoded, strict=True)]

    def _job(self, request: Request, ids: list[int]) -> Job | Completion:
        if len(ids) > self._context - 1:
            return Completion(
                request.key, tokens_in=len(ids), rejected=f"prompt_too_long: the prompt has {len(ids)} tokens, the "
                f"model sees {self._context} and one must be left for the answer")
        return Job(request, ids, self._context - len(ids))

    def completion(self, job: Job, answer: Answer) -> Completion:
        """The completion with its text made from token ids; as the server wrote it where it sent none."""
        if answer.ids is None:
            return answer.completion
        ids = answer.ids[:-1] if answer.ids and answer.ids[-1] in self.ends else answer.ids
        text = self._renderer.text(ids, job.ids or ())
        cut = cut_at_stop(text, job.request.sampling.stop)
        if cut is None:
            return replace(answer.completion, text=text)
        return replace(answer.completion, text=cut, finish_reason="stop")
