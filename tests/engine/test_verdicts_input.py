"""`verdicts`: a score that hears earlier ones, row by row, and is made again where they changed and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from labs import Lab

import factory
from factory.engine.errors import RecipeError
from factory.engine.run import RunReport

Texts = Callable[..., dict[str, Any]]
PLUGINS = ["plugin_ops", "asking_ops"]
RULES = {"rules": {"replay": {"rules": [{"text": "{{ 'yes' if 'a' in text else 'no' }}"}]}}}
WORDS = ["a", "bb", "a long sentence", "boom", "", "another long one"]


def court(rows: dict[str, Any], most: int = 8, **more: Any) -> dict[str, Any]:
    """Texts, their size, a model's opinion, and who hears both."""
    return {"rows": rows, "size": {"op": "test.size", "from": "rows", "params": {"most": most},
                                   "runtime": {"max_failed": 0.5}},
            "grade": {"op": "ask.grade", "from": "rows", "model": "rules"},
            "hear": {"op": "ask.hear", "from": "rows", "verdicts": ["size", "grade"]}, **more}


def run(lab: Lab, steps: dict[str, Any], executor: str = "inline", **options: Any) -> RunReport:
    report = lab.run(steps, executor, plugins=PLUGINS, models=RULES, **options)
    assert report.status == "succeeded", (report.errors, report.tracebacks)
    return report


def heard(lab: Lab, warehouse: str = "w", step: str = "hear") -> dict[str, dict[str, Any]]:
    """What was heard of each text."""
    texts = lab.dataset("rows", warehouse).scan().select("row_id", "text").collect()
    scores = lab.dataset(step, warehouse).scan().collect().join(texts, on="row_id")
    return {text: json.loads(said) for text, said in scores.select("text", "heard").iter_rows()}


def test_verdicts_stand_beside_their_rows(lab: Lab, texts: Texts, executor: str) -> None:
    report = run(lab, court(texts(*WORDS, splits=3)), executor)
    found = heard(lab)
    assert found["a"] == {
        "size.label": None, "size.passed": True, "size.reason_code": None, "size.score": None,
        "grade.label": "correct", "grade.passed": True, "grade.reason_code": "correct", "grade.score": None}
    assert [found[text]["size.passed"] for text in WORDS] == [True, True, False, None, None, False]
    assert [found[text]["grade.passed"] for text in WORDS] == [True, False, True, False, False, True]
    assert {found["boom"][name] for name in found["boom"] if name.startswith("size.")} == {None}
    manifest = report.manifests["hear"]
    assert [(item.role, item.dataset) for item in manifest.inputs] == [
        ("from", "lab/rows"), ("verdicts", "lab/size"), ("verdicts", "lab/grade")]
    lineage = lab.warehouse().sql("SELECT from_ref, role FROM version_lineage WHERE ref = 'lab/hear@1' ORDER BY ALL")
    assert lineage.rows() == [("lab/grade@1", "verdicts"), ("lab/rows@1", "from"), ("lab/size@1", "verdicts")]


def test_a_newer_verdict_redoes_the_parts_it_changed(lab: Lab, texts: Texts) -> None:
    rows = texts("a", "b", "a long one", "c", "d", "e", splits=3)
    first = run(lab, court(rows))
    again = run(lab, court(rows, most=100))
    assert {step.step for step in again.steps if step.reused} == {"rows", "grade"}
    before, after = ({part.sha256 for part in one.manifests["hear"].tables["scores"]} for one in (first, again))
    assert (len(before & after), len(after)) == (2, 3)
    assert heard(lab)["a long one"]["size.passed"] is True
    back = run(lab, court(rows))
    assert back.manifests["hear"].ref == first.manifests["hear"].ref
    planned = factory.plan(lab.recipe(court(rows, most=5), plugins=PLUGINS, models=RULES), warehouse=lab.folder / "w")
    assert planned.statuses["hear"].state == "run"


def test_a_choice_of_rows_hears_what_was_said_of_all(lab: Lab, texts: Texts) -> None:
    steps = court(texts(*WORDS, splits=2),
                  short={"op": "select.rejection", "from": "rows", "where": ["size"], "params": {"keep_per_prompt": 9}},
                  late={"op": "ask.hear", "from": "short", "verdicts": "grade"})
    run(lab, steps)
    assert heard(lab, step="late") == {text: {name: value for name, value in said.items() if name.startswith("grade.")}
                                       for text, said in heard(lab).items() if said["size.passed"]}
    other = court(texts(*WORDS, splits=2), short=steps["short"],
                  few={"op": "test.size", "from": "short", "params": {"most": 1}})
    other["hear"]["verdicts"] = ["few"]
    run(lab, other, warehouse="other")
    assert [heard(lab, "other")[text]["few.passed"] for text in WORDS] == [True, False, None, None, None, None]


def test_a_judge_hears_too(lab: Lab, texts: Texts) -> None:
    steps = court(texts(*WORDS, splits=2))
    steps["grade"]["verdicts"] = ["size"]
    assert [item.role for item in run(lab, steps).manifests["grade"].inputs] == ["from", "verdicts"]
    steps["size"]["params"]["most"] = 1
    more = run(lab, steps)
    assert [step.usage.requested for step in more.steps if step.step == "grade"] == [0]  # heard again, not asked again
    assert more.manifests["grade"].usage.reused == 3  # of the part on which they say something new


def test_rounds_and_composites_carry_the_names(lab: Lab, texts: Texts) -> None:
    block = {"copies": {"op": "test.fickle", "from": "previous.copies"},
             "both": {"op": "test.both", "from": "copies"},
             "grade": {"op": "ask.grade", "from": "copies", "model": "rules"},
             "hear": {"op": "ask.hear", "from": "copies", "verdicts": ["grade", "both"]}}
    rounds = {"count": 2, "initial": {"copies": "rows"}, "steps": block}
    report = run(lab, {"rows": texts("a", "b"), "end": {"op": "ask.hear", "from": "last.copies",
                                                        "verdicts": "last.grade"}}, rounds=rounds)
    refs = [item.ref for item in report.manifests["r2.hear"].inputs]
    assert refs == ["lab/r2.copies@1", "lab/r2.grade@1", "lab/r2.both.size@1", "lab/r2.both.rare@1"]
    assert report.manifests["end"].inputs[1].ref == "lab/r2.grade@1"


@pytest.mark.parametrize(("change", "said"), [
    ({"hear": {"verdicts": ["sise"]}}, "no step 'sise'; did you mean 'size'"),
    ({"hear": {"verdicts": ["rows"]}}, r"'rows' \(test.rows\) scores nothing: `verdicts` names scored steps over rows "
                                       r"\(size, grade\)"),
    ({"hear": {"from": "others"}}, "'size' scored the rows of rows, not those of others: .*there are none"),
    ({"rows": {"verdicts": "size"}}, "circle"),
    ({"others": {"verdicts": "size"}}, "test.rows hears no verdicts, only scores do"),
    ({"hear": {"verdicts": ["hear"]}}, "circle"),
    ({"both": {"op": "verify.combine", "from": "rows"}}, r"add `verdicts: \[<scored step>, …\]`"),
    ({"exam": {"op": "evaluate", "from": "rows", "model": "rules", "verdicts": "size"}}, "evaluate hears no verdicts"),
])
def test_mistakes_are_found_by_the_plan(lab: Lab, texts: Texts, change: dict[str, Any], said: str) -> None:
    steps = {"others": texts("x"), **court(texts(*WORDS))}
    for step, fields in change.items():
        steps[step] = {**steps.get(step, {}), **fields}
    with pytest.raises(RecipeError, match=said):
        factory.plan(lab.recipe(steps, plugins=PLUGINS, models=RULES), warehouse=lab.folder / "w")


def test_a_column_may_not_be_called_like_a_verdict(lab: Lab, texts: Texts) -> None:
    rows = texts("a")
    rows["params"]["rows"][0]["size.text"] = "b"
    steps = {"rows": rows, "size": {"op": "test.size", "from": "rows"},
             "form": {"op": "verify.format", "from": "rows", "params": {"response": "size.text"}, "verdicts": "size"}}
    with pytest.raises(RecipeError, match="called like what 'size' says"):
        factory.plan(lab.recipe(steps), warehouse=lab.folder / "w")


def test_verdicts_are_combined_in_a_recipe_and_foretold(lab: Lab, texts: Texts) -> None:
    steps = court(texts("a", "bb", "a long sentence", ""))
    steps["hear"] = {"op": "verify.combine", "from": "rows", "verdicts": ["size", "grade"], "params": {"policy": "any"}}
    steps["best"] = {"op": "select.rejection", "from": "rows", "where": ["hear"], "params": {"keep_per_prompt": 9}}
    run(lab, steps)
    found = lab.dataset("hear").scan().collect().sort("row_id")
    assert found["label"].to_list() == ["correct", "correct", "correct", "undecided"]
    assert found["decided_by"].to_list() == ["size", "size", "grade", None]
    assert found["disagree"].to_list() == [False, True, True, False]
    assert lab.dataset("best").manifest.row_count == 3
    asked = {"rows": texts("a"), "samples": {"op": "generate.sample", "from": "rows", "model": "rules",
                                             "params": {"prompt": "text"}},
             "form": {"op": "verify.format", "from": "samples", "params": {"form": "none"}},
             "tags": {"op": "verify.format", "from": "samples"},
             "both": {"op": "verify.combine", "from": "samples", "verdicts": ["tags", "form"]}}
    (shown,) = factory.preview(lab.recipe(asked, models=RULES), "samples", rows=1)
    said = {one["step"]: one["passed"] for one in shown["verdicts"]}
    assert said == {"form": True, "tags": False, "both": True}


