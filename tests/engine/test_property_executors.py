"""Whatever the rows, and however they are cut, dealt out and ordered, every dataset of a run has the same content."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labs import Lab

WORD = st.sampled_from(["a", "bb", "no", "boom", "Ünï", "日本", "", " ", "x" * 30])
TEXT = st.lists(WORD, max_size=4).map(" ".join)
ROW = st.tuples(TEXT, st.sampled_from(["p", "q", None]))
MODELS = {"rules": {"replay": {"rules": [{"text": "<think>{{ text }}</think>{{ rng.integer(0, 3) }}"},
                                         {"text": "{{ text }}"}]}}}


def steps(rows: list[tuple[str, str | None]], splits: int, shard_rows: int, processes: int) -> dict[str, Any]:
    runtime = {"shard_rows": shard_rows, "max_failed": 1.0}
    records = [{"text": text, "topic": topic} for text, topic in rows] + [{"text": "last", "topic": "p"}]
    return {
        "rows": {"op": "test.rows", "params": {"rows": records, "splits": splits}},
        "loud": {"op": "test.shout", "from": "rows", "runtime": runtime},
        "words": {"op": "test.words", "from": "rows", "runtime": runtime},
        "joined": {"op": "test.join", "from": "rows"},
        "samples": {
            "op": "generate.sample",
            "from": "rows",
            "model": "rules",
            "params": {"prompt": "text", "n": 3},
            "runtime": {**runtime, "processes": processes},
        },
        "size": {"op": "test.size", "from": "samples", "params": {"most": 5}, "runtime": runtime},
        "rare": {"op": "test.rare", "from": "samples", "params": {"most": 6}},
        "copies": {"op": "dedup.exact", "from": "samples", "params": {"scope_column": "text"}},
        "twins": {"op": "dedup.minhash", "from": "samples", "params": {"floor": 0.5, "threshold": 0.5, "ngram": 1}},
        "chosen": {
            "op": "select.rejection",
            "from": "samples",
            "where": [{"size": {"undecided": "keep"}}, "copies", "twins"],
            "params": {"keep_per_prompt": 1},
        },
    }


def content(
    folder: Path, *args: Any, executor: str = "inline", workers: int = 1
) -> dict[str, tuple[str, int, dict[str, int]]]:
    report = Lab(folder).run(steps(*args), executor, workers=workers, models=MODELS)
    assert report.status == "succeeded", report.errors
    return {
        name: (found.content_hash, found.row_count, found.counts.reasons) for name, found in report.manifests.items()
    }


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROW, max_size=7), splits=st.integers(1, 4), shard_rows=st.integers(1, 5), processes=st.integers(0, 3)
)
def test_sharding_changes_nothing(
    rows: list[tuple[str, str | None]], splits: int, shard_rows: int, processes: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert content(Path(one), rows, 1, 100, 1) == content(Path(other), rows, splits, shard_rows, processes)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=4, max_size=12), shard_rows=st.integers(1, 3), workers=st.integers(1, 3))
def test_workers_change_nothing(rows: list[tuple[str, str | None]], shard_rows: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert content(Path(one), rows, 1, 100, 1) == content(
            Path(other), rows, 2, shard_rows, 0, executor="local", workers=workers)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, max_size=7), order=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows: list[tuple[str, str | None]], order: Any) -> None:
    turned = order.sample(rows, len(rows))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert content(Path(one), rows, 2, 3, 1) == content(Path(other), turned, 3, 2, 1)
