"""Data as it comes, through the whole line: files, answers made by rule, a verifier, a selection.

A record that cannot be used costs itself alone and is named with its file and line; too many of them stop the run
before anything is committed. Whatever the data, every step accounts for each row, and a source that changes its
columns' types makes a version of its own.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import factory
from factory.engine.errors import RecipeError
from factory.engine.run import RunReport
from warehouse import Dataset, NotInWarehouse, Warehouse

ROWS = [{"prompt": f"{a} + 1 = ?", "answer": str(a + 1)} for a in range(50)]
RULE = "<think>I add.</think><answer>{{ answer }}</answer>"


class Line:
    """A recipe over `data.jsonl` in a folder, and its warehouse."""

    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data.jsonl"

    def write(self, rows: list[Any], *, at: int | None = None, raw: bytes = b"") -> None:
        """One JSON line per row, but line `at` (from 1) holds `raw`."""
        lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        if at is not None:
            lines[at - 1] = raw
        self.data.write_bytes(b"\n".join(lines) + b"\n")

    def run(self, executor: str = "inline", *, source: dict[str, Any] | None = None, rule: str = RULE,
            **overrides: Any) -> RunReport:
        """Run it; `source` are more parameters of the source."""
        columns = {"prompt": "prompt", "answer": "answer"}
        body = {
            "recipe": "bad", "models": {"rule": {"replay": {"rules": [{"text": rule}]}}},
            "steps": {
                "problems": {"op": "source.files",
                             "params": {"paths": ["data.jsonl"], "columns": columns, **(source or {})}},
                "samples": {"op": "generate.sample", "from": "problems", "model": "rule",
                            "params": {"n": 2, "max_tokens": 16}, "runtime": {"shard_rows": 20}},
                "correct": {"op": "verify.math", "from": "samples"},
                "chosen": {"op": "select.rejection", "from": "samples", "where": ["correct"]}}}
        path = self.folder / "bad.yaml"
        path.write_text(json.dumps(body))
        report = factory.run(path, warehouse=self.folder / "w", executor=executor, workers=2, overrides=overrides)
        if report.status == "succeeded":
            self.check(report)
        return report

    def step(self, name: str, version: int | None = None) -> Dataset:
        return Warehouse(self.folder / "w").dataset(f"bad/{name}" + (f"@{version}" if version else ""))

    def check(self, report: RunReport) -> None:
        """Every step owes what its input holds, and its tables hold what its counts say."""
        rows, answers = (self.step(name).manifest.row_count for name in ("problems", "samples"))
        owed = {"samples": 2 * rows, "correct": answers, "chosen": answers}
        for name, manifest in report.manifests.items():
            counts, dataset = manifest.counts, self.step(name)
            assert counts.owed == counts.kept + counts.rejected + counts.failed
            assert counts.owed == owed.get(name, counts.owed)
            lost = counts.owed if name == "correct" else counts.rejected + counts.failed  # scores count every verdict
            assert sum(counts.reasons.values()) == lost
            assert dataset.scan().collect().height == manifest.row_count == counts.kept
            failed = dataset.table("failures").collect().height if dataset.parts("failures") else 0
            assert failed == counts.failed


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def failures(dataset: Dataset) -> list[tuple[str, str]]:
    return list(dataset.table("failures").select("error_type", "message").collect().iter_rows())


@pytest.mark.parametrize(("raw", "code"), [
    (b'{"prompt": "1 + 1', "broken_json"), (b'{"prompt": "\xff", "answer": "1"}', "invalid_utf8"),
    (b'["prompt"]', "not_an_object"), (b'{"prompt": "1 + 1"}', "missing_column")])
def test_one_bad_line_of_fifty_costs_itself(line: Line, raw: bytes, code: str) -> None:
    line.write(ROWS, at=17, raw=raw)
    report = line.run()
    assert report.status == "succeeded"
    counts = report.manifests["problems"].counts
    assert (counts.owed, counts.kept, counts.failed, counts.reasons) == (50, 49, 1, {f"failed:{code}": 1})
    ((kind, message),) = failures(line.step("problems"))
    assert kind == code
    assert message.startswith("data.jsonl:17")
    assert report.manifests["chosen"].row_count == 98


def test_bad_lines_of_all_kinds_are_counted_apart(line: Line, executor: str) -> None:
    rows = [*ROWS, {"prompt": None, "answer": "1"}, {"prompt": "x", "answer": None}, *ROWS[:3]]
    line.write(rows, at=3, raw=b"{")
    report = line.run(executor)
    assert report.manifests["problems"].counts.reasons == {"null_value": 2, "failed:broken_json": 1}
    assert report.manifests["problems"].counts.kept == 52
    assert report.manifests["chosen"].row_count == 104


def test_too_many_bad_lines_stop_the_run(line: Line, executor: str) -> None:
    line.write(ROWS[:2], at=2, raw=b'{"prompt"')
    report = line.run(executor)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert "data.jsonl:2" in str(report.errors[0])
    assert [step.status for step in report.steps] == ["failed", "blocked", "blocked", "blocked"]
    with pytest.raises(NotInWarehouse):
        line.step("problems")
    report = line.run(executor, **{"steps.problems.runtime.max_failed": 0.5})
    assert report.status == "succeeded"
    assert report.manifests["chosen"].row_count == 2
    line.write(ROWS[:2])
    report = line.run(executor)
    assert report.manifests["problems"].counts.failed == 0
    assert report.manifests["chosen"].row_count == 4


@pytest.mark.parametrize(("text", "words"), [
    (None, "data.jsonl does not exist"), ("", "holds no records"), ("\n\n", "holds no records"),
    ('{"prompt"\n', "no record can be read"), ('{"question": "1", "answer": "1"}\n', "no column 'prompt'")])
def test_a_file_that_gives_nothing_is_refused_at_once(line: Line, text: str | None, words: str) -> None:
    if text is not None:
        line.data.write_text(text)
    with pytest.raises(RecipeError, match=words) as caught:
        line.run()
    assert caught.value.field == "steps.problems.params"
    assert not (line.folder / "w").exists()


def test_nulls_that_are_allowed_are_refused_where_they_matter(line: Line) -> None:
    line.write([{"prompt": None, "answer": "1"}, {"prompt": "1 + 1", "answer": None}, *ROWS[:2]])
    report = line.run(source={"nullable": ["prompt", "answer"]}, rule="<answer>{{ answer or 7 }}</answer>")
    assert report.manifests["problems"].counts.kept == 4
    assert report.manifests["samples"].counts.reasons == {"prompt_missing": 2}
    scores = line.step("correct").scan().collect()
    assert scores["passed"].null_count() == 2
    assert report.manifests["chosen"].counts.kept == 4


def test_odd_text_arrives_as_it_is(line: Line) -> None:
    """Line separators that are no line ends, a byte-order mark, zero bytes, emoji, and five megabytes."""
    texts = ["a\u2028b", "a\u0085b", "\ufeffa", "a\x00b", "a\rb\r\n", "🧮 \U0001f1e6", "e\u0301 é", "x" * 5_000_000, ""]
    line.write([{"prompt": text, "answer": text or "0"} for text in texts])
    report = line.run()
    assert report.status == "succeeded", report.errors
    assert line.step("problems").scan().collect()["prompt"].to_list() == texts
    answers = line.step("samples").scan().collect()
    assert answers["prompt"].to_list() == [text for text in texts for _ in range(2)]
    short = answers.filter(~pl.col("answer").str.contains(r"\s") & (pl.col("answer").str.len_chars() < 9))
    assert short["response"].to_list() == [RULE.replace("{{ answer }}", answer) for answer in short["answer"].to_list()]


def test_columns_that_are_no_text(line: Line, executor: str) -> None:
    """A prompt of numbers is asked as JSON; an answer of mixed types is kept as JSON text and still verified."""
    mixed = [7, "8", 9.5, True, [1, 2], {"a": 1}]
    line.write([{"prompt": number, "answer": answer} for number, answer in enumerate(mixed)])
    report = line.run(executor)
    assert report.status == "succeeded", report.errors
    rows = line.step("problems").scan().collect()
    assert rows.schema["prompt"] == pl.Int64
    assert rows["answer"].to_list() == ["7", "8", "9.5", "true", "[1, 2]", '{"a": 1}']
    assert report.manifests["samples"].counts.kept == 12
    kept = set(line.step("chosen").scan().collect()["answer"].to_list())
    assert {"7", "8", "9.5"} <= kept


LEVELS: dict[str, tuple[list[Any], list[Any], pl.DataType]] = {
    "whole to real": ([1, 2], [2.5], pl.Float64()),
    "whole to text": ([1, 2], ["high"], pl.String()),
    "real to text": ([1.5, 2.0], ["high"], pl.String()),
    "null to whole": ([None, None], [3], pl.Int64()),
    "null to list": ([None, None], [["a"]], pl.List(pl.String())),
    "list to text": ([["a"], []], ["b"], pl.String()),
    "more fields": ([{"a": 1}, None], [{"a": 1, "b": "x"}], pl.Struct({"a": pl.Int64(), "b": pl.String()})),
}


@pytest.mark.parametrize("case", LEVELS.values(), ids=LEVELS)
def test_a_source_that_changes_a_type_makes_a_version_of_its_own(
        line: Line, case: tuple[list[Any], list[Any], pl.DataType]) -> None:
    old, new, dtype = case
    source = {"columns": {"prompt": "prompt", "answer": "answer", "level": "level"}, "nullable": ["level"]}
    rows = [{**row, "level": level} for row, level in zip(ROWS, [*old, *new], strict=False)]
    line.write(rows[:2])
    line.run(source=source)
    before = line.step("problems").scan().collect()
    line.write(rows)
    report = line.run(source=source)
    assert report.status == "succeeded", report.errors
    after = line.step("problems").scan().collect()
    assert after.schema["level"] == dtype
    assert after["prompt"].to_list() == [row["prompt"] for row in rows]
    assert after["level"][-1] is not None
    assert after["level"].null_count() == old.count(None)
    assert line.step("chosen").scan().collect().schema["level"] == dtype
    assert line.step("chosen").manifest.row_count == 6
    assert line.step("problems", 1).scan().collect().equals(before)


def test_a_source_that_gains_a_column(line: Line) -> None:
    """All columns are taken as they are: rows of before have null in the new one."""
    line.write(ROWS[:2])
    line.run(source={"columns": None})
    line.write([*ROWS[:2], {**ROWS[2], "level": 3}])
    report = line.run(source={"columns": None})
    assert report.status == "succeeded", report.errors
    assert line.step("problems").scan().collect()["level"].to_list() == [None, None, 3]
    assert line.step("chosen").scan().collect().sort("prompt")["level"].to_list() == [None] * 4 + [3, 3]


def test_a_source_that_only_grows_keeps_its_rows(line: Line) -> None:
    """Also rows that hold NaN: they are equal to themselves."""
    source = {"columns": {"prompt": "prompt", "answer": "answer", "level": "level"}}
    rows = [{**row, "level": level} for row, level in zip(ROWS, [math.nan, 1.5, math.inf, -2.0], strict=False)]
    line.write(rows[:3])
    line.run(source=source)
    before = line.step("problems").scan().collect()
    line.write(rows)
    report = line.run(source=source)
    after = line.step("problems").scan().collect()
    assert after.head(3).equals(before)
    assert (math.isnan(after["level"][0]), after["level"].to_list()[1:]) == (True, [1.5, math.inf, -2.0])
    assert report.manifests["samples"].usage.requested == 2
    assert report.manifests["chosen"].row_count == 8


def test_a_score_that_is_no_number_passes_no_threshold(tmp_path: Path) -> None:
    (tmp_path / "nan_scores.py").write_text('''
import polars as pl
from factory.engine.op import SCORE_SCHEMA, Kind, op

@op("test.nan_scores", version=1, kind=Kind.SCORE, columns=("level",), out={"level_seen": pl.Float64()})
def nan_scores(batch, params, ctx):
    """Scores that are no numbers."""
    return pl.DataFrame({"passed": [None] * batch.height}, schema_overrides={"passed": pl.Boolean}).with_columns(
        batch["level"].alias("level_seen"))
''')
    (tmp_path / "data.jsonl").write_text('{"level": NaN}\n{"level": 0.5}\n{"level": 2.0}\n')
    body = {"recipe": "nan", "plugins": ["nan_scores"], "steps": {
        "rows": {"op": "source.files", "params": {"paths": ["data.jsonl"]}},
        "seen": {"op": "test.nan_scores", "from": "rows"},
        "high": {"op": "select.rejection", "from": "rows", "where": [{"seen": {"level_seen": {"ge": 1}}}]},
        "low": {"op": "select.rejection", "from": "rows", "where": [{"seen": {"level_seen": {"lt": 1}}}]}}}
    (tmp_path / "nan.yaml").write_text(json.dumps(body))
    report = factory.run(tmp_path / "nan.yaml", warehouse=tmp_path / "w", executor="inline")
    assert report.status == "succeeded", report.errors
    for step, kept, other in (("high", 2.0, "seen.level_seen"), ("low", 0.5, "seen.level_seen")):
        assert Warehouse(tmp_path / "w").dataset(f"nan/{step}").scan().collect()["level"].to_list() == [kept]
        assert report.manifests[step].counts.reasons == {"seen.undecided": 1, other: 1}
