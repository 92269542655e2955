"""gate.checkpoint: what does not load, does not render or has regressed goes no further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from factory.engine.errors import DataError
from factory.engine.op import GateResult, Job, OpContext
from factory.models.spec import ModelSpec, resolve
from factory.training.gate import CheckpointGateParams, gate_checkpoint

transformers = pytest.importorskip("transformers")
NANO = Path(__file__).parents[2] / "recipes" / "nano"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A nano model as a trainer saves it."""
    folder = tmp_path / "checkpoint"
    settings = json.loads((NANO / "nano.json").read_text())
    settings.pop("model_type")
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(NANO / "tokenizer").save_pretrained(folder)
    return folder


def gate(folder: Path | None, values: list[float], tmp_path: Path, *, of: str | None = None,
         **params: Any) -> GateResult:
    names = ["new", "old", "older"][: len(values)]
    notes = {name: {"kind": "report", "op": "evaluate.summary", "metrics": {"accuracy": value}, "checkpoint": of}
             for name, value in zip(names, values, strict=True)}
    model = resolve(ModelSpec(path=str(folder)), tmp_path) if folder is not None else None
    job = Job(inputs={name: None for name in names}, refs={}, facts={}, workdir=tmp_path, model=model,  # type: ignore[misc]
              notes=notes)
    found: GateResult = gate_checkpoint(job, CheckpointGateParams(**params), OpContext())
    return found


@pytest.mark.parametrize(("values", "params", "passes"), [
    ([0.5], {}, True), ([0.5, 0.5], {}, True), ([0.5, 0.52], {}, True), ([0.5, 0.53], {}, False),
    ([0.5, 0.1, 0.9], {}, False), ([0.5, 0.1, 0.9], {"tolerance": 0.4}, True), ([0.5], {"least": 0.6}, False),
])
def test_figures_decide(tmp_path: Path, values: list[float], params: dict[str, Any], passes: bool) -> None:
    found = gate(None, values, tmp_path, **params)
    assert found.passed is passes
    assert found.metrics["new"] == 0.5


def test_a_whole_checkpoint_passes(checkpoint: Path, tmp_path: Path) -> None:
    found = gate(checkpoint, [0.5, 0.4], tmp_path)
    assert found.passed, found.reason


def test_weights_that_are_cut_short_do_not_pass(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    found = gate(checkpoint, [0.5], tmp_path)
    assert not found.passed
    assert "does not load" in found.reason


def test_a_tokenizer_that_drops_the_tags_does_not_pass(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "tokenizer.json"
    found = json.loads(path.read_text())
    for token in found["added_tokens"]:
        token["special"] = token["special"] or token["content"].startswith(("<think", "</think"))
    path.write_text(json.dumps(found))
    result = gate(checkpoint, [0.5], tmp_path)
    assert not result.passed
    assert "tokenizer turns" in result.reason


@pytest.mark.parametrize(("template", "said"), [
    ("{{ raise_exception('no') }}", "does not render"),
    ("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}", "changes"),
    ("{% for m in messages %}{{ m.content", "does not render"),
])
def test_a_chat_template_that_spoils_thinking_does_not_pass(checkpoint: Path, tmp_path: Path, template: str,
                                                            said: str) -> None:
    (checkpoint / "chat_template.jinja").write_text(template)
    found = gate(checkpoint, [0.5], tmp_path)
    assert not found.passed
    assert said in found.reason


def test_no_chat_template(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    assert not gate(checkpoint, [0.5], tmp_path).passed
    assert gate(checkpoint, [0.5], tmp_path, chat=False).passed


def test_an_input_that_is_no_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`evaluate` steps"):
        gate(None, [0.5], tmp_path, metric="bleu")


def test_the_folder_of_a_checkpoint_may_be_gone(checkpoint: Path, tmp_path: Path) -> None:
    model = resolve(ModelSpec(path=str(checkpoint)), tmp_path)
    shutil.rmtree(checkpoint)
    job = Job(inputs={"new": None}, refs={}, facts={}, workdir=tmp_path, model=model,  # type: ignore[dict-item]
              notes={"new": {"kind": "report", "op": "evaluate.summary", "metrics": {"accuracy": 1.0},
                             "checkpoint": None}})
    assert not gate_checkpoint(job, CheckpointGateParams(), OpContext()).passed


def test_the_evaluation_of_another_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    assert gate(checkpoint, [0.5], tmp_path, of="checkpoint").passed
    with pytest.raises(DataError, match="name the evaluation of the model first"):
        gate(checkpoint, [0.5], tmp_path, of="nano/base@1")
