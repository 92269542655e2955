"""select.mix: how many rows each part gives and which; and `where` on a mix."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory
from factory.engine.errors import OpError, RecipeError
from factory.engine.op import OpContext, Selection
from factory.engine.run import RunReport
from factory.selection.mix import MixParams, allot, select_mix
from warehouse import Dataset, Warehouse

MODELS = {"rules": {"replay": {"rules": [
    {"weight": 2, "text": "<think>I add.</think><answer>{{ answer }}</answer>"},
    {"weight": 1, "text": "<think>I guess.</think><answer>none</answer>"}]}}}
LONG = [f"a long question, number {number}" for number in range(7)]
SHORT = [f"hello {number}" for number in range(3)]


class Desk:
    """A folder with the files `long.jsonl` and `short.jsonl`, and recipes that mix them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.write("long", LONG)
        self.write("short", SHORT)

    def write(self, name: str, prompts: list[str]) -> None:
        text = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        (self.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def recipe(self, steps: dict[str, Any], **top: Any) -> Path:
        files = {path.stem: {"op": "source.files", "params": {"paths": [path.name]}}
                 for path in sorted(self.folder.glob("*.jsonl"))}
        path = self.folder / "desk.yaml"
        path.write_text(json.dumps({"recipe": "desk", "models": MODELS, "steps": {**files, **steps}, **top}))
        return path

    def try_run(self, steps: dict[str, Any], executor: str = "inline", warehouse: str = "w", **top: Any) -> RunReport:
        return factory.run(self.recipe(steps, **top), warehouse=self.folder / warehouse, executor=executor, workers=2)

    def run(self, steps: dict[str, Any], executor: str = "inline", warehouse: str = "w", **top: Any) -> RunReport:
        report = self.try_run(steps, executor, warehouse, **top)
        assert report.status == "succeeded", report.errors
        return report

    def dataset(self, step: str, warehouse: str = "w") -> Dataset:
        return Warehouse(self.folder / warehouse).dataset(f"desk/{step}")

    def kept(self, step: str = "mixed", warehouse: str = "w") -> list[str]:
        return sorted(self.dataset(step, warehouse).scan().collect()["prompt"].to_list())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def mix(*sources: str, shares: list[float], where: list[Any] | None = None, **params: Any) -> dict[str, Any]:
    rules = {} if where is None else {"where": where}
    return {"op": "select.mix", "from": list(sources), "params": {"shares": shares, **params}, **rules}


@pytest.mark.parametrize(("shares", "available", "rows", "expected"), [
    ([3, 1], [600_000, 200_000], 800_000, [600_000, 200_000]),
    ([3, 1], [626_933, 177_812], None, [533_436, 177_812]),
    ([0.3, 0.1], [3, 1], None, [3, 1]),
    ([1, 1, 1], [9, 9, 9], 4, [2, 1, 1]),
    ([3, 1], [100, 1], None, [3, 1]),
    ([3, 1], [100, 0], None, [0, 0]),
    ([5], [3], None, [3]),
    ([1e-9, 1], [5, 5], 1, [0, 1]),
])
def test_known_allotments(shares: list[float], available: list[int], rows: int | None, expected: list[int]) -> None:
    assert allot([float(share) for share in shares], available, rows) == expected


PARTS = st.lists(st.tuples(st.integers(1, 40) | st.sampled_from([0.1, 0.25, 2.5]), st.integers(0, 60)), min_size=1,
                 max_size=5)


@given(PARTS, st.none() | st.integers(1, 300))
def test_an_allotment_is_its_quotas_in_whole_numbers(parts: list[tuple[float, int]], rows: int | None) -> None:
    shares, available = [float(share) for share, _ in parts], [have for _, have in parts]
    allotted = allot(shares, available, rows)
    exact = [Fraction(str(share)) for share in shares]

    def quotas(total: int) -> list[Fraction]:
        return [total * share / sum(exact) for share in exact]

    total = sum(allotted)
    assert all(abs(got - quota) < 1 for got, quota in zip(allotted, quotas(total), strict=True))
    if rows is not None:
        assert total == rows
        return
    assert all(got <= have for got, have in zip(allotted, available, strict=True))
    assert any(quota > have for quota, have in zip(quotas(total + 1), available, strict=True))


def rows_of(parts: list[list[str]], first: int = 0, order: Any = None) -> pl.DataFrame:
    rows = [(number, text) for number, part in enumerate(parts) for text in part]
    rows = order(rows) if order else rows
    return pl.DataFrame({"row_id": range(first, first + len(rows)), "row_key": [text.encode() for _, text in rows],
                         "_input": [number for number, _ in rows]},
                        schema={"row_id": pl.Int64, "row_key": pl.Binary, "_input": pl.Int32})


def choose(given_rows: pl.DataFrame, seed: int = 0, **params: Any) -> tuple[list[tuple[int, bytes]], Selection]:
    choice = select_mix(given_rows, MixParams(**params), OpContext(seed=seed, sources=("a@1", "b@2", "c@3")))
    kept = choice.kept.join(given_rows, on="row_id")
    return sorted(kept.select("_input", "row_key").iter_rows()), choice


TEXTS = st.lists(st.lists(st.text(max_size=3), max_size=8), min_size=3, max_size=3)


@given(TEXTS, st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_row_is_settled_and_content_alone_decides(
    parts: list[list[str]], shares: tuple[int, ...], seed: int, random: Any
) -> None:
    rows = rows_of(parts)
    kept, choice = choose(rows, seed, shares=shares)
    settled = [*choice.kept["row_id"], *choice.rejected["row_id"]]
    assert sorted(settled) == rows["row_id"].to_list()
    assert set(choice.rejected["reason_code"]) <= {"over_share"}
    assert set(choice.kept["weight"]) <= {1}
    counts = [sum(number == part for number, _ in kept) for part in range(3)]
    assert counts == allot([float(share) for share in shares], [len(part) for part in parts], None)
    elsewhere = rows_of(parts, first=10**6, order=lambda found: random.sample(found, len(found)))
    assert choose(elsewhere, seed, shares=shares)[0] == kept


def test_the_seed_draws_and_more_rows_keep_the_earlier_ones() -> None:
    rows = rows_of([[f"a{number}" for number in range(20)], [f"b{number}" for number in range(20)]])
    drawn = {tuple(choose(rows, seed, shares=[1, 1], rows=6)[0]) for seed in range(5)}
    assert len(drawn) == 5
    assert set(choose(rows, shares=[1, 1], rows=6)[0]) < set(choose(rows, shares=[1, 1], rows=20)[0])


def test_too_few_rows_name_the_part_and_both_numbers() -> None:
    rows = rows_of([["x"] * 9, ["y"] * 2])
    with pytest.raises(OpError, match=r"part 2 of `from` \(b@2\) has 2 rows.* and 3 are wanted.*3 : 1.*to 8 or less"):
        choose(rows, shares=[3, 1], rows=12)
    with pytest.raises(OpError, match=r"part 1 .* has 0 rows .*: give that part more"):
        choose(rows.filter(pl.col("_input") == 1), shares=[3, 1], rows=4)
    with pytest.raises(OpError, match="there are 2 datasets and 1 shares"):
        choose(rows, shares=[1])
    assert choose(rows.clear(), shares=[1, 1])[0] == []


def test_a_mix_of_two_files_is_the_same_everywhere(desk: Desk) -> None:
    report = desk.run({"mixed": mix("long", "short", shares=[2, 1])})
    mixed = report.manifests["mixed"]
    assert (mixed.counts.owed, mixed.counts.kept, mixed.counts.reasons) == (10, 9, {"over_share": 1})
    assert sum(prompt in SHORT for prompt in desk.kept()) == 3
    refused = desk.dataset("mixed").table("rejections").collect()
    assert refused["reason"].to_list() == ["part 1 has 7 rows for 6 places by shares 2 : 1"]
    desk.run({"first": mix("short", shares=[1])}, warehouse="b")  # so that row ids differ there
    other = desk.run({"mixed": mix("long", "short", shares=[2.0, 1.0])}, "local", "b").manifests["mixed"]
    assert (other.fingerprint, other.content_hash) == (mixed.fingerprint, mixed.content_hash)
    assert desk.kept(warehouse="b") == desk.kept()


@pytest.mark.parametrize(("step", "said"), [
    (mix("long", "short", shares=[1]), "there are 2 datasets and 1 shares"),
    (mix("long", shares=[1, 2]), "there are 1 datasets and 2 shares"),
    (mix("long", shares=[]), "shares"), (mix("long", "short", shares=[1, 0]), "shares"),
    (mix("long", "short", shares=[1, -1]), "shares"), (mix("long", "short", shares=[1, float("inf")]), "shares"),
    (mix("long", "short", shares=[1, 1], rows=0), "rows"),
    ({"op": "select.mix", "from": ["long", "short"]}, "shares"),
])
def test_wrong_shares_are_found_before_anything_runs(step: dict[str, Any], said: str, desk: Desk) -> None:
    with pytest.raises(RecipeError, match=said):
        factory.plan(desk.recipe({"mixed": step}))


def test_a_mix_that_cannot_be_had_is_not_made(desk: Desk) -> None:
    report = desk.try_run({"mixed": mix("long", "short", shares=[1, 1], rows=8)})
    assert report.status == "failed"
    (error,) = report.errors
    assert isinstance(error, OpError)
    assert "step mixed: part 2 of `from` (desk/short@1) has 3 rows that passed, and 4 are wanted" in str(error)
    assert "mixed" not in report.manifests
    assert desk.run({"mixed": mix("long", "short", shares=[1, 1], rows=6)}).manifests["mixed"].row_count == 6


def test_a_row_of_two_inputs_counts_for_the_first(desk: Desk) -> None:
    steps = {"some": mix("long", shares=[1], rows=5), "mixed": mix("some", "long", shares=[5, 2]),
             "twice": mix("short", "short", shares=[1, 1]), "all": mix("short", "short", shares=[1, 1e-9], rows=3)}
    report = desk.run(steps)
    assert report.manifests["mixed"].counts.owed == 7
    assert desk.kept() == sorted(LONG)
    assert report.manifests["twice"].row_count == 0
    assert desk.kept("all") == sorted(SHORT)


SEEN = {"seen": {"op": "dedup.decontaminate", "from": "long", "against": "held_out"}}


def test_a_rule_speaks_of_the_datasets_it_was_given(desk: Desk) -> None:
    desk.write("held_out", [*LONG[:3], SHORT[0]])
    report = desk.run({**SEEN, "mixed": mix("long", "short", shares=[4, 3], where=["seen"])})
    assert report.manifests["mixed"].counts.reasons == {"seen.benchmark_prompt": 3}
    assert desk.kept() == sorted([*LONG[3:], *SHORT])
    turned = desk.run({**SEEN, "mixed": mix("short", "long", shares=[3, 4], where=[{"seen": {
        "contaminated": {"eq": False}}}])})
    assert turned.manifests["mixed"].counts.reasons == {"seen.contaminated": 3}


def test_rows_that_a_step_left_out_of_a_dataset_it_was_given_are_refused(desk: Desk) -> None:
    """Its rule covers the dataset: what it never saw there is no better than what it could not judge."""
    desk.write("held_out", [SHORT[0]])
    some = mix("long", shares=[1], rows=5)
    seen = {"op": "dedup.decontaminate", "from": "some", "against": "held_out"}
    report = desk.run({"some": some, "seen": seen, "mixed": mix("long", "short", shares=[5, 3], where=["seen"])})
    assert report.manifests["mixed"].counts.reasons == {"seen.not_scored": 2}


def test_reasoning_and_short_samples_as_in_the_paper(desk: Desk) -> None:
    """Samples that are verified and not contaminated, three for each of another kind."""
    ask = {"op": "generate.sample", "model": "rules", "params": {"template": "r1_zero", "n": 4, "max_tokens": 32}}
    steps = {
        "problems": {"op": "source.procedural", "params": {"tasks": [
            {"task": "arithmetic", "count": 12, "config": {"terms": 2}}]}},
        "held_out": {"op": "source.procedural", "seed": 5, "params": {"tasks": [
            {"task": "arithmetic", "count": 40, "config": {"terms": 2}}]}},
        "samples": {**ask, "from": "problems"}, "right": {"op": "verify.math", "from": "samples"},
        "clean": {"op": "dedup.decontaminate", "from": "samples", "against": "held_out"},
        "reasoning": {"op": "select.rejection", "from": "samples", "where": ["right", "clean"]},
        "mixed": mix("reasoning", "short", shares=[3, 1])}
    report = desk.run(steps, seed=1)
    assert report.manifests["clean"].counts.reasons["benchmark_prompt"] > 0
    mixed = report.manifests["mixed"]
    assert 0 < mixed.row_count == min(4 * 3, report.manifests["reasoning"].row_count * 4 // 3)
    held_out = set(desk.dataset("held_out").scan().collect()["prompt"])
    assert not held_out & set(desk.kept())
