"""The tokenizer that a filter measures with: named by a recipe, found when it is planned, the same wherever it runs.

Named like a model (`hub` with `revision`, `path`, or `package` with `file`), but only what makes it a tokenizer is its
identity: a commit of the hub, the contents of its files (vocabulary, settings, chat template), or the content of a GGUF
file that carries it; weights beside it do not count, and a path never does. A local tokenizer is put into the cache
(`factory.models.local.cache`) by content when the step is planned, so that workers need no path and read exactly what
the fingerprint names; a GGUF file is read only once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from factory.engine.errors import MissingExtraError, ModelError
from factory.models.local import cache
from factory.models.quiet import quietly
from factory.models.spec import ModelSpec, resolve

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json",
          "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model",
          "spiece.model", "sentencepiece.bpe.model")


class TokenizerSpec(BaseModel):
    """One of `hub` (with `revision`, a full commit hash), `path` (a folder, or a .gguf file) and `package` (with
    `file`, a pattern for the .gguf file in it). `chat_template` (Jinja text) replaces the tokenizer's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    package: str | None = None
    file: str | None = None
    chat_template: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> TokenizerSpec:
        self._as_model()
        return self

    def _as_model(self) -> ModelSpec:
        return ModelSpec.model_validate(self.model_dump(exclude_none=True))


def identify(spec: TokenizerSpec, base_dir: Path) -> dict[str, Any]:
    """The tokenizer's identity. A local one is put into the cache. Relative paths start at `base_dir`.

    Raises:
        ModelError: it is not there, or has no tokenizer; the message says what was expected.
        MissingExtraError: it is in a GGUF file, and what reads those is not installed.
    """
    own = {} if spec.chat_template is None else {"chat_template": spec.chat_template}
    if spec.hub is not None:
        return {"hub": spec.hub, "revision": spec.revision, **own}
    found = base_dir / Path(spec.path).expanduser() if spec.path is not None else None
    if found is not None and found.is_dir():
        present = [found / name for name in _FILES if (found / name).is_file()]
        if not any(path.name not in ("config.json", "chat_template.jinja") for path in present):
            raise ModelError(f"tokenizer path {spec.path!r}: {found} holds no tokenizer.json. Expected a folder as a "
                             "tokenizer's save_pretrained writes it")
        identity: dict[str, Any] = {"files": {path.name: _sha256(path) for path in present}}
        _keep(identity, lambda folder: [shutil.copyfile(path, folder / path.name) for path in present])
        return {**identity, **own}
    model = resolve(spec._as_model(), base_dir)  # a .gguf file, or the error that names what is wrong
    identity = {"gguf": model.identity["gguf"]}
    _keep(identity, lambda folder: _read_gguf(Path(model.location), folder))
    return {**identity, **own}


def open_tokenizer(spec: TokenizerSpec, identity: dict[str, Any] | None = None) -> Any:
    """The tokenizer as transformers loads it, without truncation or padding; kept for the next call. `identity` is what
    `identify` gave at plan time; without it relative paths start here.

    Raises:
        ModelError: it cannot be loaded, is not in the cache of this machine, or is a slow one.
        MissingExtraError: transformers is not installed.
    """
    known = identity if identity is not None else identify(spec, Path.cwd())
    if "hub" in known:
        return _load(known["hub"], known["revision"])
    folder = _place(known)
    if not folder.is_dir() and identify(spec, Path.cwd()) != known:
        raise ModelError(f"the tokenizer {spec.path or spec.package} of the plan is not in the cache {folder.parent}, "
                         "and another one is in its place: share the cache between machines (XDG_CACHE_HOME), or plan "
                         "again")
    return _load(str(folder), None)


@lru_cache(maxsize=4)
def _load(name: str, revision: str | None) -> Any:
    try:
        from transformers import AutoTokenizer

        with quietly():
            tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"tokenizer {name} cannot be loaded: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"tokenizer {name} is written in Python: expected one with a tokenizer.json")
    backend.no_truncation()
    backend.no_padding()
    return tokenizer


def _place(identity: dict[str, Any]) -> Path:
    content = {key: value for key, value in identity.items() if key in ("files", "gguf")}
    return cache() / f"tokenizer-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]}"


def _keep(identity: dict[str, Any], write: Callable[[Path], object]) -> None:
    """Write the folder of a tokenizer beside its place and rename it; whoever is second drops what it made."""
    kept = _place(identity)
    if kept.is_dir():
        return
    scratch = Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    try:
        write(scratch)
        with contextlib.suppress(OSError):
            os.rename(scratch, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_gguf(file: Path, folder: Path) -> None:
    try:
        from transformers import AutoTokenizer

        with quietly():
            AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name).save_pretrained(folder)
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the tokenizer in {file.name} cannot be read: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
