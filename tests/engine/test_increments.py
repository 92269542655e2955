"""A changed setting costs what it changes, and nothing else.

More samples, longer answers, other prompts, a retry of failed rows: each adds an increment. Old parts and row ids are
kept, only what is missing is asked for or scored, every version is balanced, and whatever the way to a setting was, its
datasets have the content hash of a fresh run with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from increment_world import Place, Ran, hashes, parts

both = pytest.mark.parametrize("executor", ["inline", "local"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("MOODS", "")
    return Place(tmp_path)


def _fresh(place: Place, folder: str, **variables: Any) -> dict[str, str]:
    """Content hashes of a fresh run on the same prompts."""
    other = Place(place.folder / folder)
    for file in place.folder.glob("*.jsonl"):
        (other.folder / file.name).write_bytes(file.read_bytes())
    return hashes(other.run(**variables))


def _ids(frame: pl.DataFrame) -> set[int]:
    return set(frame["row_id"])


@both
def test_more_samples(place: Place, executor: str) -> None:
    first = place.run(executor, n=2)
    more = place.run(executor, n=5)
    assert len(first.asked) == 20
    assert len(more.asked) == 30
    assert not set(first.asked) & set(more.asked)
    assert parts(first, "samples", "rows") < parts(more, "samples", "rows")
    assert parts(first, "words", "scores") < parts(more, "words", "scores")
    old, new = place.samples(first), place.samples(more)
    assert new.filter(pl.col("sample_index") < 2).equals(old)
    assert more.report.manifests["samples"].parent_version == first.report.manifests["samples"].version
    assert hashes(more) == _fresh(place, "fresh", n=5)


@both
def test_longer_answers(place: Place, executor: str) -> None:
    first = place.run(executor, n=4, max_tokens=8)
    old = place.samples(first)
    cut = old.filter(pl.col("finish_reason") == "length")
    assert 0 < cut.height < old.height
    longer = place.run(executor, n=4, max_tokens=12)
    new = place.samples(longer)
    assert sorted(longer.asked) == sorted(key.hex() for key in cut["answer_key"])
    assert parts(first, "samples", "rows") < parts(longer, "samples", "rows")
    assert set(place.table(longer.ref("samples"), "superseded")["row_id"]) == _ids(cut)
    assert _ids(new) & _ids(old) == _ids(old) - _ids(cut)
    assert new.filter(pl.col("finish_reason") == "stop").height > old.height - cut.height
    assert place.samples(first).equals(old)  # the earlier version reads as before
    assert hashes(longer) == _fresh(place, "fresh", n=4, max_tokens=12)
    longest = place.run(executor, n=4, max_tokens=64)
    assert set(longest.asked) == {key.hex() for key in new.filter(pl.col("finish_reason") == "length")["answer_key"]}
    assert hashes(longest) == _fresh(place, "fresh2", n=4, max_tokens=64)


def test_fewer_samples_ask_nothing(place: Place) -> None:
    first = place.run(n=4)
    fewer = place.run(n=1)
    assert fewer.asked == []
    assert place.samples(fewer).equals(place.samples(first).filter(pl.col("sample_index") < 1))
    assert parts(fewer, "samples", "rows") <= parts(first, "samples", "rows")
    assert hashes(fewer) == _fresh(place, "fresh", n=1)


def test_shorter_answers(place: Place) -> None:
    first = place.run(n=4, max_tokens=64)
    old = place.samples(first)
    shorter = place.run(n=4, max_tokens=8)
    too_long = old.filter(pl.col("tokens_out") > 8)
    assert set(shorter.asked) == {key.hex() for key in too_long["answer_key"]}
    assert _ids(old) & _ids(place.samples(shorter)) == _ids(old) - _ids(too_long)
    assert hashes(shorter) == _fresh(place, "fresh", n=4, max_tokens=8)


@both
@pytest.mark.parametrize("way", ["lines", "lines in between", "a file"])
def test_more_prompts(place: Place, executor: str, way: str) -> None:
    first = place.run(executor, n=2)
    variables: dict[str, Any] = {"n": 2}
    if way == "a file":
        place.write([20, 21, 22], "more.jsonl")
        variables["paths"] = "*.jsonl"
    else:
        place.write([*range(10), 20, 21, 22] if way == "lines" else [20, 0, 1, 21, 22, *range(2, 10)])
    more = place.run(executor, **variables)
    old, new = place.samples(first), place.samples(more)
    assert len(more.asked) == 6
    assert not set(more.asked) & set(first.asked)
    assert new.filter(pl.col("row_id").is_in(old["row_id"].implode())).equals(old)
    assert parts(first, "problems", "rows") < parts(more, "problems", "rows")
    assert parts(first, "samples", "rows") < parts(more, "samples", "rows")
    assert parts(first, "words", "scores") < parts(more, "words", "scores")
    assert hashes(more) == _fresh(place, "fresh", **variables)


def test_fewer_prompts(place: Place) -> None:
    first = place.run()
    place.write([n for n in range(10) if n not in (3, 8)])
    fewer = place.run()
    assert fewer.asked == []
    gone = pl.col("prompt").is_in(["What is 3 plus 1?", "What is 8 plus 1?"])
    assert place.samples(fewer).equals(place.samples(first).filter(~gone))
    assert hashes(fewer) == _fresh(place, "fresh")


def test_equal_prompts_get_answers_of_their_own(place: Place) -> None:
    place.write([1, 2, 1])
    first = place.run()
    assert len(set(first.asked)) == 6
    place.write([1, 2, 1, 1])
    more = place.run()
    assert len(more.asked) == 2
    assert _ids(place.samples(first)) < _ids(place.samples(more))
    assert hashes(more) == _fresh(place, "fresh")
    place.write([2, 1])
    fewer = place.run()
    assert fewer.asked == []
    assert hashes(fewer) == _fresh(place, "fresh2")


def test_how_a_step_runs_redoes_nothing(place: Place) -> None:
    first = place.run()
    again = place.run("local", overrides={
        "steps.samples.runtime.batch": 3, "steps.samples.runtime.shard_rows": 3, "steps.samples.runtime.processes": 2,
        "steps.words.runtime.max_failed": 0.5})
    assert again.asked == []
    assert again.reused() == set(again.report.manifests)
    assert hashes(again) == hashes(first)


@pytest.mark.parametrize(("executor", "overrides"), [
    ("local", {"steps.samples.runtime.processes": 3, "steps.samples.runtime.batch": 2}),
    ("inline", {"steps.samples.runtime.shard_rows": 1}), ("inline", {"steps.samples.runtime.shard_rows": 1000})])
def test_how_a_step_runs_is_not_in_the_result(place: Place, tmp_path: Path, executor: str,
                                              overrides: dict[str, Any]) -> None:
    other = Place(tmp_path / "other")
    assert hashes(place.run("inline")) == hashes(other.run(executor, overrides=overrides))


@pytest.mark.parametrize(("variables", "overrides"), [
    ({"temperature": 0.5}, {}), ({"template": "r1_zero"}, {}), ({"salt": "!"}, {}), ({}, {"seed": 8}),
    ({}, {"steps.samples.seed": 8})])
def test_what_changes_answers_redoes_all(place: Place, variables: dict[str, Any], overrides: dict[str, Any]) -> None:
    first = place.run()
    second = place.run(overrides=overrides, **variables)
    assert len(second.asked) == len(first.asked)
    assert not set(second.asked) & set(first.asked)
    assert not _ids(place.samples(first)) & _ids(place.samples(second))
    back = place.run()
    assert (back.asked, back.ref("samples")) == ([], first.ref("samples"))


def test_limit_is_a_beginning(place: Place) -> None:
    little = place.run(limit=3)
    assert len(little.asked) == 6
    assert all(manifest.partial for manifest in little.report.manifests.values())
    whole = place.run()
    assert len(whole.asked) == 14
    assert not any(manifest.partial for manifest in whole.report.manifests.values())
    assert not whole.reused()
    assert _ids(place.samples(little)) < _ids(place.samples(whole))
    assert hashes(whole) == _fresh(place, "fresh")
    assert place.run(limit=3).reused() == set(little.report.manifests)
    assert place.dataset("grow/samples").ref == whole.ref("samples")


def test_a_limit_in_between_costs_no_row_its_id(place: Place) -> None:
    """The usual rehearsal: run, try something on a few rows, go on with the whole."""
    first = place.run()
    place.run(limit=3)
    place.write(range(12))
    place.run(limit=3)
    more = place.run()
    assert len(more.asked) == 4
    assert parts(first, "problems", "rows") < parts(more, "problems", "rows")
    assert parts(first, "samples", "rows") < parts(more, "samples", "rows")
    assert parts(first, "words", "scores") < parts(more, "words", "scores")
    assert hashes(more) == _fresh(place, "fresh")


def test_up_and_down_and_up_keeps_ids(place: Place) -> None:
    many = place.run(n=4)
    place.run(n=1)
    more = place.run(n=5)
    assert len(more.asked) == 10
    assert _ids(place.samples(many)) < _ids(place.samples(more))
    assert hashes(more) == _fresh(place, "fresh", n=5)


def test_another_name_is_the_same_work(place: Place) -> None:
    first = place.run()
    renamed = place.run(overrides={"steps.problems.name": "mine/problems", "steps.samples.name": "mine/samples"})
    assert renamed.asked == []
    assert renamed.ref("samples") == "mine/samples@1"
    for step in ("problems", "samples", "words", "copies", "chosen", "marked"):
        assert renamed.report.manifests[step].tables == first.report.manifests[step].tables
    assert hashes(renamed) == hashes(first)
    grown = place.run(n=3, overrides={"steps.samples.name": "theirs/samples"})
    assert len(grown.asked) == 10
    assert parts(first, "samples", "rows") < parts(grown, "samples", "rows")


def test_going_back_reuses_the_old_version(place: Place) -> None:
    first = place.run(n=2, max_tokens=8)
    place.run(n=3, max_tokens=8)
    place.run(n=3, max_tokens=16)
    back = place.run(n=2, max_tokens=8)
    assert back.asked == []
    assert back.reused() == set(back.report.manifests)
    assert {name: made.ref for name, made in back.report.manifests.items()} == {
        name: made.ref for name, made in first.report.manifests.items()}


@both
def test_retry_of_failed_answers(place: Place, executor: str) -> None:
    place.fail("samples 1", "samples 2", "samples 3")
    first = place.run(executor, n=4)
    failed = place.table(first.ref("samples"), "failures")
    assert 0 < failed.height < 40
    assert set(failed["error_type"]) == {"moody"}
    assert place.run(executor, n=4).asked == []  # a failure stands until a retry is asked for
    place.fail("samples 1")
    some = place.run(executor, n=4, retry_failed=True)
    assert len(some.asked) == failed.height
    assert parts(first, "samples", "rows") < parts(some, "samples", "rows")
    left = place.table(some.ref("samples"), "failures")
    assert 0 < left.height < failed.height
    place.fail()
    rest = place.run(executor, n=4, retry_failed=True)
    assert len(rest.asked) == left.height
    assert rest.report.manifests["samples"].counts.failed == 0
    assert parts(some, "words", "scores") < parts(rest, "words", "scores")
    assert hashes(rest) == _fresh(place, "fresh", n=4)
    assert place.run(executor, n=4).reused() == set(rest.report.manifests)


def test_equal_rows_that_change_places(place: Place) -> None:
    """Which one of several equal rows a row is, is part of its answer key: an answer given to the second does not serve
    when it has become the first."""
    place.write([1, 2, 1])
    recipe = place.add_steps("late: {op: moody.skip, from: problems, params: {rows: 0}}",
                             "again: {op: generate.sample, from: late, model: rules, params: {n: 4, max_tokens: 9}}")
    place.run(recipe=recipe)
    changed = place.run(recipe=recipe, overrides={"steps.late.params.rows": 1})
    other = Place(place.folder / "fresh", [1, 2, 1])
    fresh = other.run(recipe=recipe, overrides={"steps.late.params.rows": 1})
    assert hashes(changed)["again"] == hashes(fresh)["again"]


@pytest.mark.parametrize("step", ["samples", "words", "marked"])
def test_retry_in_vain_can_be_tried_again(place: Place, step: str) -> None:
    moods = {"samples": "samples 1", "words": "words 5", "marked": "marked L"}
    place.fail(moods[step])
    first = place.run(n=4)
    failed = first.report.manifests[step].counts.failed
    assert failed
    for _ in range(2):
        vain = place.run(n=4, retry_failed=True)
        assert vain.report.manifests[step].counts.failed == failed
        assert vain.ref(step) == first.ref(step)
    place.fail()
    mended = place.run(n=4, retry_failed=True)
    assert mended.report.manifests[step].counts.failed == 0
    assert hashes(mended) == _fresh(place, "fresh", n=4)


def test_retried_scores_stay_when_rows_leave(place: Place) -> None:
    """Scores of a part that was tried again serve a version that holds only some of its rows."""
    place.fail("words 5")
    assert place.run(n=4).report.manifests["words"].counts.failed
    place.fail()
    assert place.run(n=4, retry_failed=True).report.manifests["words"].counts.failed == 0
    fewer = place.run(n=3)
    assert fewer.report.manifests["words"].counts.failed == 0
    assert hashes(fewer) == _fresh(place, "fresh", n=3)


def test_a_failure_is_kept_as_samples_grow(place: Place) -> None:
    place.fail("samples 1", "samples 2", "samples 3")
    first = place.run(n=3)
    failed = place.table(first.ref("samples"), "failures")
    place.fail()
    grown = place.run(n=4)
    assert len(grown.asked) == 10
    assert place.table(grown.ref("samples"), "failures").equals(failed)
    mended = place.run(n=4, retry_failed=True)
    assert len(mended.asked) == failed.height
    assert hashes(mended) == _fresh(place, "fresh", n=4)


def test_too_many_failures_commit_nothing_and_keep_answers(place: Place) -> None:
    strict = {"steps.samples.runtime.max_failed": 0.01}
    place.fail("samples 1", "samples 2", "samples 3")
    first = place.run(n=4, overrides=strict, status="failed")
    assert "samples" not in first.report.manifests
    place.fail()
    second = place.run(n=4, overrides=strict)
    assert 0 < len(second.asked) < len(first.asked) == 40
    assert hashes(second) == _fresh(place, "fresh", n=4)


_setting = st.fixed_dictionaries({
    "n": st.integers(1, 4), "max_tokens": st.sampled_from([3, 8, 12, 64]),
    "prompts": st.lists(st.integers(0, 6), min_size=1, max_size=9), "limit": st.sampled_from([None, None, None, 2])})


@settings(max_examples=15, deadline=None)
@given(st.lists(_setting, min_size=2, max_size=4))
def test_any_way_leads_to_the_same_place(ways: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder) / "grown")
        ran: Ran | None = None
        for way in ways:
            place.write(way["prompts"])
            ran = place.run(n=way["n"], max_tokens=way["max_tokens"], limit=way["limit"])
        last = ways[-1]
        other = Place(Path(folder) / "fresh", last["prompts"])
        fresh = other.run(n=last["n"], max_tokens=last["max_tokens"], limit=last["limit"])
        assert ran is not None
        assert hashes(ran) == hashes(fresh)
