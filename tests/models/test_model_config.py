"""Models that do not exist yet: an architecture, a tokenizer and a seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factory.engine.errors import ModelError
from factory.models.open import open_backend
from factory.models.spec import ModelSpec, resolve

NANO = Path(__file__).parents[2] / "recipes" / "nano"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(NANO / "tokenizer", tmp_path / "tokenizer")
    shutil.copy(NANO / "nano.json", tmp_path / "nano.json")
    return tmp_path


def spec(**changed: Any) -> ModelSpec:
    return ModelSpec(**{"config": "nano.json", "tokenizer": "tokenizer", "init_seed": 1, **changed})


def test_its_identity_is_content_and_seed(folder: Path) -> None:
    found = resolve(spec(), folder)
    assert (found.kind, found.name) == ("config", "nano")
    assert resolve(spec(), folder).identity == found.identity
    moved = folder / "elsewhere"
    shutil.copytree(folder / "tokenizer", moved / "tok")
    shutil.copy(folder / "nano.json", moved / "other.json")
    assert resolve(spec(config="other.json", tokenizer="tok"), moved).identity == found.identity
    assert resolve(spec(init_seed=2), folder).identity != found.identity
    assert resolve(spec(init_seed=None), folder).identity == resolve(spec(init_seed=0), folder).identity
    config = json.loads((folder / "nano.json").read_text())
    (folder / "nano.json").write_text(json.dumps({**config, "hidden_size": 64}))
    assert resolve(spec(), folder).identity != found.identity


@pytest.mark.parametrize(("changed", "said"), [
    ({"tokenizer": None}, "`config` and `tokenizer` go together"),
    ({"path": "x"}, "found path and config"),
    ({"config": None, "tokenizer": None, "path": "x"}, "`init_seed` draws the weights"),
    ({"init_seed": -1}, "greater than or equal to 0"),
    ({"revision": "main"}, "`revision` is needed for"),
])
def test_a_wrong_declaration_says_what_belongs_together(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**changed)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"model_type": 3}'])
def test_a_file_that_is_no_config_is_named(folder: Path, text: str) -> None:
    (folder / "nano.json").write_text(text)
    with pytest.raises(ModelError, match=r"nano\.json"):
        resolve(spec(), folder)


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"config 'gone\.json' cannot be read"):
        resolve(spec(config="gone.json"), folder)
    with pytest.raises(ModelError, match="tokenizer 'gone'"):
        resolve(spec(tokenizer="gone"), folder)


def test_it_has_nothing_to_say_before_it_is_trained(folder: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="only an architecture"):
        open_backend(resolve(spec(), folder))


def test_the_tokenizer_of_the_nano_models_loses_no_text() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(NANO / "tokenizer")
    texts = ["<think> 2 + 3 * 4 </think> <answer> 14 </answer>", "先算乘法: 3 * 4 = 12.",
             "naïve 🙂 \t x\n\n  y", "-10 - 7"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    config = json.loads((NANO / "nano.json").read_text())
    assert len(tokenizer) <= config["vocab_size"]
    assert (config["eos_token_id"], config["pad_token_id"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
