"""A wrong recipe is named before anything runs: file, line, field, what was expected, and for a misspelling the right
word. One line of text, exit code 2, and no warehouse is created."""

from __future__ import annotations

from pathlib import Path

import pytest

import factory
from factory.engine.errors import RecipeError, UsageError

GOOD = """\
recipe: sums
version: 1
seed: 7
vars: {n: 2}
models:
  rules:
    replay:
      rules:
        - {text: "<answer>{{ answer }}</answer>"}
steps:
  problems:
    op: source.procedural
    params:
      tasks: [{task: arithmetic, count: 4}]
  samples:
    op: generate.sample
    from: problems
    model: rules
    params: {n: "${n}", max_tokens: 16}
  correct: {op: verify.math, from: samples}
  size: {op: filter.length, from: samples}
  twins: {op: dedup.minhash, from: samples, params: {floor: 0.7}}
  chosen:
    op: select.rejection
    from: samples
    where: [correct, {twins: {jaccard: {lt: 0.8}}}]
    params: {keep_per_prompt: 1}
"""
SIZE = "size: {op: filter.length, from: samples}"
REPLAY = """replay:
      rules:
        - {text: "<answer>{{ answer }}</answer>"}"""
WHERE = "where: [correct, {"
ROUNDS = "    params: {keep_per_prompt: 1}\nrounds:\n  count: 2\n  initial: {again: chosen}\n  steps:\n    "
FIRST, SECOND, SIZE_FROM = "steps.chosen.where.0", "steps.chosen.where.1", "steps.size.from"
OVER = GOOD[GOOD.index(SIZE):GOOD.index("jaccard")]
LAST = "    params: {keep_per_prompt: 1}\n"

# what is replaced, by what; then the expected line, field, and words of the message
MISSPELT = {
    "top": ("models:", "modles:", 5, "modles", "'models'"),
    "step": ("from: problems", "form: problems", 17, "steps.samples.form", "'from'"),
    "params": ("max_tokens", "max_token", 19, "steps.samples.params.max_token", "'max_tokens'"),
    "runtime": (SIZE, "size: {op: filter.length, from: samples, runtime: {shard_row: 3}}", 21,
                "steps.size.runtime.shard_row", "'shard_rows'"),
    "runtime of all": ("vars:", "runtime: {max_fail: 0.1}\nvars:", 4, "runtime.max_fail", "'max_failed'"),
    "runtime of a model": ("params: {keep_per_prompt: 1}", "runtime:\n      model:\n        bacth: 3", 29,
                           "steps.chosen.runtime.model.bacth", "'batch'"),
    "model": ("replay:", "reply:", 7, "models.rules.reply", "'replay'"),
    "model, deep": ("text:", "txt:", 9, "models.rules.replay.rules.0.txt", "'text'"),
    "op": ("verify.math", "verify.maths", 20, "steps.correct.op", "'verify.math'"),
    "input": ("from: problems", "from: problem", 17, "steps.samples.from", "'problems'"),
    "model's name": ("model: rules", "model: rule", 18, "steps.samples.model", "'rules'"),
    "scored step": (WHERE, "where: [corect, {", 26, FIRST, "'correct'"),
    "scored column": (WHERE, "where: [{size: {char: {ge: 1}}}, {", 26, FIRST, "'chars'"),
    "dedup column": ("jaccard", "jacard", 26, SECOND, "'jaccard'"),
    "column read": (SIZE, "size: {op: filter.length, from: samples, params: {text: respons}}", 21,
                    "steps.size.params", "'response'"),
    "variable": ("${n}", "${nn}", 19, "steps.samples.params.n", "'n'"),
    "template": ("max_tokens: 16", "template: r1zero", 19, "steps.samples.params", "'r1_zero'"),
    "choice": ("keep_per_prompt: 1", "prefer: shortes", 27, "steps.chosen.params.prefer", "'shortest'"),
    "in rounds": (LAST, ROUNDS + "again: {op: filter.length, form: samples}\n", 32, "rounds.steps.again.form",
                  "'from'"),
    "previous": (LAST, ROUNDS + "again: {op: select.rejection, from: previous.agin}\n", 32, "rounds.steps.again",
                 "'again'"),
}
WRONG = {
    "unknown op": ("verify.math", "zzz", 20, "steps.correct.op", "unknown op 'zzz'"),
    "wrong type": ('"${n}"', "many", 19, "steps.samples.params.n", "expected a whole number, got 'many'"),
    "wrong type from var": ("{n: 2}", "{n: many}", 19, "steps.samples.params.n", "expected a whole number, got 'many'"),
    "out of range": ("prompt: 1", "prompt: 0", 27, "steps.chosen.params.keep_per_prompt", "expected at least 1, got 0"),
    "a list in place of a mapping": ("{keep_per_prompt: 1}", "[1]", 27, "steps.chosen.params", "expected a mapping"),
    "a word in place of a list": (WHERE + "twins: {jaccard: {lt: 0.8}}}]", "where: correct", 26, "steps.chosen.where",
                                  "expected a list, got 'correct'"),
    "nothing in place of a step": (SIZE, "size:", 21, "steps.size", "expected a mapping, got nothing"),
    "steps as a list": (GOOD[GOOD.index("steps:"):], "steps:\n  - op: a\n", 10, "steps", "a mapping, got a list"),
    "no op": ("{op: verify.math, from: samples}", "{from: samples}", 20, "steps.correct.op", "missing"),
    "vars as a list": ("vars: {n: 2}", "vars: [n]", 4, "vars", "expected a mapping"),
    "no finite number": ("max_tokens: 16", "temperature: .inf", 19, "steps.samples.params.temperature", "finite"),
    "bad step name": ("  size:", "  Size!:", 21, "steps.Size!", "lower-case"),
    "reserved step name": ("  size:", "  last.size:", 21, "steps.last.size", "rounds"),
    "bad dataset name": (SIZE, "size: {op: filter.length, from: samples, name: ../b}", 21, "steps.size.name", "'../b'"),
    "same step twice": ("  size:", "  correct:", 21, "correct", "defined twice"),
    "same field twice": ("model: rules", "model: rules\n    model: rules", 19, "model", "defined twice"),
    "cycle": ("from: problems", "from: chosen", 15, "steps.samples", "samples -> chosen -> samples"),
    "itself": ("from: problems", "from: samples", 15, "steps.samples", "samples -> samples"),
    "no input": ("    from: problems\n", "", 15, "steps.samples", "needs an input"),
    "unknown step": ("from: problems", "from: zzz", 17, "steps.samples.from", "problems, samples"),
    "two inputs": (SIZE, "size: {op: filter.length, from: [samples, problems]}", 21, SIZE_FROM, "takes one input"),
    "input of a source": ("op: source.proc", "from: x\n    op: source.procedural\n  x:\n    op: source.proc", 12,
                          "steps.problems.from", "takes no `from`"),
    "rows of a score": (SIZE, "size: {op: filter.length, from: correct}", 21, SIZE_FROM, "measures rows"),
    "where, unscored": (WHERE, "where: [problems, {", 26, FIRST, "scores nothing"),
    "where, other rows": (OVER, OVER.replace("samples", "problems, params: {text: prompt}", 1).replace(
        "[correct", "[size"), 26, FIRST, "scored the rows of problems"),
    "where, two steps": (WHERE, "where: [{correct: {score: {ge: 1}}, size: {chars: {ge: 1}}}, {", 26,
                         FIRST, "names one step"),
    "where, no step": (WHERE, "where: [{}, {", 26, FIRST, "names one step"),
    "where, no comparison": (WHERE, "where: [{size: {chars: {gte: 1}}}, {", 26, FIRST, "ge, gt, le"),
    "where, bare value": (WHERE, "where: [{size: {chars: 3}}, {", 26, FIRST, "{ge: 0.9}"),
    "where, in without a list": (WHERE, "where: [{size: {chars: {in: 3}}}, {", 26, FIRST, "needs a list"),
    "where, text for a number": (WHERE, "where: [{size: {chars: {ge: abc}}}, {", 26, FIRST, "a number"),
    "where, number for a flag": (WHERE, "where: [{size: {truncated: {lt: 1}}}, {", 26, FIRST, "true"),
    "where, undecided": (WHERE, "where: [{correct: {undecided: maybe}}, {", 26, FIRST, "keep or reject"),
    "where in a score": (SIZE, "size: {op: filter.length, from: samples, where: [correct]}", 21, "steps.size.where",
                         "belongs to a select step"),
    "below the floor": ("lt: 0.8", "lt: 0.6", 26, SECOND, "steps.twins.params.floor"),
    "dedup the wrong way": ("lt: 0.8", "ge: 0.8", 26, SECOND, "lt or le"),
    "two steps, one dataset": ("  correct: {", "  b: {name: sums/size, op: filter.length, from: samples}\n  correct: {",
                               22, "steps.size.name", "both write 'sums/size'"),
    "unknown variable": ("${n}", "${m}", 19, "steps.samples.params.n", "${m} is not in `vars`"),
    "unknown model": ("model: rules", "model: zzz", 18, "steps.samples.model", "neither in `models` nor a step"),
    "step that makes no model": ("model: rules", "model: problems", 18, "steps.samples.model", "no checkpoint"),
    "model unasked": (SIZE, "size: {op: filter.length, from: samples, model: rules}", 21, "steps.size.model", "remove"),
    "no model": ("    model: rules\n", "", 15, "steps.samples", "add `model:"),
    "model of two kinds": ("replay:", "path: x\n    replay:", 6, "models.rules", "path and replay"),
    "moving revision": (REPLAY, "hub: a/b\n    revision: main", 6, "models.rules", "full commit hash"),
    "no such package": (REPLAY, "package: no_such_pkg\n    file: '*.gguf'", 7, "models.rules.package", "not installed"),
    "no such model folder": (REPLAY, "license: mit\n    path: no/such", 8, "models.rules.path", "does not exist"),
    "no such answers": (REPLAY, "replay:\n      answers: no.jsonl", 8, "models.rules.replay.answers", "no such file"),
    "no such checkpoint": (REPLAY, "checkpoint: nope", 7, "models.rules.checkpoint", "'nope'"),
    "broken rule": ("{{ answer }}", "{{ answer", 9, "models.rules.replay.rules.0.text", "Jinja"),
    "no such plugin": ("vars:", "plugins: [json, no_such_module]\nvars:", 4, "plugins.1", "'no_such_module'"),
    "no such file": ("op: source.procedural\n    params:\n      tasks: [{task: arithmetic, count: 4}]",
                     "op: source.files\n    params: {paths: [no.jsonl]}", 13, "steps.problems.params", "no.jsonl"),
    "no number in a constant": (
        "op: source.procedural\n    params:\n      tasks: [{task: arithmetic, count: 4}]",
        "op: source.files\n    params:\n      paths: [r.yaml]\n      format: csv\n      constants: {c: .nan}",
        16, "steps.problems.params.constants.c", "nan"),
    "first round": (LAST, ROUNDS.replace("  initial: {again: chosen}\n", "") + "again: {op: select.rejection, "
                    "from: previous.again}\n", 31, "rounds.steps.again", "`initial: {again: …}`"),
    "initial of no step": (LAST, ROUNDS + "more: {op: select.rejection, from: samples}\n", 30, "rounds.initial.again",
                           "no step 'again'"),
}
TEXTS = {
    "empty": ("", 1, "the file is empty"),
    "only a comment": ("# nothing\n", 1, "the file is empty"),
    "a list": ("- recipe: x\n", 1, "found a list"),
    "a word": ("hello\n", 1, "found 'hello'"),
    "no steps": ("recipe: x\nsteps: {}\n", 2, "at least one step"),
    "no name": (GOOD.replace("recipe: sums\n", ""), None, "missing"),
    "unclosed bracket": (GOOD.replace("{n: 2}", "{n: 2"), 5, "YAML syntax"),
    "tab": (GOOD.replace("  samples:", "\tsamples:"), 15, "YAML syntax"),
    "unknown alias": (GOOD.replace("{keep_per_prompt: 1}", "*nope"), 27, "YAML syntax"),
    "two documents": (GOOD + "---\nrecipe: y\n", 28, "a single document"),
}


def refused(tmp_path: Path, **options: object) -> UsageError:
    """The error of a run, after checks that hold for every wrong recipe."""
    with pytest.raises(UsageError) as caught:
        factory.run(tmp_path / "r.yaml", warehouse=tmp_path / "house", executor="inline", **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "r.yaml"] == []
    return caught.value


@pytest.mark.parametrize("case", [*MISSPELT.values(), *WRONG.values()], ids=[*MISSPELT, *WRONG])
def test_names_line_field_and_what_was_expected(tmp_path: Path, case: tuple[str, str, int, str, str]) -> None:
    old, new, line, field, words = case
    assert old in GOOD
    (tmp_path / "r.yaml").write_text(GOOD.replace(old, new, 1))
    error = refused(tmp_path)
    assert isinstance(error, RecipeError)
    assert (error.file, error.line, error.field) == (str(tmp_path / "r.yaml"), line, field), str(error)
    assert str(error).startswith(f"{tmp_path / 'r.yaml'}:{line}: {field}: ")
    assert words in error.message
    if case in MISSPELT.values():
        assert "did you mean" in error.message


@pytest.mark.parametrize("case", TEXTS.values(), ids=TEXTS)
def test_names_what_is_no_recipe(tmp_path: Path, case: tuple[str, int | None, str]) -> None:
    text, line, words = case
    (tmp_path / "r.yaml").write_text(text)
    error = refused(tmp_path)
    assert isinstance(error, RecipeError)
    assert (error.file, error.line) == (str(tmp_path / "r.yaml"), line)
    assert words in error.message


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such recipe" in str(refused(tmp_path))
    (tmp_path / "r.yaml").write_bytes(GOOD.encode() + b"# \xff\n")
    error = refused(tmp_path)
    assert isinstance(error, RecipeError)
    assert error.line == GOOD.count("\n") + 1


SAMPLES = 'params: {n: "${n}", max_tokens: 16}'
SERVED = "served: big\n    revision: r1"


@pytest.mark.parametrize(("model", "runtime", "words"), [
    (SERVED, "{}", "runtime.model.endpoint"), (SERVED, "{endpoint: managed}", "the URL of the server"),
    (REPLAY, "{backend: replya}", "'replay'"), (SERVED, "{endpoint: '127.0.0.1:8000/v1'}", "http://"),
    (SERVED, "{endpoint: []}", "http://"), (SERVED, "{endpoint: 'http://h/v1', price: {input: 1}}", "output"),
    (SERVED, "{endpoint: 'http://h/v1', key: gsk_secret}", "environment variable")])
def test_a_model_that_could_not_be_asked(tmp_path: Path, model: str, runtime: str, words: str) -> None:
    text = GOOD.replace(REPLAY, model, 1).replace(SAMPLES, f"{SAMPLES}\n    runtime: {{model: {runtime}}}", 1)
    (tmp_path / "r.yaml").write_text(text)
    error = refused(tmp_path)
    assert isinstance(error, RecipeError)
    assert (error.field or "").startswith("steps.samples.runtime")
    assert words in str(error)
    assert "gsk_secret" not in str(error)


@pytest.mark.parametrize(("path", "words"), [
    ("steps.sampels.params.n", "'samples'"), ("stesp.samples.params.n", "'steps'"),
    ("steps.samples.params.n.deep", "holds no fields"), ("models.rules.replay.rules.4.text", "list of 1"),
    ("steps.samples.params.nn", "'n'"), ("seeed", "'seed'")])
def test_override_of_what_is_not_there(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    assert words in str(refused(tmp_path, overrides={path: 1}))


@pytest.mark.parametrize(("options", "words"), [
    ({"until": "sampels"}, "'samples'"), ({"vars": {"m": 1}}, "--vars m"), ({"limit": 0}, "--limit 0")])
def test_options_that_name_nothing(tmp_path: Path, options: dict[str, object], words: str) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    assert words in str(refused(tmp_path, **options))


def test_composite_has_no_rows(tmp_path: Path) -> None:
    """A composite of several scores stands in `where`, but has no rows for `from`."""
    text = GOOD.replace(SIZE, "size: {op: filter.reasoning, from: samples}\n  more: {op: verify.math, from: size}")
    (tmp_path / "r.yaml").write_text(text)
    error = refused(tmp_path)
    assert isinstance(error, RecipeError)
    assert (error.line, error.field) == (22, "steps.more.from")
    assert "size.language" in error.message


def test_good_recipe_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    planned = factory.plan(tmp_path / "r.yaml", warehouse=tmp_path / "house")
    assert [status.state for status in planned.statuses.values()] == ["run"] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
