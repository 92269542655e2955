"""`factory plan --explain` names each field that differs with both values, and what the difference redoes."""

from __future__ import annotations

from typing import Any

import pytest
from shell import Shell

RECIPE = """\
recipe: why
plugins: [echo_backend]
models:
  far: {served: big, revision: one, runtime: {backend: echo}}
steps:
  problems: {op: source.files, params: {paths: [problems.jsonl], columns: {prompt: question}}}
  samples:
    op: generate.sample
    from: problems
    model: far
    params: {template: a.txt, n: 2, temperature: 0.5, max_tokens: 8}
"""
BACKEND = """\
from factory.models.base import Completion
from factory.models.open import backend


@backend("echo")
class Echo:
    def __init__(self, model, runtime):
        pass

    def generate(self, requests):
        for request in requests:
            yield Completion(request.key, str(request.seed))

    def stop(self):
        pass

    def close(self):
        pass
"""
LINES = ["[system]", *(f"Rule {number}." for number in range(30)), "[user]", "{prompt}"]


@pytest.fixture(scope="module")
def why(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("why"))
    for name, text in {"why.yaml": RECIPE, "echo_backend.py": BACKEND, "problems.jsonl": '{"question": "1+1?"}\n',
                       "a.txt": "\n".join(LINES), "b.txt": "\n".join(LINES).replace("Rule 7.", "Rule seven.")}.items():
        (shell.folder / name).write_text(text)
    shell("run", "why.yaml", "--executor", "inline", "--quiet")
    return shell


def param(name: str, value: Any) -> str:
    return f"steps.samples.params.{name}={value}"


@pytest.mark.parametrize(("given", "changes", "redoes"), [
    (param("temperature", 0.7), [["params.temperature", 0.5, 0.7]], "all"),
    (param("system", "Be brief"), [["params.system", None, "Be brief"]], "all"),
    ("models.far.revision=two", [["model.revision", "one", "two"]], "all"),
    (param("n", 3), [["params.n", 2, 3]], "missing"),
    (param("max_tokens", 9), [["params.max_tokens", 8, 9]], "missing"),
    ("steps.samples.runtime.batch=3", [], "nothing"),
    ("steps.samples.runtime.model.silence=3", [], "nothing"),
    ("models.far.runtime.concurrency=3", [], "nothing"),
    ("models.far.runtime.price={input: 1, output: 2}", [], "nothing")])
def test_the_field_and_both_values_are_named(why: Shell, given: str, changes: list[Any], redoes: str) -> None:
    found = why.json("plan", "why.yaml", "--explain", "samples", "--set", given)
    assert (found["changes"], found["redoes"]) == (changes, redoes)
    assert found["state"] == ("reuse" if redoes == "nothing" else "run")
    text = why("plan", "why.yaml", "--explain", "samples", "--set", given).stdout
    assert ("redoes nothing" in text) == (redoes == "nothing")
    assert all(field in text and str(now) in text for field, _, now in changes)


def test_of_a_long_template_only_the_lines_that_changed_are_shown(why: Shell) -> None:
    said = why("plan", "why.yaml", "--explain", "samples", "--set", param("template", "b.txt")).stdout
    shown = [line.strip() for line in said.splitlines()]
    assert [line for line in shown if line.startswith(("-", "+"))] == ["-Rule 7.", "+Rule seven."]
    assert "Rule 20." not in said
    found = why.json("plan", "why.yaml", "--explain", "samples", "--set", param("template", "b.txt"))
    assert "content.template" in [change[0] for change in found["changes"]]
    assert found["redoes"] == "all"
