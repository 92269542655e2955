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
    assert {"label", "reason_code", "reason", "extracted"} <= set(made.columns)
    assert not {"row_id", "row_key"} & set(made.columns)


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
    for op, step, params in (("verify.math", "correct", []), ("verify.format", "form", ["--set", "form=r1_zero"]),
                             ("filter.repetition", "clean.repetition", [])):
        shell("apply", op, "in.parquet", "out.parquet", *params)
        stored = pl.DataFrame(house.json("sql", f'SELECT * FROM "pico/{step}" ORDER BY row_id'))
        made = pl.read_parquet(shell.folder / "out.parquet")
        names = [name for name in stored.columns if name != "row_id"]
        assert made.height == stored.height == 120
        for name in (name for name in names if name in made.columns):
            assert made[name].to_list() == stored[name].to_list(), (op, name)
        assert {"passed", "reason_code"} <= set(made.columns)


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
