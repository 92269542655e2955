"""dedup.decontaminate and `against`: which rows count as seen in the held-out set, and what a recipe may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory
from factory.dedup.decontaminate import Decontaminate, DecontaminateParams
from factory.engine.errors import DataError, RecipeError
from factory.engine.op import OpContext
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
    assert report.manifests["chosen"].counts.reasons == {"clean.contaminated": 4}
    scored = report.manifests["clean"]
    assert scored.counts.owed == scored.counts.kept == scored.row_count == 8
    assert scored.counts.reasons == {"passed": 4, "contaminated": 4}
    assert [item.role for item in scored.inputs] == ["from", "against"]
    desk.run({"others": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 3}]}}},
             warehouse="b")  # so that row ids differ there
    for executor, warehouse in (("local", "b"), ("local", "c")):
        other = desk.run(steps, executor, warehouse)
        assert {name: made.content_hash for name, made in report.manifests.items()} == {
            name: made.content_hash for name, made in other.manifests.items()}
    assert not set(desk.dataset("chosen", "b").scan().collect()["row_id"]) & set(kept["row_id"])


def test_the_reason_leads_to_the_held_out_row(desk: Desk) -> None:
    desk.run({"clean": clean("problems")})
    scores = desk.dataset("clean").scan().collect()
    names = desk.dataset("clean").table("held_out").collect().with_columns(
        held_out_key=pl.col("row_key").bin.encode("hex"))
    held_out = desk.dataset("held_out").scan().select("row_id", pl.col("prompt").alias("theirs")).collect()
    found = scores.join(names.select("held_out_key", "row_id"), on="held_out_key").join(
        held_out, left_on="row_id_right", right_on="row_id")
    assert sorted(found["theirs"]) == sorted(HELD_OUT[:2])
    assert found.select(pl.col("reason").str.contains(pl.col("held_out_key"), literal=True).all()).item()
    told = [str(finding) for finding in why(Warehouse(desk.folder / "w"), found["row_id"][0])]
    assert any(found["held_out_key"][0] in finding for finding in told)


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
    assert once.content_hash == twice.content_hash
    if set(against) == {"held_out"}:
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
    assert second.manifests["clean"].counts.reasons == {"passed": 2, "contaminated": 6}
    assert contaminated(desk.dataset("clean"), desk.dataset("samples")) == sorted(set(PROMPTS) - {"What is 3 + 3?"})
    assert second.manifests["chosen"].counts.kept == 2
    assert len(list(partials.iterdir())) == 2
    assert second.manifests["clean"].content_hash == desk.run(steps, warehouse="fresh").manifests["clean"].content_hash


def test_new_rows_are_judged_against_what_is_there(desk: Desk) -> None:
    steps = {"clean": clean("problems")}
    desk.run(steps)
    desk.write("problems", [{"prompt": prompt, "answer": "?"} for prompt in [*PROMPTS, "who WROTE this?"]])
    assert desk.run(steps).manifests["clean"].counts.reasons == {"contaminated": 3, "passed": 2}


def test_other_columns_may_be_compared(desk: Desk) -> None:
    desk.write("answers", [{"reply": "6"}])
    desk.run({"clean": clean("problems", "answers", column="answer", reference="reply", normalise="none")})
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
    ({"clean": clean("problems", column="prompts")}, "column 'prompts', which 'problems' does not have.*'prompt'"),
    ({"clean": clean("problems", reference="question")}, "column 'question', which 'held_out' does not have"),
    ({"clean": clean("problems", "chosen"), "chosen": chosen("problems")}, "in a circle"),
])
def test_a_wrong_comparison_is_found_before_anything_runs(steps: dict[str, Any], said: str, desk: Desk) -> None:
    with pytest.raises(RecipeError, match=said):
        factory.plan(desk.recipe(steps))


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


def frame(texts: list[str | None], column: str = "prompt", first: int = 0) -> pl.DataFrame:
    rows = range(first, first + len(texts))
    return pl.DataFrame({"row_id": rows, "row_key": [hash_key(text) for text in texts], column: texts},
                        schema={"row_id": pl.Int64, "row_key": pl.Binary, column: pl.String})


def hash_key(text: str | None) -> bytes:
    return repr(text).encode()


def judge(rows: pl.DataFrame, partials: list[pl.DataFrame], **params: Any) -> pl.DataFrame:
    typed = DecontaminateParams(**params)
    measured = [Decontaminate.partial(part, typed, OpContext()) for part in partials]
    return Decontaminate.decide(rows, Decontaminate.merge(measured, typed, OpContext()), typed, OpContext())


def test_a_blank_prompt_matches_nothing_and_is_undecided() -> None:
    blank = [None, "", "  \n\u2003"]
    judged = judge(frame([*blank, "a"]), [frame([*blank, "A"])])
    assert judged["passed"].to_list() == [None, None, None, False]
    assert judged["contaminated"].to_list() == [None, None, None, True]
    assert judged["reason_code"].to_list() == ["no_text", "no_text", "no_text", "contaminated"]
    assert judged["held_out_key"].null_count() == 3


@pytest.mark.parametrize(("normalise", "same"), [
    ("none", ["Ab c"]), ("whitespace", ["Ab c", " Ab\n c "]), ("casefold", ["Ab c", " Ab\n c ", "aB C"])])
def test_normalisation(normalise: str, same: list[str]) -> None:
    texts = ["Ab c", " Ab\n c ", "aB C", "abc", "Ab c d"]
    judged = judge(frame(texts), [frame(["Ab c"])], normalise=normalise)
    assert [text for text, hit in zip(texts, judged["contaminated"], strict=True) if hit] == same


def test_only_text_is_compared() -> None:
    numbers = pl.DataFrame({"row_id": [1], "row_key": [b"k"], "prompt": [1]})
    with pytest.raises(DataError, match=r"'prompt' has type Int64.*params\.reference"):
        judge(frame(["a"]), [numbers])
    with pytest.raises(DataError, match=r"'prompt' has type Int64.*params\.column"):
        judge(numbers, [frame(["a"])])


SPACED = st.text(st.sampled_from("aAbBßẞİ \t\u00a0\n\x00"), max_size=4)
TEXTS = st.lists(st.none() | SPACED | st.text(max_size=6), max_size=12)


@given(TEXTS, TEXTS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_row_is_contaminated_when_its_normalised_text_is_in_the_set(
    ours: list[str | None], theirs: list[str | None], size: int, random: Any
) -> None:
    def normal(text: str | None) -> str:
        return " ".join((text or "").split()).casefold()

    known = {normal(text) for text in theirs} - {""}
    judged = judge(frame(ours), [frame(theirs)])
    expected = [normal(text) in known if normal(text) else None for text in ours]
    assert judged["contaminated"].to_list() == expected
    assert judged["passed"].to_list() == [None if hit is None else not hit for hit in expected]
    shuffled = random.sample(theirs, len(theirs)) + theirs[:2]
    cuts = [frame(shuffled[at:at + size], first=1000 - at) for at in range(0, len(shuffled), size)]
    assert judge(frame(ours), random.sample(cuts, len(cuts))).equals(judged)
