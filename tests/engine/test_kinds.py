"""Every kind of op, in one process and in workers: what it writes, where each row came from, and how many there are.

The rows of two executors and of other shard sizes are the same: `hashes` compares every dataset of a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from labs import Lab

from factory.engine.run import RunReport

TEXTS = ("one two", "no way", "boom", "three", "", "one two", "five six seven", "eight")
TOPICS = {"topic": ["a", "b", "a", "b", "c", "a", "c", None]}
LENIENT = {"max_failed": 0.5, "shard_rows": 3}
Texts = Callable[..., dict[str, Any]]


def all_kinds(texts: Texts, **runtime: Any) -> dict[str, Any]:
    lenient = {**LENIENT, **runtime}
    return {
        "rows": texts(*TEXTS, splits=runtime.get("shard_rows", 3), **TOPICS),
        "loud": {"op": "test.shout", "from": "rows", "runtime": lenient},
        "words": {"op": "test.words", "from": "rows", "runtime": lenient},
        "joined": {"op": "test.join", "from": "rows"},
        "size": {"op": "test.size", "from": "rows", "runtime": lenient},
        "rare": {"op": "test.rare", "from": "rows"},
        "chosen": {"op": "select.rejection", "from": "rows", "where": ["size", "rare"]},
        "gate": {"op": "test.gate", "from": ["chosen", "words"]},
    }


def hashes(report: RunReport) -> dict[str, str]:
    assert report.status == "succeeded", report.errors
    return {name: found.content_hash for name, found in report.manifests.items()}


def ids(lab: Lab, step: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row_id, text in lab.dataset(step).scan().select("row_id", "text").collect().iter_rows():
        found.setdefault(text, []).append(row_id)
    return found


def edges(lab: Lab, step: str) -> list[tuple[int, int]]:
    return lab.dataset(step).table("row_lineage").select("child_row_id", "parent_row_id").collect().rows()


def counts(lab: Lab, step: str) -> tuple[int, int, int, int]:
    found = lab.dataset(step).manifest.counts
    return found.owed, found.kept, found.rejected, found.failed


@pytest.fixture
def done(lab: Lab, texts: Texts, executor: str) -> Any:
    """The folder after a run of all kinds."""
    hashes(lab.run(all_kinds(texts), executor))
    return lab


def test_map_keeps_one_row_for_one_and_sends_the_rest_where_it_belongs(done: Any) -> None:
    rows = done.dataset("loud").scan().collect()
    assert rows.select("loud", "text", "topic").rows() == [
        ("ONE TWO", "one two", "a"), ("THREE", "three", "b"), ("", "", "c"), ("ONE TWO", "one two", "a"),
        ("FIVE SIX SEVEN", "five six seven", "c"), ("EIGHT", "eight", None)]
    assert counts(done, "loud") == (8, 6, 1, 1)
    named = ids(done, "rows")
    assert edges(done, "loud") == list(zip(rows["row_id"], rows["parent_row_id"], strict=True))
    assert [text for _, parent in edges(done, "loud") for text, known in named.items() if parent in known] == list(
        rows["text"]
    )
    refused = done.dataset("loud").table("rejections").collect()
    assert refused.select("row_id", "reason_code", "reason", "primary").rows() == [
        (named["no way"][0], "refused", "it says no", True)
    ]
    failed = done.dataset("loud").table("failures").collect()
    assert failed.select("row_id", "error_type", "message").rows() == [(named["boom"][0], "explosion", "it went off")]
    assert done.dataset("loud").manifest.counts.reasons == {"failed:explosion": 1, "refused": 1}
    assert done.dataset("loud").manifest.facts["counters"] == {"shouted": 8}


def test_expand_numbers_the_slots_of_each_parent(done: Any) -> None:
    words = done.dataset("words")
    slots = words.scan().join(words.table("row_lineage"), left_on="row_id", right_on="child_row_id").collect()
    assert slots.sort("row_id").select("text", "slot", "word").rows()[:4] == [
        ("one two", 0, "one"), ("one two", 1, "two"), ("no way", 0, "no"), ("no way", 1, "way")]
    assert counts(done, "words") == (13, 12, 1, 0)
    assert words.table("rejections").collect().select("row_id", "reason_code").rows() == [
        (ids(done, "rows")[""][0], "wordless")
    ]


def test_merge_has_an_edge_from_each_row_of_the_group(done: Any) -> None:
    joined = done.dataset("joined")
    rows = {row["joined"]: row for row in joined.scan().collect().to_dicts()}
    assert {text: row["parts"] for text, row in rows.items()} == {
        "boom | one two | one two": 3, "no way | three": 2, " | five six seven": 2, "eight": 1}
    named = ids(done, "rows")
    assert sorted(
        parent for child, parent in edges(done, "joined") if child == rows["boom | one two | one two"]["row_id"]
    ) == (sorted([*named["boom"], *named["one two"]]))
    assert counts(done, "joined") == (8, 8, 0, 0)
    assert joined.manifest.row_count == 4


def test_scores_lie_beside_the_rows_and_failures_have_none(done: Any) -> None:
    scores = done.dataset("size").scan().collect()
    by_id = dict(zip(scores["row_id"], scores.select("passed", "length", "shape", "odd").rows(), strict=True))
    named = ids(done, "rows")
    assert named["boom"][0] not in by_id
    assert by_id[named["three"][0]] == (True, 5, "short", True)
    assert by_id[named[""][0]] == (None, 0, "short", False)
    assert counts(done, "size") == (8, 7, 0, 1)
    assert done.dataset("size").manifest.counts.reasons == {
        "passed": 5,
        "undecided:empty": 1,
        "failed:explosion": 1,
        "too_long": 1,
    }


def test_global_judges_each_row_by_all_rows(done: Any) -> None:
    scores = done.dataset("rare").scan().collect()
    copies = dict(zip(scores["row_id"], scores["copies"], strict=True))
    assert {text: [copies[row_id] for row_id in known] for text, known in ids(done, "rows").items()} == {
        text: [TEXTS.count(text)] * TEXTS.count(text) for text in TEXTS}
    assert counts(done, "rare") == (8, 8, 0, 0)
    assert sorted(ids(done, "chosen")) == ["eight", "no way", "three"]


def test_any_executor_and_any_sharding_give_the_same_content(lab: Lab, texts: Texts) -> None:
    first = hashes(lab.run(all_kinds(texts), "inline", warehouse="a"))
    assert hashes(lab.run(all_kinds(texts, shard_rows=1), "local", warehouse="b", workers=2)) == first
    assert hashes(lab.run(all_kinds(texts, shard_rows=5), "inline", warehouse="c")) == first


def test_a_second_run_makes_nothing(lab: Lab, texts: Texts, executor: str) -> None:
    lab.run(all_kinds(texts), executor)
    again = lab.run(all_kinds(texts, shard_rows=1), executor)
    assert again.status == "succeeded"
    assert all(step.reused for step in again.steps)


def test_an_empty_choice_goes_through_every_kind(lab: Lab, texts: Texts, executor: str) -> None:
    steps = all_kinds(texts)
    nothing = {"op": "select.rejection", "from": "rows", "where": [{"size": {"length": {"gt": 99}}}]}
    after = {f"e_{name}": {**step, "from": "nothing"} for name, step in steps.items()
             if name in ("loud", "words", "joined", "size", "rare")}
    last = {"op": "select.rejection", "from": "nothing", "where": ["e_size", "e_rare"]}
    over = {"op": "select.rejection", "from": "e_loud", "params": {"keep_per_prompt": 1}}
    report = lab.run(
        {"rows": steps["rows"], "size": steps["size"], "nothing": nothing, **after, "last": last, "over": over},
        executor,
    )
    assert report.status == "succeeded", report.errors
    assert {name: found.row_count for name, found in report.manifests.items() if name not in ("rows", "size")} == {
        "nothing": 0, **dict.fromkeys(after, 0), "last": 0, "over": 0}
    assert set(lab.dataset("e_loud").all_columns) >= {"row_id", "loud", "text"}
    assert lab.dataset("e_loud").scan().collect().height == 0


def test_a_composite_stands_for_its_steps_in_where(lab: Lab, texts: Texts, executor: str) -> None:
    steps = {"rows": texts(*TEXTS, **TOPICS), "good": {"op": "test.both", "from": "rows", "runtime": LENIENT},
             "chosen": {"op": "select.rejection", "from": "rows", "where": ["good"]}}
    report = lab.run(steps, executor)
    assert set(hashes(report)) == {"rows", "good.size", "good.rare", "chosen"}
    assert sorted(ids(lab, "chosen")) == ["eight", "no way", "three"]


def test_weights_reach_the_reader(lab: Lab, texts: Texts, executor: str) -> None:
    hashes(lab.run({"rows": texts("a", "b"), "thrice": {"op": "test.repeat", "from": "rows", "params": {"times": 3}},
                    "once": {"op": "test.repeat", "from": "rows"}}, executor))
    assert lab.dataset("thrice").scan().select("text", "weight").collect().rows() == [("a", 3), ("b", 3)]
    assert "weight" not in lab.dataset("once").scan().collect().columns


def test_columns_that_only_some_shards_know_are_one_column(lab: Lab, texts: Texts, executor: str) -> None:
    steps = {"rows": texts("", "a b", "", splits=3), "words": {"op": "test.words", "from": "rows"},
             "kept": {"op": "test.loose", "from": "rows", "runtime": {"shard_rows": 1}}}
    hashes(lab.run(steps, executor))
    assert lab.dataset("kept").scan().select("text", "note").collect().rows() == [
        ("", None),
        ("a b", "spaced"),
        ("", None),
    ]
    assert lab.dataset("words").scan().select("word").collect()["word"].to_list() == ["a", "b"]


def test_a_gate_that_passes_says_what_it_measured(done: Any) -> None:
    facts = done.dataset("gate").manifest.facts
    assert (facts["passed"], facts["reason"], facts["metrics"]) == (True, "15 rows, wanted 1", {"rows": 15.0})


def test_a_gate_that_stops_skips_what_comes_later_every_time(lab: Lab, texts: Texts, executor: str) -> None:
    steps = {"rows": texts("a", "b"), "gate": {"op": "test.gate", "from": "rows", "params": {"least": 3}},
             "size": {"op": "test.size", "from": "rows"}}
    for _ in range(2):
        report = lab.run(steps, executor)
        assert (report.status, report.exit_code) == ("stopped", 3)
        assert [step.status for step in report.steps] == ["done", "done", "skipped"]
        assert "size" not in report.manifests
    steps["rows"] = texts("a", "b", "c")
    assert lab.run(steps, executor).exit_code == 0


def test_a_verdict_that_was_reached_but_not_committed_is_not_lost(lab: Lab, texts: Texts, executor: str) -> None:
    steps = {"rows": texts("a", "b"), "gate": {"op": "test.gate", "from": "rows", "params": {"least": 3}}}
    lab.run(steps, executor)
    shutil.rmtree(lab.folder / "w/datasets/lab/gate")  # as if the driver had died before its commit
    report = lab.run(steps, executor)
    assert (report.status, report.exit_code) == ("stopped", 3)
    assert lab.dataset("gate").manifest.facts["reason"] == "2 rows, wanted 3"


def test_a_deleted_checkpoint_is_made_again(lab: Lab, texts: Texts, executor: str) -> None:
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    steps = {"rows": texts("hello", "you"), "tuned": {"op": "test.train", "from": "rows"}}
    first = lab.run(steps, executor).manifests["tuned"].facts["checkpoint"]
    warehouse = lab.warehouse()
    warehouse.delete_checkpoint(first)
    again = lab.run(steps, executor).manifests["tuned"].facts["checkpoint"]
    assert again != first
    assert warehouse.checkpoint(again.partition("@")[0]).ref == again
    told = warehouse.sql("SELECT ref, deleted FROM checkpoints ORDER BY version").rows()
    assert told == [(first, True), (again, False)]


def test_a_checkpoint_of_one_step_answers_in_the_next(lab: Lab, texts: Texts, executor: str) -> None:
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    ask = {"op": "generate.sample", "from": "rows", "model": "tuned",
           "params": {"prompt": "text", "n": 2, "max_tokens": 4, "temperature": 1.0}}
    steps = {"rows": texts("hello", "you"), "tuned": {"op": "test.train", "from": "rows"}, "answers": ask}
    report = lab.run(steps, executor)
    assert report.status == "succeeded", report.errors
    rows = lab.dataset("answers").scan().collect()
    assert rows.height == 4
    assert rows["text"].to_list() == ["hello", "hello", "you", "you"]
    checkpoint = lab.warehouse().checkpoint(report.manifests["tuned"].facts["checkpoint"])
    assert checkpoint.dataset_ref == "lab/rows@1"
    assert checkpoint.metrics == {"loss": 0.5}
    assert lab.dataset("tuned").table("curve").collect()["loss"].to_list() == [1.0, 0.5]
    assert [item.role for item in report.manifests["answers"].inputs] == ["from", "model"]
    assert all(step.reused for step in lab.run(steps, executor).steps)
    steps["tuned"] = {**steps["tuned"], "seed": 5}
    other = lab.run(steps, executor)
    assert not any(step.reused for step in other.steps if step.step in ("tuned", "answers"))
    assert set(lab.dataset("answers").scan().collect()["response"]).isdisjoint(rows["response"])


def publish(lab: Lab, texts: Texts, executor: str, *values: str, **params: Any) -> RunReport:
    to = str(lab.folder / "out")
    return lab.run(
        {"rows": texts(*values), "out": {"op": "publish.folder", "from": "rows", "params": {"to": to, **params}}},
        executor,
    )


def test_publishing_twice_changes_nothing_and_leaves_one_receipt(lab: Lab, texts: Texts, executor: str) -> None:
    report = publish(lab, texts, executor, "a", "b")
    assert report.status == "succeeded", report.errors
    target = lab.folder / "out"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.rglob("*") if path.is_file()}
    again = publish(lab, texts, executor, "a", "b")
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.rglob("*") if path.is_file()
    } == before
    assert again.manifests["out"].ref == report.manifests["out"].ref
    receipt = again.manifests["out"].facts["receipt"]
    assert receipt["rows"] == 2
    assert pl.read_parquet(target / "data/default/*.parquet")["text"].to_list() == ["a", "b"]
    shutil.rmtree(target)
    assert publish(lab, texts, executor, "a", "b").manifests["out"].ref == report.manifests["out"].ref
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == {
        path: content for path, (content, _) in before.items()}


def test_a_new_version_replaces_what_was_published(lab: Lab, texts: Texts, executor: str) -> None:
    publish(lab, texts, executor, "a", "b")
    report = publish(lab, texts, executor, "a", "b", "c")
    assert report.manifests["out"].version == 2
    assert sorted(pl.read_parquet(lab.folder / "out/data/default/*.parquet")["text"]) == ["a", "b", "c"]


def test_a_foreign_folder_is_left_alone(lab: Lab, texts: Texts, executor: str) -> None:
    (lab.folder / "out").mkdir()
    (lab.folder / "out/thesis.txt").write_text("mine", encoding="utf-8")
    report = publish(lab, texts, executor, "a")
    assert (report.status, report.exit_code) == ("failed", 1)
    assert [path.name for path in (lab.folder / "out").iterdir()] == ["thesis.txt"]


def test_too_few_rows_are_not_published(lab: Lab, texts: Texts, executor: str) -> None:
    report = publish(lab, texts, executor, "a", min_rows=2)
    assert (report.status, report.exit_code) == ("stopped", 3)
    assert not (lab.folder / "out").exists()
    assert publish(lab, texts, executor, "a", "b", min_rows=2).exit_code == 0
