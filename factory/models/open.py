"""Opening a model: choosing the backend that will write the text, and how it runs on this machine.

Backends register under a name, in this project by the table below, elsewhere by `@backend("name")` in a module that an
installed distribution lists under the entry-point group `dataset_factory.backends`. How a model runs is `ModelRuntime`
(see `runtime`), of its declaration and of the step that asks it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from factory.engine.errors import ModelError
from factory.models.base import Backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel
from factory.models.watch import Watched

Opener = Callable[[ResolvedModel, ModelRuntime], Backend]

_BUILTIN = {"transformers": "factory.models.transformers", "vllm": "factory.models.vllm",
            "openai": "factory.models.openai", "replay": "factory.models.replay"}
_OPENERS: dict[str, Opener] = {}
_OUR_OWN = frozenset({"transformers", "replay"})
"""Backends that work in the thread that asks: a watchdog there could only die with them."""


def backend(name: str) -> Callable[[Opener], Opener]:
    """Register a function `(model, runtime) -> Backend` as the backend of that name.

    Raises:
        ModelError: another function has the name.
    """

    def register(opener: Opener) -> Opener:
        known = _OPENERS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (opener.__module__, opener.__qualname__):
            raise ModelError(f"model backend {name!r} is already defined in {known.__module__}: choose another name")
        _OPENERS[name] = opener
        return opener

    return register


def open_backend(model: ResolvedModel, runtime: ModelRuntime | None = None,
                 tell: Callable[[str], None] | None = None) -> Backend:
    """Open a model for answering. Loading may take seconds to minutes; close the backend when done. `tell` is told what
    a user should know meanwhile, such as that an engine died and was started again.

    Raises:
        ModelError: unknown backend, or a model that this backend cannot serve or load.
        MissingExtraError: the backend needs an extra that is not installed.
    """
    runtime = (runtime or ModelRuntime()).over(model.spec.runtime)
    name = choose_name(model, runtime)
    opener = _find_opener(name)
    if name in _OUR_OWN:
        return opener(model, runtime)
    return Watched(lambda: opener(model, runtime), model.name, runtime, tell)


def check_runnable(model: ResolvedModel, runtime: ModelRuntime) -> None:
    """Find what can be found wrong without loading anything. Raises ModelError."""
    name = choose_name(model, runtime)
    if name not in _names():
        raise _unknown(name)
    if runtime.endpoint == "managed" and model.kind not in ("hub", "folder", "gguf"):
        raise ModelError(f"model {model.name} is of kind {model.kind!r}: `endpoint: managed` starts a server for a "
                         "model whose files are here. Name the URL of the server that has it")


def choose_name(model: ResolvedModel, runtime: ModelRuntime) -> str:
    """The backend that answers for a model: the one of `runtime.backend`, or the one that fits. Raises ModelError for a
    model that is served elsewhere, without an endpoint."""
    if runtime.backend != "auto":
        return runtime.backend
    if model.kind == "replay":
        return "replay"
    if runtime.endpoint is not None:
        return "openai"
    if model.kind == "served":
        raise ModelError(f"model {model.name} is served elsewhere: name its base URL in `runtime.model.endpoint` "
                         "(http://host:8000/v1), or in the model's own `runtime`")
    gpu = Path("/dev/nvidia0").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return "vllm" if gpu and importlib.util.find_spec("vllm") is not None else "transformers"


def _names() -> list[str]:
    return sorted({*_BUILTIN, *_OPENERS, *(point.name for point in entry_points(group="dataset_factory.backends"))})


def _find_opener(name: str) -> Opener:
    if name not in _OPENERS and name in _BUILTIN:
        importlib.import_module(_BUILTIN[name])
    if name not in _OPENERS:
        for point in entry_points(group="dataset_factory.backends"):
            if point.name == name:
                point.load()
    if name not in _OPENERS:
        raise _unknown(name)
    return _OPENERS[name]


def _unknown(name: str) -> ModelError:
    near = difflib.get_close_matches(name, _names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"installed are {', '.join(_names())}."
    return ModelError(f"unknown model backend {name!r}: {hint}")
