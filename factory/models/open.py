"""Opening a model: choosing the backend that will write the text, and how it runs on this machine.

Backends register under a name, in this project by the table below, elsewhere by `@backend("name")` in a module that an
installed distribution lists under the entry-point group `dataset_factory.backends`. `auto` takes `replay` for replay
models and `transformers` for files. How a model runs is `ModelRuntime`; it never enters an identity.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from factory.engine.errors import ModelError
from factory.models.base import Backend
from factory.models.spec import ResolvedModel


class ModelRuntime(BaseModel):
    """How a model runs. `dtype` auto is float32 on a CPU and bfloat16 on a GPU; `threads` 0 is every core this process
    may use; `log` (replay) gets a line with the answer key of each request asked; `delay` (replay) is seconds per
    answer; `options` are for backends from other distributions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = "auto"
    batch: int = Field(default=16, ge=1)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    threads: int = Field(default=0, ge=0)
    log: str | None = None
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict)


Opener = Callable[[ResolvedModel, ModelRuntime], Backend]

_BUILTIN = {"transformers": "factory.models.transformers", "replay": "factory.models.replay"}
_OPENERS: dict[str, Opener] = {}


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


def open_backend(model: ResolvedModel, runtime: ModelRuntime | None = None) -> Backend:
    """Open a model for answering. Loading may take seconds to minutes; close the backend when done.

    Raises:
        ModelError: unknown backend, or a model that this backend cannot serve or load.
        MissingExtraError: the backend needs an extra that is not installed.
    """
    runtime = runtime or ModelRuntime()
    return _find_opener(_choose_name(model, runtime.backend))(model, runtime)


def _choose_name(model: ResolvedModel, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if model.kind == "served":
        raise ModelError(f"model {model.name} is served elsewhere: name the backend that talks to its endpoint in "
                         f"`runtime.backend` (installed: {', '.join(_names())})")
    return "replay" if model.kind == "replay" else "transformers"


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
        near = difflib.get_close_matches(name, _names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed are {', '.join(_names())}."
        raise ModelError(f"unknown model backend {name!r}: {hint}")
    return _OPENERS[name]
