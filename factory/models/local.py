"""What the engines on this machine share: where a model's files lie, its tokenizer, how much it sees, what ends it.

vLLM loads Hugging Face folders. A GGUF file is therefore read once by transformers, which turns its quantised weights
into float32, and kept as a folder in the cache: `$XDG_CACHE_HOME/dataset-factory` or `~/.cache/dataset-factory`, named
by the file's sha256. The folder is written beside its place and renamed, so that a half-written one is never seen and
two processes do no harm. It may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.engine.errors import MissingExtraError, ModelError
from factory.models.quiet import quietly
from factory.models.rendering import Renderer
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel, pretrained

_LEFT_BEHIND_SECONDS = 24 * 3600.0


def refuse_without_files(model: ResolvedModel, who: str) -> None:
    """Raises ModelError for a model that `who` cannot load: one that is only an architecture, or has no files here."""
    if model.kind == "config":
        raise ModelError(f"model {model.name} is only an architecture: it has nothing to say before a train step has "
                         "trained it. Name that step as `model`")
    if model.kind not in ("hub", "folder", "gguf"):
        raise ModelError(f"model {model.name} is of kind {model.kind!r}: {who} loads hub models, folders and .gguf "
                         "files. Leave runtime.backend at auto")


def folder(model: ResolvedModel) -> Path:
    """Where vLLM and transformers load a model from: its folder, or for a hub model the repository's name.

    Raises:
        ModelError: the kind has no files, or a GGUF file cannot be read or kept.
        MissingExtraError: torch or transformers, which read GGUF files, are not installed.
    """
    refuse_without_files(model, "an engine on this machine")
    if model.kind != "gguf":
        return Path(model.location)
    kept = cache() / f"gguf-{model.identity['gguf']}"
    if not (kept / "config.json").is_file():
        with _named_errors(model, "cannot be turned into a model folder"):
            _dequantise(Path(model.location), kept)
    return kept


def renderer(model: ResolvedModel) -> Renderer:
    """The model's tokenizer with the rules of `rendering`.

    Raises:
        ModelError: no tokenizer can be loaded; and as `folder`.
    """
    return Renderer(_tokenizer(model), model.name, model.spec.chat_template)


def context(model: ResolvedModel, runtime: ModelRuntime) -> int:
    """How many tokens the model sees, prompt and answer together: its own limit, or `runtime.context` where less.

    Raises:
        ModelError: as `folder`, or its config.json cannot be read.
    """
    found = getattr(_config(model).get_text_config(), "max_position_embeddings", None)
    own = int(found or _tokenizer(model).model_max_length)
    return min(own, runtime.context or own)


def ends(model: ResolvedModel) -> frozenset[int]:
    """The token ids that end an answer: those of the generation settings, of the model and of the tokenizer.

    Raises:
        ModelError: as `folder`.
    """
    from transformers import GenerationConfig

    settings: list[Any] = [_config(model).get_text_config(), _tokenizer(model)]
    with contextlib.suppress(OSError):  # a model need not have one
        revision: Any = model.spec.revision
        settings.append(GenerationConfig.from_pretrained(str(folder(model)), revision=revision))
    found: set[int] = set()
    for one in (getattr(setting, "eos_token_id", None) for setting in settings):
        found.update([] if one is None else one if isinstance(one, list) else [one])
    return frozenset(found)


def cache() -> Path:
    """The folder for what can be made again. Created when missing."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    found = (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "dataset-factory"
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"the cache folder {found} cannot be made ({error.strerror}): set XDG_CACHE_HOME to a folder "
                         "that can be written") from None
    return found


def _tokenizer(model: ResolvedModel) -> Any:
    from transformers import AutoTokenizer

    with _named_errors(model, "has no tokenizer that can be loaded"), quietly():
        return AutoTokenizer.from_pretrained(str(folder(model)), revision=model.spec.revision)


def _config(model: ResolvedModel) -> Any:
    from transformers import AutoConfig

    with _named_errors(model, "has no config.json that can be read"), quietly():
        return AutoConfig.from_pretrained(str(folder(model)), revision=model.spec.revision)


@contextmanager
def _named_errors(model: ResolvedModel, problem: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(error.name or "a module that loads this model", "train") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model {model.name} {problem}: {error}. Expected a causal language model with its tokenizer, "
                         "and room for it in the cache folder") from error


def _dequantise(file: Path, kept: Path) -> None:
    """Write the model folder of a GGUF file; whoever is second drops what it made."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _forget_broken(kept)
    scratch = Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    try:
        source, options = pretrained("gguf", file, None)
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            net: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
            # The weights are plain numbers now; saved as they are described, nobody would load them again.
            net.hf_quantizer = None
            if hasattr(net.config, "quantization_config"):
                del net.config.quantization_config
            net.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        with contextlib.suppress(OSError):  # the other one's is the same
            os.rename(scratch, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _forget_broken(kept: Path) -> None:
    """Remove what a killed process left of this folder long ago."""
    for path in kept.parent.glob(f".{kept.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
