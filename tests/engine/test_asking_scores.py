"""Scores that ask a model: every row is judged once, nobody is asked twice, and neither slices nor workers show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from labs import Lab

import factory
from factory.engine.run import RunReport
from warehouse.journal import answers

Texts = Callable[..., dict[str, Any]]
PLUGINS = ["plugin_ops", "asking_ops", "moody"]
RULES = {"replay": {"rules": [
    {"weight": 2, "text": "{{ 'yes' if 'good' in (text or '') else 'no' }} {{ rng.integer(1, 99) }}"},
    {"weight": 1, "text": "perhaps {{ rng.integer(1, 99) }}"}]}}
MANY = [f"{'good' if number % 3 else 'bad'} {number} {'skip' if number % 7 == 5 else ''}" for number in range(40)]


class Court:
    """A lab in which texts are graded."""

    def __init__(self, lab: Lab):
        self.lab, self.log = lab, lab.folder / "requests.log"

    def steps(self, rows: dict[str, Any], *, votes: int = 1, delay: float = 0.0, model: dict[str, Any] | None = None,
              **runtime: Any) -> dict[str, Any]:
        told = {"log": str(self.log), "delay": delay, **(model or {})}
        return {"rows": rows, "grade": {"op": "ask.grade", "from": "rows", "model": "rules", "params": {"votes": votes},
                                        "runtime": {**runtime, "model": told}}}

    def run(self, steps: dict[str, Any], executor: str = "inline", **options: Any) -> RunReport:
        return self.lab.run(steps, executor, plugins=PLUGINS, models={"rules": RULES}, **options)

    def done(self, steps: dict[str, Any], executor: str = "inline", **options: Any) -> RunReport:
        report = self.run(steps, executor, **options)
        assert report.status == "succeeded", (report.errors, report.tracebacks)
        assert all(found.counts.balanced for found in report.manifests.values())
        return report

    def requests(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def scores(self, warehouse: str = "w") -> pl.DataFrame:
        """The grades, by text."""
        texts = self.lab.dataset("rows", warehouse).scan().select("row_id", "text").collect()
        return self.lab.dataset("grade", warehouse).scan().collect().join(texts, on="row_id").sort("text", "row_id")


@pytest.fixture
def court(lab: Lab) -> Court:
    return Court(lab)


def test_each_row_is_judged_by_its_answers(court: Court, texts: Texts, executor: str) -> None:
    steps = court.steps(texts(*MANY, splits=3), votes=3, shard_rows=4,
                        model={"price": {"input": 1e6, "output": 0, "currency": "EUR"}})
    manifest = court.done(steps, executor).manifests["grade"]
    scores = court.scores()
    asked = [text for text in MANY if "skip" not in text]
    assert sorted(scores["text"]) == sorted(MANY)
    assert scores["said"].list.len().to_list() == [0 if "skip" in text else 3 for text in scores["text"]]
    assert scores.filter(pl.col("text").str.contains("skip"))["label"].unique().to_list() == ["undecided"]
    assert scores.filter(pl.col("votes") > 1)["passed"].all()
    assert len(court.requests()) == len(set(court.requests())) == 3 * len(asked)
    assert (manifest.usage.requested, manifest.usage.reused) == (3 * len(asked), 0)
    assert manifest.usage.cost == manifest.usage.tokens_in > 0
    assert (manifest.facts["currency"], manifest.facts["counters"]) == ("EUR", {"rows_seen": len(MANY)})
    again = court.done(steps, executor)
    assert [step.reused for step in again.steps] == [True, True]


def test_neither_slices_nor_workers_show(court: Court, texts: Texts) -> None:
    hashes = set()
    for number, (splits, rows, executor) in enumerate([(1, 100, "inline"), (1, 1, "inline"), (4, 7, "local")]):
        steps = court.steps(texts(*MANY, splits=splits), votes=2, shard_rows=rows)
        hashes.add(court.done(steps, executor, warehouse=f"w{number}").manifests["grade"].content_hash)
    assert len(hashes) == 1
    requests = court.requests()
    assert len(requests) == 3 * len(set(requests))


def test_a_kill_costs_no_finished_answer(court: Court, texts: Texts) -> None:
    steps = court.steps(texts(*MANY, splits=2), delay=0.01, shard_rows=5)
    recipe = court.lab.recipe(steps, plugins=PLUGINS, models={"rules": RULES})
    root = court.lab.folder / "w"
    code = f"import factory; factory.run({str(recipe)!r}, warehouse={str(root)!r}, executor='inline')"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    for least in (4, 20):
        driver = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
                                  stderr=subprocess.DEVNULL)
        while len(court.requests()) < least and driver.poll() is None:
            time.sleep(0.002)
        assert driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    kept = {one.key for path in root.glob("work/*/journal/*.journal") for one in answers(path.read_bytes())}
    before = len(court.requests())
    report = court.done(steps)
    asked = court.requests()
    assert not kept & set(asked[before:])
    assert len(asked) <= len(set(asked)) + 2  # one was in flight at each kill
    usage = report.manifests["grade"].usage
    assert usage.requested + usage.reused == len(set(asked)) == sum("skip" not in text for text in MANY)
    fresh = court.done(steps, warehouse="fresh")
    assert fresh.manifests["grade"].content_hash == report.manifests["grade"].content_hash


def test_failed_requests_are_failures_of_their_rows(court: Court, texts: Texts,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODS", "samples 1,samples 2,samples 3")
    steps = court.steps(texts(*MANY, splits=2), votes=2, shard_rows=6, max_failed=1.0, model={"backend": "moody"})
    first = court.done(steps)
    failed = court.lab.dataset("grade").table("failures").collect()
    assert 0 < failed.height < len(MANY)
    assert set(failed["error_type"]) == {"moody"}
    assert court.scores().height == len(MANY) - failed.height
    monkeypatch.setenv("MOODS", "")
    before = len(court.requests())
    assert court.done(steps).manifests["grade"].ref == first.manifests["grade"].ref
    mended = court.done(steps, retry_failed=True).manifests["grade"]
    assert mended.counts.failed == 0
    assert failed.height <= mended.usage.requested == len(court.requests()) - before <= 2 * failed.height
    assert mended.content_hash == court.done(steps, warehouse="fresh").manifests["grade"].content_hash


@pytest.mark.parametrize("fault", ["none", "raise"])
def test_failures_that_came_to_no_version_are_tried_again(court: Court, texts: Texts, fault: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    steps = court.steps(texts(*MANY, "trigger good", splits=3), shard_rows=6, model={"backend": "moody"},
                        max_failed=0.05 if fault == "none" else 1.0)
    monkeypatch.setenv("MOODS", "samples 1,samples 2,samples 3")
    monkeypatch.setenv("TEST_FAULT", fault)
    assert court.run(steps).status == "failed"
    monkeypatch.setenv("MOODS", "")
    monkeypatch.setenv("TEST_FAULT", "none")
    assert court.done(steps).manifests["grade"].counts.failed == 0
    assert len(court.requests()) < 2 * len(set(court.requests()))


def test_a_request_that_no_model_takes_is_the_op_s_to_judge(court: Court, texts: Texts) -> None:
    rows = texts("good one", "x", "bad", numbers=[1, 2, 3])
    rows["params"]["rows"][1]["text"] = None
    court.done(court.steps(rows))
    found = court.scores().filter(pl.col("text").is_null())
    assert found.select("label", "reason_code", "passed").row(0) == ("undecided", "prompt_missing", None)


@pytest.mark.parametrize("fault", ["canary", "raise"])
def test_a_judge_that_fails_costs_no_answer(court: Court, texts: Texts, fault: str,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    rows = texts("good", "trigger good", "bad", *MANY[:9], splits=4)
    monkeypatch.setenv("TEST_FAULT", fault)
    report = court.run(court.steps(rows, shard_rows=2))
    assert report.status == "failed"
    assert ("accepts ':'" if fault == "canary" else "a bug") in str(report.errors[0])
    before = court.requests()
    monkeypatch.setenv("TEST_FAULT", "none")
    court.done(court.steps(rows, shard_rows=2))
    assert not set(before) & set(court.requests()[len(before):])
    shown = {step.step: step.usage for step in report.steps}["grade"]
    assert shown.requested == len(before) >= 8  # the other parts were finished


@pytest.mark.parametrize(("fault", "said"), [
    ("drop", "got 3 rows and returned 2"), ("stray", "row 3, slot 0, of a batch of 3"), ("twice", "asks twice")])
def test_an_op_that_breaks_its_contract_is_stopped(court: Court, texts: Texts, fault: str, said: str,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FAULT", fault)
    report = court.run(court.steps(texts("good", "bad", "fine")))
    assert report.status == "failed"
    assert said in str(report.errors[0])


def test_more_rows_are_judged_where_they_are_new(court: Court, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = {"op": "source.files", "params": {"paths": [str(file)], "columns": {"text": "text"}, "license": "mit"}}
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in MANY[:10]))
    first = court.done(court.steps(rows)).manifests["grade"]
    before = len(court.requests())
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in MANY[:14]))
    more = court.done(court.steps(rows)).manifests["grade"]
    assert len(court.requests()) - before == sum("skip" not in text for text in MANY[10:14])
    assert {part.sha256 for part in first.tables["scores"]} < {part.sha256 for part in more.tables["scores"]}
    chosen = {**court.steps(rows), "some": {"op": "test.repeat", "from": "rows"}}
    chosen["grade"]["from"] = "some"
    asked = len(court.requests())
    court.done(chosen)
    assert len(court.requests()) == asked


def test_equal_rows_share_their_answer(court: Court, texts: Texts) -> None:
    court.done(court.steps(texts("good", "bad", "good", "good", "bad"), votes=2, shard_rows=1))
    assert len(court.requests()) == 4
    assert court.scores().group_by("text").agg(pl.col("said").n_unique())["said"].to_list() == [1, 1]


def test_another_seed_asks_again(court: Court, texts: Texts) -> None:
    steps = {**court.steps(texts("good", "bad")), "plain": {"op": "test.size", "from": "rows"}}
    court.done(steps)
    steps["grade"]["seed"] = steps["plain"]["seed"] = 5
    assert {step.step for step in court.done(steps).steps if step.reused} == {"rows", "plain"}
    assert len(court.requests()) == len(set(court.requests())) == 4


def test_a_checkpoint_may_judge(court: Court, texts: Texts) -> None:
    def steps(word: str) -> dict[str, Any]:
        made = court.steps(texts("good", "bad"))
        made["tuned"] = {"op": "ask.tune", "from": "rows", "params": {"word": word}}
        made["grade"] |= {"model": "tuned", "runtime": {"model": {"backend": "parrot"}}}
        return made

    found = court.done(steps("yes")).manifests["grade"]
    assert court.scores()["passed"].to_list() == [True, True]
    assert found.facts["by_checkpoint"] == "lab/tuned@1"
    assert [item.role for item in found.inputs] == ["from", "model"]
    court.done(steps("no"))
    assert court.scores()["passed"].to_list() == [False, False]


def test_a_preview_shows_questions_and_the_verdict(court: Court, texts: Texts) -> None:
    steps = court.steps(texts("skip", "good day", "bad day"), votes=2)
    recipe = court.lab.recipe(steps, plugins=PLUGINS, models={"rules": RULES})
    shown = factory.preview(recipe, "grade", rows=3)
    assert [(item["row"], item["slot"]) for item in shown] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert shown[0]["prompt"] == "good day"
    assert [one["step"] for one in shown[0]["verdicts"]] == ["grade"]
    assert shown[0]["verdicts"][0]["measured"]["said"] == [shown[0]["answer"], shown[1]["answer"]]
    with pytest.raises(Exception, match="asks nothing about the first 1 rows"):
        factory.preview(recipe, "grade", rows=1)
