"""What a recipe means: variables, overrides, rounds and composites; and what enters a step's fingerprint.

A fingerprint changes with whatever can change a result, there and in every step below, and with nothing else. The
fingerprints of `recipes/pico.yaml` are written down here: they change only with a reason that is worth making every
warehouse do its work again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import factory
from factory.engine.errors import RecipeError
from factory.engine.op import SCORE_SCHEMA, Kind, NoParams, OpContext, op

PICO = Path(__file__).parents[2] / "recipes" / "pico.yaml"
PICO_FINGERPRINTS = {
    "problems": "a90900a6027ad3f72d4bf05b98a9b64723b2a1531c60c17fbb7226fa035a5e37",
    "samples": "63f24347a7017a49e0103ca5e93561504790ecdf48e8ed385df747c06181cbbe",
    "correct": "cf30b7cafa47d6d6a52c07e9fe20c019ba9c640607a580a3d3362c14afe4a39b",
    "form": "f36eb476824bd722b19f5538327d18ad922f0018978706c5ae44b01f7f5f532a",
    "clean.language": "8eca1c1fe223d5e087e48b33176ef604a0da09d879266b4ec6864d5cd010a252",
    "clean.length": "6fa8a917592d7479b88b83b7f76a5728607bdd185fe774b5b71fafe6c7ddc595",
    "clean.paragraphs": "6fecd2780ecb5d386c0c80fceff51a2ab7c40624637509580084755bc067087b",
    "clean.code_blocks": "c162df39ba2a643ad7203491d0cd645c5ae0e2365a110de43d0dce54ec22c079",
    "clean.repetition": "ee30212157cc10f9c3a666cae4ebadb98da7c44beaafb0133698ecdc251d6903",
    "copies": "66743dba9042e15769e0bf8def876b536a31e2b933628fcb062bcef798e5a8a0",
    "twins": "4b7271a2ad2d5859ee1355acaccd69c064a11108b2040dcfba7b016fe759ab7f",
    "reasoning": "900a3dee1adc72de361efc4d27d189747b83941d0daa27f31e3a1ce840d366a4",
    "published": "375f4bec87bca2eb35bd50e79542323c601c2ff1e94bc9ccdd0627eff1004fdf",
}
BELOW_SAMPLES = ["samples", "correct", "clean.size", "twins", "chosen"]


@op("test.versioned", version=1, kind=Kind.SCORE, params=NoParams)
def versioned(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """A score that says nothing."""
    return pl.DataFrame(schema=SCORE_SCHEMA)


def recipe() -> dict[str, Any]:
    """A recipe whose steps are a chain with scores beside it."""
    return {
        "recipe": "sums", "seed": 7, "vars": {"n": 2, "kept": 1, "flag": True, "share": 0.7},
        "models": {"rules": {"replay": {"rules": [{"text": "<answer>{{ answer }}</answer>", "weight": 1}]}}},
        "steps": {
            "problems": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 4}]}},
            "samples": {"op": "generate.sample", "from": "problems", "model": "rules",
                        "params": {"template": "mine.txt", "n": "${n}", "max_tokens": 16}},
            "correct": {"op": "verify.math", "from": "samples"},
            "clean.size": {"op": "filter.length", "from": "samples", "params": {"min_chars": 2, "max_chars": 90}},
            "twins": {"op": "dedup.minhash", "from": "samples", "params": {"floor": "${share}"}},
            "chosen": {"op": "select.rejection", "from": "samples", "where": ["correct", "clean.size",
                       {"twins": {"jaccard": {"lt": 0.8}}}], "params": {"keep_per_prompt": "${kept}"}}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.txt").write_text("[user]\n{prompt}\n")
    return tmp_path


def planned(folder: Path, body: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The planned steps of a recipe."""
    path = folder / "r.yaml"
    path.write_text(json.dumps(body or recipe(), indent=1))
    return dict(factory.plan(path, warehouse=folder / "none", **options).plan.steps)


def prints(steps: dict[str, Any]) -> dict[str, str]:
    return {name: step.fingerprint for name, step in steps.items()}


def test_fingerprints_of_pico_are_these() -> None:
    assert prints(factory.plan(PICO, warehouse="none").plan.steps) == PICO_FINGERPRINTS


def test_variables_keep_their_type_and_can_be_given(folder: Path) -> None:
    body = recipe()
    body["description"] = "${n} answers, ${flag}, ${share}"
    body["steps"]["samples"]["name"] = "sums/n${n}"
    body["steps"]["clean.size"]["params"] = {"allow_truncated": "${flag}", "min_chars": 0}
    steps = planned(folder, body, vars={"n": 5})
    assert (steps["samples"].params.n, steps["samples"].dataset) == (5, "sums/n5")
    assert steps["clean.size"].params.allow_truncated is True
    assert steps["twins"].params.floor == 0.7


def test_overrides_reach_every_field(folder: Path) -> None:
    steps = planned(folder, overrides={
        "steps.samples.params.n": 3, "steps.clean.size.params.min_chars": 5, "steps.correct.runtime.max_failed": 0.5,
        "steps.chosen.where.2.twins.jaccard.lt": 0.9, "models.rules.replay.rules.0.weight": 2, "vars.kept": 2})
    assert steps["samples"].params.n == 3
    assert steps["clean.size"].params.min_chars == 5
    assert steps["correct"].runtime.max_failed == 0.5
    assert steps["chosen"].rules[2].conditions[0].value == 0.9
    assert steps["samples"].model.spec.replay.rules[0].weight == 2
    assert steps["chosen"].params.keep_per_prompt == 2


def rounds(count: int) -> dict[str, Any]:
    """Answers to problems, then answers to the kept answers' prompts, and so on."""
    body = recipe()
    body["steps"] = {"problems": body["steps"]["problems"], "report": {"op": "filter.length", "from": "last.answers"}}
    body["rounds"] = {"count": count, "initial": {"kept": "problems"}, "steps": {
        "answers": {"op": "generate.sample", "from": "previous.kept", "model": "rules", "params": {"max_tokens": 16}},
        "correct": {"op": "verify.math", "from": "answers"},
        "kept": {"op": "select.rejection", "from": "answers", "where": ["correct"]}}}
    return body


def test_rounds_unroll(folder: Path) -> None:
    two, three = planned(folder, rounds(2)), planned(folder, rounds(3))
    assert sorted(two) == ["problems", "r1.answers", "r1.correct", "r1.kept", "r2.answers", "r2.correct", "r2.kept",
                           "report"]
    assert [three[f"r{k}.answers"].inputs for k in (1, 2, 3)] == [["problems"], ["r1.kept"], ["r2.kept"]]
    assert [rule.step for rule in two["r2.kept"].rules] == ["r2.correct"]
    assert (two["report"].inputs, three["report"].inputs) == (["r2.answers"], ["r3.answers"])
    shared = [name for name in two if name != "report"]
    assert [two[name].fingerprint for name in shared] == [three[name].fingerprint for name in shared]
    assert len({step.fingerprint for step in three.values()}) == len(three)


def test_one_more_round_reuses_the_others(folder: Path) -> None:
    for count in (2, 3):
        (folder / "r.yaml").write_text(json.dumps(rounds(count)))
        report = factory.run(folder / "r.yaml", warehouse=folder / "house", executor="inline")
        assert report.status == "succeeded", report.errors
    made = {step.step for step in report.steps if not step.reused}
    assert made == {"r3.answers", "r3.correct", "r3.kept", "report"}


def test_composites_expand(folder: Path) -> None:
    body = recipe()
    body["steps"]["clean"] = {"op": "filter.reasoning", "from": "samples", "params": {"length": {"min_chars": 3}}}
    parts = [f"clean.{part}" for part in ("language", "length", "paragraphs", "code_blocks", "repetition")]
    body["steps"]["chosen"]["where"] = ["correct", {"clean": {"undecided": "keep"}}]
    steps = planned(folder, body)
    assert [rule.step for rule in steps["chosen"].rules] == ["correct", *parts]
    assert [rule.keep_undecided for rule in steps["chosen"].rules] == [False, True, True, True, True, True]
    assert steps["clean.length"].params.min_chars == 3
    body["steps"]["chosen"]["where"] = [{"clean": {"chars": {"ge": 3}}}]
    with pytest.raises(RecipeError, match=r"clean\.length"):
        planned(folder, body)


def test_names_order_and_runtime_enter_no_fingerprint(folder: Path) -> None:
    before = prints(planned(folder))
    named = json.dumps(recipe()).replace("samples", "answers").replace('"rules": {"replay"', '"toy": {"replay"')
    renamed = json.loads(named.replace('"model": "rules"', '"model": "toy"')) | {"recipe": "other", "version": 9}
    assert sorted(prints(planned(folder, renamed)).values()) == sorted(before.values())
    assert prints(planned(folder, reverse(recipe()))) == before
    body = recipe() | {"runtime": {"shard_rows": 3}}
    body["steps"]["samples"]["runtime"] = {"batch": 3, "max_failed": 0.9, "model": {"threads": 1}}
    body["steps"]["samples"]["name"] = "elsewhere/answers"
    assert prints(planned(folder, body)) == before
    needed = ("problems", "samples", "correct")
    assert prints(planned(folder, until="correct")) == {name: before[name] for name in needed}


def reverse(value: Any) -> Any:
    """The same JSON with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reverse(item) for key, item in reversed(value.items())}
    return [reverse(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("overrides", "changed"), [
    ({"seed": 8}, ["problems", *BELOW_SAMPLES]),
    ({"steps.problems.seed": 8}, ["problems", *BELOW_SAMPLES]),
    ({"steps.problems.params.tasks.0.count": 5}, ["problems", *BELOW_SAMPLES]),
    ({"steps.samples.seed": 8}, BELOW_SAMPLES),
    ({"steps.samples.params.n": 3}, BELOW_SAMPLES),
    ({"steps.samples.params.temperature": 0.1}, BELOW_SAMPLES),
    ({"steps.samples.params.template": "r1_zero"}, BELOW_SAMPLES),
    ({"models.rules.replay.rules.0.text": "42"}, BELOW_SAMPLES),
    ({"models.rules.chat_template": "x"}, BELOW_SAMPLES),
    ({"steps.clean.size.params.min_chars": 3}, ["clean.size", "chosen"]),
    ({"steps.twins.params.floor": 0.6}, ["twins", "chosen"]),
    ({"steps.chosen.where": ["clean.size", "correct", {"twins": {"jaccard": {"lt": 0.8}}}]}, ["chosen"]),
    ({"steps.chosen.where.2.twins.jaccard.lt": 0.81}, ["chosen"]),
    ({"steps.chosen.where.0": {"correct": {"undecided": "keep"}}}, ["chosen"]),
    ({"steps.chosen.params.keep_per_prompt": 2}, ["chosen"]),
], ids=lambda value: ",".join(value) if isinstance(value, dict) else "")
def test_what_changes_a_result_changes_the_step_and_all_below(folder: Path, overrides: dict[str, Any],
                                                              changed: list[str]) -> None:
    before, after = prints(planned(folder)), prints(planned(folder, overrides=overrides))
    assert [name for name in before if before[name] != after[name]] == changed


def test_the_name_of_a_template_is_not_identity(folder: Path) -> None:
    (folder / "yours.txt").write_bytes((folder / "mine.txt").read_bytes())
    assert prints(planned(folder)) == prints(planned(folder, overrides={"steps.samples.params.template": "yours.txt"}))


def test_template_text_and_op_version_are_identity(folder: Path) -> None:
    body = recipe()
    body["steps"]["correct"]["op"] = "test.versioned"
    before = prints(planned(folder, body))
    (folder / "mine.txt").write_text("[user]\nThink: {prompt}\n")
    after = prints(planned(folder, body))
    assert [name for name in before if before[name] != after[name]] == BELOW_SAMPLES
    op("test.versioned", version=2, kind=Kind.SCORE, params=NoParams)(versioned)
    newer = prints(planned(folder, body))
    assert [name for name in after if after[name] != newer[name]] == ["correct", "chosen"]
    op("test.versioned", version=1, kind=Kind.SCORE, params=NoParams)(versioned)


def test_limited_outputs_are_partial_and_others(folder: Path) -> None:
    whole, limited = planned(folder), planned(folder, limit=2)
    assert not any(step.partial for step in whole.values())
    assert all(step.partial for step in limited.values())
    assert not set(prints(whole).values()) & set(prints(limited).values())
