"""The embedded backend: a model loaded by transformers (hub, folder or GGUF) on this machine's CPU or GPU.

Requests are pulled a window at a time and sorted by prompt length, so that little is wasted on padding. When half of
the running batch has finished, waiting rows take the free places. Each answer is yielded at the step that finishes it.
What a row says depends on its own request only: the noise is keyed by its seed (`noise`), and batch-mates move
logits by rounding alone (about 6e-6 in float32).

torch and transformers come with the extra `train`; both are imported when a model is opened.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

from factory.engine.errors import MissingExtraError, ModelError
from factory.models.base import Completion, Request
from factory.models.decode import Batch, Row
from factory.models.local import refuse_without_files
from factory.models.open import backend
from factory.models.quiet import quietly
from factory.models.rendering import Renderer, cut_at_stop, refuse_extra
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel, pretrained

BATCH = 16
_WINDOW = 4


class TransformersBackend:
    """Answers with a loaded model. `context` is how many tokens the model can see, prompt and answer together."""

    def __init__(self, model: Any, renderer: Renderer, *, name: str, context: int, ends: frozenset[int], batch: int,
                 threads: int):
        self._model, self._renderer, self._name = model, renderer, name
        self._context, self._ends, self._size = context, ends, batch
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sampling")
        self._stopped = False

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """Answer every request once (see `Backend`).

        Raises:
            ModelError: no chat template for a chat request, or out of memory.
        """
        source, waiting, exhausted = iter(requests), deque[Row](), False
        batch = Batch(self._model, self._ended, self._threads)
        while True:
            if self._stopped:
                waiting.clear()
                exhausted = True
            room = self._size - len(batch.rows)
            if batch.open and 2 * room >= self._size:
                if not waiting and not exhausted:
                    window = list(islice(source, _WINDOW * self._size))
                    exhausted = len(window) < _WINDOW * self._size
                    rows, refused = self._prepare(window)
                    waiting.extend(rows)
                    yield from refused
                if waiting:
                    group = [waiting.popleft() for _ in range(min(room, len(waiting)))]
                    with self._named_errors():
                        done = batch.add(group)
                    yield from map(self._complete, done)
            if batch.rows:
                with self._named_errors():
                    done = batch.step()
                yield from map(self._complete, done)
            elif exhausted and not waiting:
                return

    def stop(self) -> None:
        """Finish the running batch; rows that wait for a place are left unanswered."""
        self._stopped = True

    def close(self) -> None:
        """Forget the model; on a GPU also give its memory back."""
        import torch

        self._threads.shutdown()
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _prepare(self, window: list[Request]) -> tuple[list[Row], list[Completion]]:
        rows: list[Row] = []
        refused: list[Completion] = []
        for request in window:
            refuse_extra(request, self._name)
        for request, ids in zip(window, self._renderer.encode(window), strict=True):
            if isinstance(ids, Completion):
                refused.append(ids)
            elif len(ids) > self._context - 1:
                refused.append(Completion(
                    request.key, tokens_in=len(ids), rejected=f"prompt_too_long: the prompt has {len(ids)} tokens, the "
                    f"model sees {self._context} and one must be left for the answer"))
            else:
                rows.append(Row(request, ids, min(request.sampling.max_tokens, self._context - len(ids))))
        return sorted(rows, key=lambda row: len(row.prompt)), refused

    def _ended(self, row: Row) -> str | None:
        if row.new[-1] in self._ends or self._renderer.stopped(row.new, row.request.sampling.stop):
            return "stop"
        return "length" if len(row.new) >= row.room else None

    def _complete(self, row: Row) -> Completion:
        if row.finish == "error":
            return Completion(row.request.key, tokens_in=len(row.prompt), tokens_out=len(row.new),
                              error="not_a_number: the model's logits are not finite; try runtime.dtype float32")
        ids = row.new[:-1] if row.new[-1] in self._ends else row.new
        text = self._renderer.text(ids, row.prompt)
        cut = cut_at_stop(text, row.request.sampling.stop)
        reason = "stop" if cut is not None else row.finish or "stop"
        return Completion(row.request.key, text if cut is None else cut, reason, len(row.prompt), len(row.new))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(f"model {self._name} ran out of GPU memory with runtime.batch {self._size}: "
                             "lower runtime.batch, or max_tokens") from error


@backend("transformers")
def open_transformers(model: ResolvedModel, runtime: ModelRuntime) -> TransformersBackend:
    """Load a hub, folder or GGUF model.

    Raises:
        ModelError: the kind does not fit, or the files cannot be loaded.
        MissingExtraError: torch or transformers is not installed.
    """
    refuse_without_files(model, "the transformers backend")
    # Threads that spin while they wait ruin each other where cores are shared: two models at once wrote 15 tokens/s
    # each with libgomp's default and 52 with this, for about a tenth less when alone. It must be set before torch
    # is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error

    threads = runtime.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if runtime.device == "auto" else runtime.device
    dtype = ("float32" if device == "cpu" else "bfloat16") if runtime.dtype == "auto" else runtime.dtype
    net, tokenizer = _load(model, getattr(torch, dtype), device)
    config = net.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)
    return TransformersBackend(
        net, Renderer(tokenizer, model.name, model.spec.chat_template), name=model.name,
        context=min(context, runtime.context or context), ends=_end_ids(net, tokenizer), batch=runtime.batch or BATCH,
        threads=threads)


def _load(model: ResolvedModel, dtype: Any, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, options = pretrained(model.kind, model.location, model.spec.revision)
    with quietly():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            net: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
            net = net.to(device)
        except ImportError as error:
            raise MissingExtraError(error.name or "a module that loads this model", "train") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"model {model.name} cannot be loaded: {error}. Expected a causal language model with its "
                             "tokenizer, in a form transformers reads") from error
    return net.eval(), tokenizer


def _end_ids(net: Any, tokenizer: Any) -> frozenset[int]:
    ends: set[int] = set()
    settings = (net.generation_config, net.config.get_text_config(), tokenizer)
    for found in (getattr(one, "eos_token_id", None) for one in settings):
        ends.update([] if found is None else found if isinstance(found, list) else [found])
    return frozenset(ends)
