"""`factory verdicts diff` and `factory reverify` on a real warehouse, and prompts that could not be judged, by name."""

from __future__ import annotations

import json

from shell import Shell

SILENT = """\
recipe: silent
models:
  rules: {replay: {rules: [{text: "<answer>{{ answer }}</answer>"}]}}
steps:
  problems: {op: source.files, params: {paths: [problems.jsonl], columns: {prompt: question, answer: answer}}}
  samples: {op: generate.sample, from: problems, model: rules, params: {n: 2}}
  chosen: {op: verify.choice, from: samples}
"""


def test_two_verifiers_over_the_same_rows(house: Shell) -> None:
    """What changed is what a join of the two score tables says."""
    found = house.json("verdicts", "diff", "pico/correct", "pico/form", "--limit", "3")
    rows = house.json("sql", 'SELECT a.label AS before, b.label AS after, count(*) AS n FROM "pico/correct" a '
                             'JOIN "pico/form" b USING (row_id) WHERE a.label <> b.label GROUP BY ALL')
    assert {(each["before"], each["after"]): each["rows"] for each in found["labels"]} == {
        (row["before"], row["after"]): row["n"] for row in rows}
    assert found["both"] == 120
    assert len(found["rows"]) == min(3, found["rows_changed"])
    assert found["made"]["op"] == ["verify.math", "verify.format"]
    said = house("verdicts", "diff", "pico/correct", "pico/form", "--limit", "1").stdout
    assert "pico/correct@1 → pico/form@1: 120 rows judged by both" in said
    assert "more rows" in said


def test_the_same_verdicts_do_not_differ(house: Shell) -> None:
    found = house.json("verdicts", "diff", "pico/correct@1", "pico/correct")
    assert (found["changes"], found["rows"], found["made"]) == ([], [], {})


def test_what_cannot_be_compared(house: Shell) -> None:
    assert "holds no verdicts" in house.error("verdicts", "diff", "pico/correct", "pico/samples")
    assert "no/such" in house.error("verdicts", "diff", "pico/correct", "no/such")
    found = house.json("verdicts", "diff", "pico/correct", "odd/correct")
    assert (found["both"], found["rows"]) == (0, [])
    assert "different rows" in house("verdicts", "diff", "pico/correct", "odd/correct").stdout


def test_nothing_is_stale(house: Shell) -> None:
    found = house.json("reverify", "--dry-run")
    assert (found["runs"], found["datasets"]) == ([], [])
    assert found["looked_at"] > 2
    said = house("reverify", "pico", "--op", "verify.math").stdout
    assert "1 dataset of verdicts looked at; every verdict is of its verifier's version" in said
    assert "is no verifier" in house.error("reverify", "--op", "filter.length")
    assert "begins with 'pcio'" in house.error("reverify", "pcio")


def test_prompts_without_a_usable_reference_are_named(shell: Shell) -> None:
    golds = ["A", "see solution", "B", "see solution", "none of these"]
    (shell.folder / "silent.yaml").write_text(SILENT)
    (shell.folder / "problems.jsonl").write_text("".join(
        json.dumps({"question": f"{number}?", "answer": gold}) + "\n" for number, gold in enumerate(golds)))
    said = shell("run", "silent.yaml", "--executor", "inline", "--quiet").stdout
    assert "chosen: 3 prompts have a reference that verify.choice cannot use, so 6 answers are undecided" in said
    assert "'see solution'" in said
    assert "and 1 more" in said
    shown = shell("show", "silent/chosen").stdout
    assert "'none of these'" in shown
    again = shell.json("run", "silent.yaml", "--executor", "inline", "--quiet")
    told = again["unjudged"]["chosen"]
    assert [each["prompts"] for each in told] == [2, 1]
    assert "unjudged" in again
    assert "cannot use" not in shell("show", "silent/samples").stdout
