"""`factory apply` runs an op's own code on a plain file: rows keep their order, columns are added, the target is
written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shell import Shell

import factory
from factory.engine.errors import UsageError
from factory.engine.op import Kind, all_composites, all_ops

VERDICT = ["label", "reason_code", "reason", "extracted", "score"]
ROWS = [{"id": 3, "response": "<answer>2</answer>", "answer": "2", "note": "x"},
        {"id": 1, "response": "<answer>7</answer>", "answer": "2", "note": None},
        {"id": 2, "response": None, "answer": "2", "note": "y"},
        {"id": 9, "response": "<answer>1/2</answer>", "answer": "no number at all", "note": "z"}]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "in.jsonl") -> Path:
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame = pl.DataFrame(rows, infer_schema_length=None)
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "in.csv"])
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet", "out.csv"])
def test_verifier_adds_its_columns(shell: Shell, source: str, target: str) -> None:
    write(shell.folder, ROWS, source)
    said = shell.json("apply", "verify.math", source, target)
    assert said["rows"] == 4
    assert sum(said["counts"].values()) == 4
    readers = {".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet, ".csv": pl.read_csv}
    made = readers[Path(target).suffix](shell.folder / target)
    assert made["id"].to_list() == [3, 1, 2, 9]
    assert made["label"].to_list()[:3] == ["correct", "incorrect", "incorrect"]
    assert made["label"][3] != "correct"
    assert made.columns[:4] == ["id", "response", "answer", "note"]
    assert made.columns[4:] == VERDICT


def test_filter_with_other_columns_and_params(shell: Shell) -> None:
    write(shell.folder, [{"body": "three small words", "passed": "mine"}, {"body": "one"}])
    said = shell("apply", "filter.length", "in.jsonl", "out.jsonl", "--set", "text=body", "--set", "min_words=2")
    assert "passed 1" in said.stdout
    made = pl.read_ndjson(shell.folder / "out.jsonl")
    assert made["passed"].to_list() == [True, False]
    assert made["words"].to_list() == [3, 1]
    assert made["reason_code"].to_list()[1] == "too_short"


def test_is_the_code_of_the_step(shell: Shell, house: Shell) -> None:
    """On the rows of a run, apply gives the scores of the run."""
    house("sql", 'SELECT * FROM "pico/samples" ORDER BY row_id', "--parquet", shell.folder / "in.parquet")
    before = pl.read_parquet(shell.folder / "in.parquet").columns
    for op, step, params in (("verify.math", "correct", []), ("verify.format", "form", ["--set", "form=r1_zero"]),
                             ("filter.repetition", "clean.repetition", [])):
        shell("apply", op, "in.parquet", "out.parquet", *params)
        stored = pl.DataFrame(house.json("sql", f'SELECT * FROM "pico/{step}" ORDER BY row_id'))
        made = pl.read_parquet(shell.folder / "out.parquet")
        names = [name for name in stored.columns if name != "row_id"]
        assert made.height == stored.height == 120
        for name in (name for name in names if name in made.columns):
            assert made[name].to_list() == stored[name].to_list(), (op, name)
        added = [name for name in made.columns if name not in before]
        assert added == VERDICT if op.startswith("verify.") else {"passed", "reason_code"} <= set(added), op


@pytest.mark.parametrize(("words", "said", "code"), [
    (("verify.math", "no.jsonl", "out.jsonl"), "no.jsonl does not exist", 1),
    (("verify.math", "in.jsonl", "out.txt"), ".parquet", 2),
    (("verify.math", "in.txt", "out.jsonl"), "unknown format", 1),
    (("verify.math", "in.jsonl", "no/out.jsonl"), "no/out.jsonl", 1),
    (("verify.math", "in.jsonl", "folder.jsonl"), "folder.jsonl", 1),
    (("verify.math", "torn.jsonl", "out.jsonl"), "torn.jsonl", 1),
    (("verify.math", "empty.jsonl", "out.jsonl"), "empty.jsonl", 1),
    (("verify.math", "in.jsonl", "out.jsonl", "--set", "respnse=x"), "'response'", 2),
    (("verify.math", "in.jsonl", "out.jsonl", "--set", "response=respons"), "'response'", 1),
    (("filter.length", "in.jsonl", "out.jsonl", "--set", "min_words=many"), "min_words", 2),
    (("verify.mth", "in.jsonl", "out.jsonl"), "'verify.math'", 2),
    (("filter.reasoning", "in.jsonl", "out.jsonl"), "several ops", 2),
    (("source.files", "in.jsonl", "out.jsonl"), "source", 2),
    (("generate.sample", "in.jsonl", "out.jsonl"), "expand", 2)])
def test_errors_leave_the_target_alone(shell: Shell, words: tuple[str, ...], said: str, code: int) -> None:
    write(shell.folder, ROWS)
    (shell.folder / "in.txt").write_text("x")
    (shell.folder / "torn.jsonl").write_text('{"response": "a", "ans')
    (shell.folder / "empty.jsonl").write_text("")
    (shell.folder / "folder.jsonl").mkdir()
    (shell.folder / "out.jsonl").write_text("precious\n")
    before = shell.entries()
    assert said in shell.error("apply", *words, code=code)
    assert shell.entries() == before
    assert (shell.folder / "out.jsonl").read_text() == "precious\n"


def test_file_over_itself(shell: Shell) -> None:
    write(shell.folder, ROWS)
    shell("apply", "verify.math", "in.jsonl", "in.jsonl")
    assert pl.read_ndjson(shell.folder / "in.jsonl")["label"][0] == "correct"


def test_python_refuses_what_the_command_refuses(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    refused = [spec.name for spec in all_ops() if spec.kind not in (Kind.SCORE, Kind.MAP)]
    for name in [*refused, *(spec.name for spec in all_composites())]:
        with pytest.raises(UsageError):
            factory.apply(name, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert factory.apply("verify.math", tmp_path / "in.jsonl", tmp_path / "out.jsonl").height == 4


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_what_else_is_in_a_line_comes_out_as_it_went_in(shell: Shell) -> None:
    """Nested values, mixed types, long numbers and odd names; batches do not matter."""
    odd = [{"response": "A", "answer": "A", "n": 2**70, "deep": {"a": [1, "x", None, {"b": 0.1}]}, "": "no name"},
           {"answer": "B", "response": "(B)", "n": "text", "deep": [], "\ud800": "\u2028", "label": "mine"},
           {"answer": "C", "response": "\ud83d (C)"}] * 1000
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in odd))
    said = shell.json("apply", "verify.choice", "in.jsonl", "out.jsonl")
    assert said["counts"] == {"correct": 2000, "incorrect": 1000}
    made = lines(shell.folder / "out.jsonl")
    for row, found in zip(odd, made, strict=True):
        assert {name: value for name, value in found.items() if name not in VERDICT} == {
            name: value for name, value in row.items() if name not in VERDICT}
        assert list(found)[-5:] == VERDICT


def test_references_of_mixed_types_keep_their_spelling(shell: Shell) -> None:
    rows = [{"response": r"\boxed{2}", "answer": 2}, {"response": r"\boxed{0.5}", "answer": 0.5},
            {"response": r"\boxed{x}", "answer": "x"}]
    write(shell.folder, rows)
    assert shell.json("apply", "verify.math", "in.jsonl", "out.jsonl")["counts"] == {"correct": 3}


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet", "out.csv"])
def test_bad_lines_are_named_and_lose_nothing(shell: Shell, target: str) -> None:
    good = json.dumps({"response": "B", "answer": "B"})
    (shell.folder / "in.jsonl").write_text(f'{good}\n{{"response": "B", "ans\n\n{good}\n[1, 2]\nnull\n{good}')
    said = shell("apply", "verify.choice", "in.jsonl", target)
    assert "6 rows" in said.stdout
    assert "line 2 of in.jsonl" in said.stderr
    assert "correct 3, undecided 3" in said.stdout
    readers = {".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet, ".csv": pl.read_csv}
    made = readers[Path(target).suffix](shell.folder / target)
    assert made["label"].to_list() == ["correct", "undecided", "correct", "undecided", "undecided", "correct"]
    assert made["line"].to_list() == [None, '{"response": "B", "ans', None, "[1, 2]", "null", None]
    told = made["failed"].to_list()
    assert [None if each is None else each.split(" of ")[0] for each in told] == [
        None, "bad_line: line 2", None, "bad_line: line 5", "bad_line: line 6", None]


def test_a_row_without_a_verdict_says_why(shell: Shell) -> None:
    hang = "9**9**9**9"
    item = {"question": "", "answer": "1 + 1", "metadata": {"numbers": [1, 1], "target": 2}}
    pytest.importorskip("reasoning_gym", reason="needs the extra `gym`")
    write(shell.folder, [{"response": f"<answer>{answer}</answer>", "entry": json.dumps(item), "task": "countdown"}
                         for answer in ("1 + 1", hang)])
    shell("apply", "verify.gym", "in.jsonl", "out.jsonl", "--set", "deadline=2")
    made = lines(shell.folder / "out.jsonl")
    assert made[0]["label"] == "correct"
    assert "failed" not in made[0]
    assert made[1]["label"] != "correct"
    if "failed" in made[1]:
        assert (made[1]["label"], made[1]["reason_code"]) == ("undecided", made[1]["failed"].split(":")[0])


def test_lists_and_objects_keep_what_the_first_of_them_lacks(shell: Shell) -> None:
    options = [{"A": "x", "B": "y"}, {"A": "x", "B": "y", "C": "z"}]
    rows = [{"response": f"The answer is {found.get('C', 'y')}", "answer": "C" if "C" in found else "B",
             "options": found, "numbers": [1.5] if "C" in found else [1], "texts": ["a"]} for found in options]
    write(shell.folder, rows)
    counts = shell.json("apply", "verify.choice", "in.jsonl", "out.parquet", "--set", "options=options")["counts"]
    assert counts == {"correct": 2}
    made = pl.read_parquet(shell.folder / "out.parquet")
    assert [json.loads(text) for text in made["options"]] == options
    assert made["numbers"].to_list() == ["[1]", "[1.5]"]
    assert made["texts"].to_list() == [["a"], ["a"]]


def test_an_option_that_a_table_leaves_empty_is_none(shell: Shell) -> None:
    options = {"A": "x", "B": "y", "C": None}
    write(shell.folder, [{"response": letter, "answer": letter, "options": options} for letter in "BC"], "in.parquet")
    shell("apply", "verify.choice", "in.parquet", "out.jsonl", "--set", "options=options")
    assert [row["label"] for row in lines(shell.folder / "out.jsonl")] == ["correct", "undecided"]


def test_batches_of_different_types_make_one_column(shell: Shell) -> None:
    """What only a later batch shows (a further field, another type, a first value) does not cut it."""
    early = [{"response": "A", "answer": "A", "deep": {"a": 1}, "n": 2**60 + 1, "late": None}] * 2048
    write(shell.folder, [*early, {"response": "B", "answer": "B", "deep": {"b": 2}, "n": 0.5, "late": [1], "new": 3}])
    shell("apply", "verify.choice", "in.jsonl", "out.parquet")
    made = pl.read_parquet(shell.folder / "out.parquet")
    assert made.height == 2049
    assert (made["deep"][0], made["deep"][-1]) == ('{"a": 1}', '{"b": 2}')
    assert (made["n"][0], made["n"][-1]) == (str(2**60 + 1), "0.5")
    assert (made["late"][0], made["late"].to_list()[-1], made["new"].to_list()[-2:]) == (None, [1], [None, 3])


def test_csv_holds_what_is_nested_as_json(shell: Shell) -> None:
    write(shell.folder, [{"response": "y", "answer": "B", "options": ["x", "y"], "deep": {"a": None}}])
    said = shell.json("apply", "verify.choice", "in.jsonl", "out.csv", "--set", "options=options")
    assert said["counts"] == {"correct": 1}
    made = pl.read_csv(shell.folder / "out.csv")
    assert made.select("options", "deep").row(0) == ('["x", "y"]', '{"a": null}')
    assert shell.json("apply", "verify.choice", "out.csv", "again.csv", "--set", "options=options")["counts"] == {
        "correct": 1}


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_what_failed_before_is_not_said_of_the_new_verdict(shell: Shell, target: str) -> None:
    write(shell.folder, [{"response": "A", "answer": "A", "label": "undecided", "failed": "timeout: too slow"}])
    shell("apply", "verify.choice", "in.jsonl", target)
    made = (pl.read_ndjson if target.endswith("jsonl") else pl.read_parquet)(shell.folder / target)
    assert made["label"].to_list() == ["correct"]
    assert "failed" not in made.columns


def test_a_number_beyond_floats_is_not_rewritten(shell: Shell) -> None:
    huge = '{"response": "A", "answer": "A", "n": -1e400}'
    (shell.folder / "in.jsonl").write_text(f'{huge}\n{huge.replace("400", "300")}\n')
    said = shell("apply", "verify.choice", "in.jsonl", "out.jsonl")
    assert "line 1 of in.jsonl" in said.stderr
    made = lines(shell.folder / "out.jsonl")
    assert (made[0]["line"], made[0]["label"]) == (huge, "undecided")
    assert (made[1]["n"], made[1]["label"]) == (-1e300, "correct")
