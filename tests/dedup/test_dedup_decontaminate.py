"""dedup.decontaminate and `against` in recipes: which rows are refused, what is reused, what a recipe may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import factory
from factory.engine.errors import RecipeError
from factory.engine.run import RunReport
from warehouse import Dataset, Warehouse
from warehouse.lineage import why

PROMPTS = {"What is 1 + 1?": "2", "What is 2 + 2?": "4", "What is 3 + 3?": "6", "What is 4 + 4?": "8"}
HELD_OUT = ["what  is\t2 + 2?", "WHAT IS 4 + 4? ", "Who wrote this?"]
MODELS = {"rules": {"replay": {"rules": [{"text": "<think>I add.</think><answer>{{ answer }}</answer>"}]}}}
SAMPLE = {"op": "generate.sample", "from": "problems", "model": "rules",
          "params": {"template": "r1_zero", "n": 2, "temperature": 1.0, "max_tokens": 64}}


class Desk:
    """A folder with the files `problems.jsonl` and `held_out.jsonl`, and recipes that use them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.write("problems", [{"prompt": prompt, "answer": answer} for prompt, answer in PROMPTS.items()])
        self.write("held_out", [{"prompt": text} for text in HELD_OUT])

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def recipe(self, steps: dict[str, Any], **top: Any) -> Path:
        files = {path.stem: {"op": "source.files", "params": {"paths": [path.name]}}
                 for path in sorted(self.folder.glob("*.jsonl"))}
        path = self.folder / "desk.yaml"
        body = {"recipe": "desk", "models": MODELS, "steps": {**files, **steps}, **top}
        path.write_text(json.dumps(body), encoding="utf-8")
        return path

    def run(self, steps: dict[str, Any], executor: str = "inline", warehouse: str = "w", **top: Any) -> RunReport:
        report = factory.run(self.recipe(steps, **top), warehouse=self.folder / warehouse, executor=executor, workers=2)
        assert report.status == "succeeded", report.errors
        return report

    def dataset(self, step: str, warehouse: str = "w") -> Dataset:
        return Warehouse(self.folder / warehouse).dataset(f"desk/{step}")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def clean(source: str = "samples", against: Any = "held_out", **params: Any) -> dict[str, Any]:
    return {"op": "dedup.decontaminate", "from": source, "against": against, "params": params}


def chosen(source: str = "samples") -> dict[str, Any]:
    return {"op": "select.rejection", "from": source, "where": ["clean"]}


def contaminated(scored: Dataset, rows: Dataset) -> list[str]:
    """The distinct prompts of the rows that were found in the held-out set."""
    found = scored.scan().filter(pl.col("contaminated")).select("row_id")
    return sorted(set(rows.scan().join(found, on="row_id").collect()["prompt"]))


def test_samples_of_a_held_out_prompt_are_left_out_and_the_content_is_the_same_everywhere(desk: Desk) -> None:
    steps = {"samples": SAMPLE, "correct": {"op": "verify.math", "from": "samples"}, "clean": clean(),
             "chosen": {"op": "select.rejection", "from": "samples", "where": ["correct", "clean"]}}
    report = desk.run(steps)
    kept = desk.dataset("chosen").scan().collect()
    assert sorted(kept["prompt"]) == sorted(2 * ["What is 1 + 1?", "What is 3 + 3?"])
    assert report.manifests["chosen"].counts.reasons == {"clean.benchmark_prompt": 4}
    scored = report.manifests["clean"]
    assert scored.counts.owed == scored.counts.kept == scored.row_count == 8
    assert scored.counts.reasons == {"passed": 4, "benchmark_prompt": 4}
    assert [item.role for item in scored.inputs] == ["from", "against"]
    desk.run({"others": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 3}]}}},
             warehouse="b")  # so that row ids differ there
    for executor, warehouse in (("local", "b"), ("local", "c")):
        other = desk.run(steps, executor, warehouse)
        assert {name: made.content_hash for name, made in report.manifests.items()} == {
            name: made.content_hash for name, made in other.manifests.items()}
    assert not set(desk.dataset("chosen", "b").scan().collect()["row_id"]) & set(kept["row_id"])


def test_the_hits_lead_to_the_held_out_rows(desk: Desk) -> None:
    desk.run({"clean": clean("problems")})
    hits = desk.dataset("clean").scan().select("row_id", "reason", pl.col("hits")).explode("hits").drop_nulls().unnest(
        "hits").filter(pl.col("mode") == "exact").collect()
    held_out = desk.dataset("held_out").scan().select(
        theirs="prompt", item=pl.col("row_key").bin.encode("hex")).collect()
    found = hits.join(held_out, on="item")
    assert sorted(found["theirs"]) == sorted(HELD_OUT[:2])
    assert found["benchmark"].unique().to_list() == ["desk/held_out"]
    assert found.select(pl.col("reason").str.contains(pl.col("item"), literal=True).all()).item()
    told = [str(finding) for finding in why(Warehouse(desk.folder / "w"), found["row_id"][0])]
    assert any(found["item"][0] in finding for finding in told)


@pytest.mark.parametrize("against", [
    ["held_out", "held_out"], ["held_out", "again"], ["doubled"], ["held_out", "some"], ["some", "held_out"]])
def test_a_held_out_set_given_twice_is_the_set(against: list[str], desk: Desk) -> None:
    rows = [{"prompt": text} for text in HELD_OUT]
    desk.write("again", rows[::-1])
    desk.write("doubled", rows + rows)
    desk.write("other", rows[2:])
    more = {"other_seen": clean("held_out", "other"),
            "some": {"op": "select.rejection", "from": "held_out", "where": ["other_seen"]}}
    once = desk.run({**more, "clean": clean("problems")}).manifests["clean"]
    twice = desk.run({**more, "clean": clean("problems", against)}).manifests["clean"]
    assert once.counts == twice.counts
    named = desk.dataset("clean").scan().select(pl.col("benchmarks").explode()).drop_nulls().unique().collect()
    assert set(named["benchmarks"]) == {f"desk/{name}" for name in against}
    if set(against) == {"held_out"}:
        assert once.content_hash == twice.content_hash
        assert once.ref == twice.ref


def test_nothing_is_contaminated_by_an_empty_set(desk: Desk) -> None:
    desk.write("again", [{"prompt": text} for text in HELD_OUT])
    steps = {"seen": clean("held_out", "again"),
             "none": {"op": "select.rejection", "from": "held_out", "where": ["seen"]},
             "clean": clean("problems", "none"), "chosen": chosen("problems")}
    report = desk.run(steps)
    assert report.manifests["none"].row_count == 0
    assert report.manifests["clean"].counts.reasons == {"passed": 4}
    assert report.manifests["chosen"].counts.kept == 4
    backwards = desk.run({**steps, "clean": clean("none", "problems"), "chosen": chosen("none")})
    assert backwards.manifests["clean"].counts.owed == backwards.manifests["chosen"].counts.owed == 0


def test_another_held_out_set_is_another_step_and_only_what_is_new_of_it_is_read(desk: Desk) -> None:
    steps = {"samples": SAMPLE, "clean": clean(), "also": clean("problems"), "chosen": chosen()}
    first = desk.run(steps)
    before = factory.plan(desk.recipe(steps)).plan.steps["clean"]
    partials = desk.folder / "w" / "work" / before.op_key / "shards"
    assert len(list(partials.iterdir())) == 1  # one part of the held-out set, for two steps
    assert desk.run(steps).manifests["clean"].ref == first.manifests["clean"].ref
    desk.write("held_out", [{"prompt": text} for text in [*HELD_OUT, "What is 1 + 1?"]])
    after = factory.plan(desk.recipe(steps)).plan.steps["clean"]
    assert after.fingerprint != before.fingerprint
    assert after.op_key == before.op_key
    second = desk.run(steps)
    assert second.manifests["samples"].ref == first.manifests["samples"].ref
    assert second.manifests["clean"].counts.reasons == {"passed": 2, "benchmark_prompt": 6}
    assert contaminated(desk.dataset("clean"), desk.dataset("samples")) == sorted(set(PROMPTS) - {"What is 3 + 3?"})
    assert second.manifests["chosen"].counts.kept == 2
    assert len(list(partials.iterdir())) == 2
    assert second.manifests["clean"].content_hash == desk.run(steps, warehouse="fresh").manifests["clean"].content_hash


def test_new_rows_are_judged_against_what_is_there(desk: Desk) -> None:
    steps = {"clean": clean("problems")}
    desk.run(steps)
    desk.write("problems", [{"prompt": prompt, "answer": "?"} for prompt in [*PROMPTS, "who WROTE this?"]])
    assert desk.run(steps).manifests["clean"].counts.reasons == {"benchmark_prompt": 3, "passed": 2}


def test_other_columns_may_be_compared(desk: Desk) -> None:
    desk.write("answers", [{"reply": "6"}])
    desk.run({"clean": clean("problems", "answers", parts={"prompt": "answer"}, items={"prompt": "reply"})})
    assert contaminated(desk.dataset("clean"), desk.dataset("problems")) == ["What is 3 + 3?"]


def test_a_license_of_the_held_out_set_is_not_that_of_the_rows(desk: Desk) -> None:
    mine = {"op": "source.files", "params": {"paths": ["problems.jsonl"], "license": "mit"}}
    theirs = {"op": "source.files", "params": {"paths": ["held_out.jsonl"], "license": "gpl-3.0"}}
    report = desk.run({"mine": mine, "theirs": theirs, "clean": clean("mine", "theirs"), "chosen": chosen("mine")})
    assert report.manifests["theirs"].license == ["gpl-3.0"]
    assert report.manifests["chosen"].license == ["mit"]


@pytest.mark.parametrize(("steps", "said"), [
    ({"clean": {"op": "dedup.decontaminate", "from": "problems"}}, "add `against: <step>`"),
    ({"clean": clean("problems", [])}, "add `against: <step>`"),
    ({"clean": {"op": "dedup.exact", "from": "problems", "against": "held_out"}}, "remove `against`"),
    ({"clean": {"op": "select.rejection", "from": "problems", "against": "held_out"}}, "remove `against`"),
    ({"clean": clean("problems", "held_uot")}, "there is no step 'held_uot'.*held_out"),
    ({"form": {"op": "verify.math", "from": "problems", "params": {"response": "prompt"}},
      "clean": clean("problems", ["held_out", "form"])}, "'form' .* holds no rows to compare with"),
    ({"clean": clean("problems", "problems")}, "'problems' is in `from` too"),
    ({"clean": clean("problems", parts={"prompt": "prompts"})},
     "column 'prompts', which 'problems' does not have.*'prompt'"),
    ({"clean": clean("problems", items={"prompt": "question"})}, "column 'question', which 'held_out' does not have"),
    ({"clean": clean("problems", items={"prompt": "prompt", "solution": "solve"})}, "column 'solve', which 'held_out'"),
    ({"clean": clean("problems", ngram=13, words=8)}, "lower ngram"),
    ({"clean": clean("problems", parts={"the trace": "prompt"})}, "names columns"),
    ({"clean": clean("problems", modes=["near"], near=None)}, "near is null"),
    ({"clean": clean("problems", "chosen"), "chosen": chosen("problems")}, "in a circle"),
])
def test_a_wrong_comparison_is_found_before_anything_runs(steps: dict[str, Any], said: str, desk: Desk) -> None:
    with pytest.raises(RecipeError, match=said):
        factory.plan(desk.recipe(steps))


def test_messages_are_no_text_and_that_is_found_before_anything_runs(desk: Desk) -> None:
    desk.write("chats", [{"prompt": [{"role": "user", "content": "What is 2 + 2?"}]}])
    with pytest.raises(RecipeError, match=r"'prompt' as text, and 'chats' has List.*name a text column"):
        factory.plan(desk.recipe({"clean": clean("chats")}))
    with pytest.raises(RecipeError, match=r"'prompt' as text, and 'chats' has List.*name a text column"):
        factory.plan(desk.recipe({"clean": clean("problems", ["held_out", "chats"])}))


PROBLEM = "Tom has 12 apples and gives 5 of them to Ann; how many apples does Tom have left to eat today?"


def test_parts_are_checked_apart_and_the_report_says_what_was_found(desk: Desk) -> None:
    desk.write("traces", [{"prompt": "Hm?", "response": f"<think>Like: {PROBLEM} So 7.</think>7"},
                          {"prompt": PROBLEM, "response": "<think>12 - 5</think>7"}, {"prompt": "x", "response": "y"}])
    desk.write("gsm", [{"prompt": PROBLEM, "id": 17}, {"prompt": "Who?", "id": 18}])
    desk.write("code", [{"prompt": "def add(a, b):", "solution": "return a + b"}])
    steps = {"clean": clean("traces", ["gsm", "code"], item="id", items={"prompt": "prompt", "solution": "solution"},
                            parts={"prompt": "prompt", "thinking": "response", "answer": "response"}),
             "chosen": {"op": "select.rejection", "from": "traces", "where": [{"clean": {"longest": {"lt": 13}}}]},
             "told": {"op": "report.contamination", "from": "clean"}}
    report = desk.run(steps)
    assert report.manifests["clean"].counts.reasons == {"benchmark_prompt": 1, "benchmark_text": 1, "passed": 1}
    assert report.manifests["chosen"].counts.kept == 1
    assert report.manifests["clean"].facts["counters"] == {
        "items of desk/code": 1, "items of desk/gsm": 2, "rows with text of desk/gsm": 2}
    assert report.manifests["told"].facts["metrics"] == {
        "rows": 3, "contaminated": 2, "hits_left_out": 0, "desk/code": 0, "desk/code.items": 0, "desk/gsm": 2,
        "desk/gsm.items": 0.5}
    told = desk.dataset("told").scan().collect().filter(pl.col("benchmark") == "desk/gsm").row(0, named=True)
    assert [(by["part"], by["mode"], by["rows"]) for by in told["by"]] == [
        ("prompt", "exact", 1), ("prompt", "near", 1), ("prompt", "ngram", 1), ("thinking", "ngram", 1)]
    house = Warehouse(desk.folder / "w")
    hit = house.sql("""SELECT h.item, h.part, h.words, r.response[h."begin" + 1 : h."end"] AS said
                       FROM (SELECT row_id, unnest(hits) AS h FROM "desk/clean") JOIN "desk/traces" r USING (row_id)
                       WHERE h.part = 'thinking'""")
    assert hit.rows() == [("17", "thinking", 21, PROBLEM.rstrip("?"))]
    details = house.sql("SELECT details FROM verdicts WHERE passed = false")["details"].to_list()
    assert {json.loads(text)["hits"][0]["benchmark"] for text in details} == {"desk/gsm"}


def test_rows_of_a_warehouse_can_be_compared_with(desk: Desk) -> None:
    desk.run({"clean": clean("problems")}, warehouse="theirs")
    theirs = {"op": "source.warehouse", "params": {"dataset": "desk/held_out", "warehouse": "theirs"}}
    report = desk.run({"theirs": theirs, "clean": clean("problems", "theirs")})
    assert report.manifests["clean"].counts.reasons == {"benchmark_prompt": 2, "passed": 2}


def test_rounds_name_what_they_compare_with(desk: Desk) -> None:
    rounds = {"count": 2, "initial": {"picked": "held_out"}, "steps": {
        "new": {"op": "source.files", "params": {"paths": ["problems.jsonl"]}},
        "clean": clean("new", ["held_out", "previous.picked"]), "picked": chosen("new")}}
    steps = factory.plan(desk.recipe({"last": clean("problems", "last.picked")}, rounds=rounds)).plan.steps
    assert steps["r1.clean"].inputs == ["r1.new", "held_out"]
    assert steps["r2.clean"].inputs == ["r2.new", "held_out", "r1.picked"]
    assert steps["last"].inputs == ["problems", "r2.picked"]


def test_a_composite_may_compare_and_be_compared_with(desk: Desk) -> None:
    (desk.folder / "cleaned_composite.py").write_text('''
from factory.engine.op import composite

@composite("test.cleaned")
def cleaned(name, decl, params):
    """Rows that are not in a held-out set."""
    seen = {"op": "dedup.decontaminate", "from": decl["from"], "against": decl["against"]}
    return {f"{name}.seen": seen, f"{name}.rest": {
        "op": "select.rejection", "from": decl["from"], "where": [f"{name}.seen"]}}, f"{name}.rest"
''')
    steps = {"rest": {"op": "test.cleaned", "from": "problems", "against": "held_out"},
             "clean": clean("held_out", "rest")}
    planned = factory.plan(desk.recipe(steps, plugins=["cleaned_composite"])).plan.steps
    assert planned["rest.seen"].inputs == ["problems", "held_out"]
    assert planned["clean"].inputs == ["held_out", "rest.rest"]


def test_a_rehearsal_on_a_few_rows_says_so(desk: Desk) -> None:
    path = desk.recipe({"clean": clean("problems"), "chosen": chosen("problems")})
    report = factory.run(path, warehouse=desk.folder / "w", executor="inline", limit=2)
    assert report.manifests["clean"].partial
    assert report.manifests["clean"].counts.owed == 2
