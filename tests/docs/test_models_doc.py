"""docs/models.md says what is so: its YAML plans, its SQL runs, every setting and every class of error is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import factory
from factory.engine.recipe_yaml import read_yaml
from factory.models.runtime import ModelRuntime
from factory.models.spec import _SOURCES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
STATEMENTS = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMIT = "0123456789abcdef" * 2 + "01234567"


def recipe(folder: Path, block: str) -> Path:
    """A block as a recipe: what it leaves out is what the first block of the document says."""
    (folder / "whole.yaml").write_text(BLOCKS[0].replace("<full commit hash>", COMMIT))
    (folder / "part.yaml").write_text(block.replace("<full commit hash>", COMMIT))
    whole, part = (read_yaml(folder / name)[0] for name in ("whole.yaml", "part.yaml"))
    for section in ("models", "steps"):
        whole[section] = {**whole[section], **part.get(section, {})}
    (folder / "r.yaml").write_text(json.dumps({**part, **whole}))
    return folder / "r.yaml"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_yaml_plans(block: str, tmp_path: Path) -> None:
    step = factory.plan(recipe(tmp_path, block), warehouse=tmp_path / "house").plan.steps["samples"]
    assert step.model is not None
    runtime = step.runtime.backend.over(step.model.spec.runtime)
    assert runtime.model_fields_set or "runtime" not in block


def test_its_sql_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = factory.run(ROOT / "recipes" / "pico.yaml", warehouse="house", executor="inline", until="reasoning",
                         vars={"count": 6, "n": 4},
                         overrides={"models.rules.runtime": {"price": {"input": 1.0, "output": 4.0}}})
    assert report.status == "succeeded", report.errors
    warehouse = factory.Warehouse("house")
    version, steps = (warehouse.sql(statement) for statement in STATEMENTS)
    usage = report.manifests["samples"].usage
    assert usage.cost == pytest.approx((usage.tokens_in + 4 * usage.tokens_out) / 1e6)
    kept = report.manifests["reasoning"].row_count
    assert version.rows() == [("pico/reasoning@1", kept, pytest.approx(usage.cost), "USD",
                               pytest.approx(usage.cost / kept, abs=1e-9), round(usage.tokens_out / kept, 1))]
    assert steps.select("step", "answers_requested", "cost", "currency").rows() == [
        ("samples", usage.requested, usage.cost, "USD")]


def test_every_setting_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT)) | set(re.findall(r"`(\w+):", TEXT))
    assert set(ModelRuntime.model_fields) - named == set()
    assert {"hub", "path", "package", "served", "replay"} <= set(_SOURCES) & named


def test_every_class_of_error_is_named() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "factory/models/openai").glob("*.py"))
    kinds = set(re.findall(r'Fault\(Act\.\w+, "(\w+)"', source)) | set(re.findall(r'error="(\w+):', source))
    assert len(kinds) > 6
    assert {kind for kind in kinds if f"`{kind}`" not in TEXT} == set()
