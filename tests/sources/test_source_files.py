"""`source.files`: what each format gives, what each fault costs, and that the way a file is cut changes nothing."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.errors import DataError
from factory.engine.op import PlanContext, Record, SourcePlan
from factory.sources.files import FilesParams, FilesSource

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def run(base: Path, paths: list[str] | str, shard_rows: int = 2048, limit: int | None = None,
        **params: Any) -> tuple[SourcePlan, list[Record]]:
    """Plan and read everything; splits go through JSON, as they do between processes."""
    source = FilesSource(shard_rows=shard_rows)
    given_params = FilesParams(paths=tuple([paths] if isinstance(paths, str) else paths), **params)
    plan = source.plan(given_params, PlanContext(base, limit=limit))
    splits = json.loads(json.dumps(plan.splits))
    records = [record for split in splits for record in FilesSource().read(split, given_params)]
    json.dumps(plan.identity)
    good = [record.values for record in records if record.values is not None]
    frame = pl.DataFrame(good, schema=dict(plan.schema), strict=True)
    assert frame.height == len(good)
    return plan, records


def write(base: Path, name: str, content: str | bytes) -> str:
    (base / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def faults(records: list[Record]) -> list[str | None]:
    return [record.failed or record.rejected for record in records]


def test_jsonl_maps_columns_and_keeps_provenance(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl", '{"question": "1+1?", "answer": "2", "uid": 7}\n{"question": "é", "answer": "x"}\n')
    constants = {"verifier": "math", "weight": 2, "share": 0.5, "held": True, "none": None}
    plan, records = run(tmp_path, "d.jsonl", columns={"prompt": "question", "answer": "answer"}, license="mit",
                        id="uid", constants=constants)
    assert records[0] == Record({"prompt": "1+1?", "answer": "2", **constants}, "d.jsonl", 1, "7")
    assert records[1] == Record({"prompt": "é", "answer": "x", **constants}, "d.jsonl", 2, None)
    assert plan.license == "mit"
    assert dict(plan.schema) == {"prompt": pl.String(), "answer": pl.String(), "verifier": pl.String(),
                                 "weight": pl.Int64(), "share": pl.Float64(), "held": pl.Boolean(), "none": pl.String()}


def test_identity_is_content_not_names(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path, name, '{"x": 1}\n')
    write(tmp_path, "c.jsonl", '{"x": 2}\n')
    a, b = run(tmp_path, "a.jsonl")[0], run(tmp_path, "b.jsonl", shard_rows=1)[0]
    assert a.identity == b.identity
    assert run(tmp_path, ["a.jsonl", "c.jsonl"])[0].identity != run(tmp_path, ["c.jsonl", "a.jsonl"])[0].identity
    assert run(tmp_path, "a.jsonl", limit=1)[0].identity != a.identity
    assert "a.jsonl" not in json.dumps(a.identity)


def test_globs_are_sorted_and_origins_are_names_as_given(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "c"):
        write(tmp_path, f"in/{name}.jsonl", json.dumps({"x": name}) + "\n")
    _, records = run(tmp_path, "in/*.jsonl")
    assert [(record.origin, record.values) for record in records] == [
        (f"in/{name}.jsonl", {"x": name}) for name in "abc"]


@pytest.mark.parametrize(("paths", "needles"), [
    (["gone.jsonl"], ["gone.jsonl", "does not exist", "looked in", "recipe's folder"]),
    (["*.nothing"], ["*.nothing", "no file matches", "looked in"]),
    (["folder"], ["folder", "folder/*.jsonl"]),
    (["a.jsonl", "*.jsonl"], ["a.jsonl", "twice"]),
    (["a.xyz"], ["a.xyz", "suffix", ".jsonl"]),
    (["empty.jsonl"], ["empty.jsonl", "no records"]),
    (["empty.csv"], ["empty.csv", "no records"]),
    (["empty.json"], ["empty.json", "no records"]),
    (["all_broken.jsonl"], ["all_broken.jsonl:1", "broken_json"]),
    (["truncated.parquet"], ["truncated.parquet", "truncated"]),
    (["cut.jsonl.gz"], ["cut.jsonl.gz", "fetch it again"]),
    (["broken.json"], ["broken.json", "row 2"]),
    (["tail.json"], ["tail.json", "after the array"]),
    (["latin.json"], ["latin.json", "byte 9", "UTF-8"]),
    (["twice.csv"], ["twice.csv:1", "'a'"]),
])
def test_files_that_stop_the_plan(tmp_path: Path, paths: list[str], needles: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.jsonl", "a.xyz"):
        write(tmp_path, name, '{"x": 1}\n')
    for name in ("empty.jsonl", "empty.csv"):
        write(tmp_path, name, "")
    write(tmp_path, "empty.json", " [ ]\n")
    write(tmp_path, "all_broken.jsonl", "{\n}\n")
    pl.DataFrame({"x": range(1000)}).write_parquet(tmp_path / "whole.parquet")
    write(tmp_path, "truncated.parquet", (tmp_path / "whole.parquet").read_bytes()[:-40])
    write(tmp_path, "cut.jsonl.gz", gzip.compress(b'{"x": "' + os.urandom(500).hex().encode() + b'"}\n')[:-200])
    write(tmp_path, "broken.json", '[{"x": 1},\n {"x": }]')
    write(tmp_path, "tail.json", '[{"x": 1}] [2]')
    write(tmp_path, "latin.json", b'[{"x": "\xe9"}]')
    write(tmp_path, "twice.csv", "a,a\n1,2\n")
    with pytest.raises(DataError) as caught:
        run(tmp_path, paths)
    for needle in needles:
        assert needle in str(caught.value)


def test_an_empty_file_among_others_is_fine(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "")
    write(tmp_path, "b.jsonl", '\n{"x": 1}\n\n')
    _, records = run(tmp_path, ["a.jsonl", "b.jsonl"])
    assert [(record.origin, record.line, record.values) for record in records] == [("b.jsonl", 2, {"x": 1})]


def test_a_broken_record_costs_itself_alone(tmp_path: Path) -> None:
    lines = [b'{"x": "ok"}', b'{"x": "cut', b"[1, 2]", b'"text"', b'{"x": "caf\xe9"}', b'{"x": "half \\ud800"}',
             b'{"x": "pair \\ud83d\\ude00"}', b"[" * 100_000, b'{"x": ' + b"9" * 5000 + b"}", b'{"y": "other"}',
             b'{"x": null}', b'{"x": "last"}']
    write(tmp_path, "data.jsonl", b"\n".join(lines))
    _, records = run(tmp_path, "data.jsonl", shard_rows=3, columns={"x": "x"})
    assert [record.line for record in records] == list(range(1, 13))
    assert [record.values["x"] for record in records if record.values] == ["ok", "pair 😀", "last"]
    assert all(record.values or record.failed or record.rejected for record in records)


def test_the_fault_names_file_line_and_place(tmp_path: Path) -> None:
    lines = [b'{"x": "ok"}', b'{"x": "cut', b"[1, 2]", b'{"x": "caf\xe9"}', b'{"x": "half \\ud800"}', b'{"y": 1}',
             b'{"x": null}']
    write(tmp_path, "data.jsonl", b"\n".join(lines))
    _, records = run(tmp_path, "data.jsonl", columns={"ours": "x"})
    expected = ["broken_json: data.jsonl:2: ", "not_an_object: data.jsonl:3: ", "invalid_utf8: data.jsonl:4: byte 11",
                "invalid_utf8: data.jsonl:5: a lone surrogate \\ud800", "missing_column: data.jsonl:6: no column 'x'",
                "null_value: data.jsonl:7: column 'x' is null"]
    got = faults(records)[1:]
    assert all(fault is not None and fault.startswith(start) for fault, start in zip(got, expected, strict=True)), got
    assert records[6].rejected is not None
    assert records[6].failed is None


def test_nullable_columns_take_null_and_absence(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl", '{"a": 1, "b": 2}\n{"a": 1, "b": null}\n{"a": 1}\n')
    expected = [{"a": 1, "b": 2}, {"a": 1, "b": None}, {"a": 1, "b": None}]
    _, records = run(tmp_path, "d.jsonl", columns={"a": "a", "b": "b"}, nullable=("b",))
    assert [record.values for record in records] == expected
    assert [record.values for record in run(tmp_path, "d.jsonl")[1]] == expected, "unmapped columns stay as they are"


def test_a_column_no_record_has_stops_the_plan_with_a_near_name(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl", '{"question": "q", "answer": "a"}\n')
    with pytest.raises(DataError, match=r"no column 'qestion' \(did you mean 'question'\?\).*question, answer"):
        run(tmp_path, "d.jsonl", columns={"prompt": "qestion"})
    with pytest.raises(DataError, match="no column 'uid'"):
        run(tmp_path, "d.jsonl", columns={"prompt": "question"}, id="uid")
    with pytest.raises(DataError, match=r"`nullable` names 'promt'.*prompt"):
        run(tmp_path, "d.jsonl", columns={"prompt": "question"}, nullable=("promt",))


@pytest.mark.parametrize("name", ["row_id", "row_key", "_parent", ""])
def test_names_of_the_engine_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "d.jsonl", json.dumps({name: 1, "b": 2}) + "\n")
    for params in ({}, {"columns": {name: "b"}}, {"columns": {"a": "b"}, "constants": {name: 1}}):
        with pytest.raises(DataError, match=f"may not be called {name!r}"):
            run(tmp_path, "d.jsonl", **params)
    assert run(tmp_path, "d.jsonl", columns={"a": name})[1][0].values == {"a": 1}
    with pytest.raises(DataError, match="both in the data and in `constants`"):
        run(tmp_path, "d.jsonl", columns={"a": "b"}, constants={"a": 1})


def test_bom_crlf_and_unicode_line_ends_are_text(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\u000bfour"
    body = json.dumps({"x": text}, ensure_ascii=False) + "\r\n" + '{"x": "b"}\r\n'
    write(tmp_path, "d.jsonl", b"\xef\xbb\xbf" + body.encode())
    for shard_rows in (1, 2):
        _, records = run(tmp_path, "d.jsonl", shard_rows=shard_rows)
        assert [(record.line, record.values) for record in records] == [(1, {"x": text}), (2, {"x": "b"})]
    write(tmp_path, "d.csv", b"\xef\xbb\xbfx,y\r\n1,\"a\r\nb\"\r\n3,4\r\n")
    _, records = run(tmp_path, "d.csv", shard_rows=1)
    assert [(record.line, record.values) for record in records] == [(2, {"x": "1", "y": "a\r\nb"}),
                                                                    (4, {"x": "3", "y": "4"})]


def test_long_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "é" * 2_500_000
    write(tmp_path, "d.jsonl", json.dumps({"x": long}, ensure_ascii=False) + '\n{"x": "b"}\n')
    write(tmp_path, "d.csv", f'x\n"{long}"\nb\n')
    for name in ("d.jsonl", "d.csv"):
        assert [record.values for record in run(tmp_path, name)[1]] == [{"x": long}, {"x": "b"}]
    monkeypatch.setattr("factory.sources.formats.MAX_RECORD", 1000)
    assert str(faults(run(tmp_path, "d.jsonl")[1])[0]).startswith("too_long: d.jsonl:1:")
    assert [(record.line, record.values) for record in run(tmp_path, "d.csv")[1]] == [(2, None), (3, {"x": "b"})]


def test_csv_quotes_short_rows_and_empty_cells(tmp_path: Path) -> None:
    write(tmp_path, "d.csv", b'q,a\n"two\nlines, ""quoted""",1\nshort\n1,2,3\n\n"x"y,1\ncaf\xe9,1\n,5\nlast,007\n')
    _, records = run(tmp_path, "d.csv", columns={"q": "q", "a": "a"}, nullable=("q",))
    assert records[0].values == {"q": 'two\nlines, "quoted"', "a": "1"}
    assert [record.line for record in records] == [2, 4, 5, 7, 8, 9, 10]
    assert [(fault or "").split(":")[0] for fault in faults(records)] == [
        "", "short_row", "long_row", "broken_csv", "invalid_utf8", "", ""]
    assert [record.values for record in records[5:]] == [{"q": None, "a": "5"}, {"q": "last", "a": "007"}]


@pytest.mark.parametrize(("values", "dtype", "expected"), [
    ([1, 2], pl.Int64(), [1, 2]),
    ([1, 2.5], pl.Float64(), [1.0, 2.5]),
    ([True, False], pl.Boolean(), [True, False]),
    ([1, "x"], pl.String(), ["1", "x"]),
    ([True, 1], pl.String(), ["true", "1"]),
    ([2**63 - 1, -2**63], pl.Int64(), [2**63 - 1, -2**63]),
    ([2**70, 1], pl.String(), [str(2**70), "1"]),
    ([2**53 + 1, 0.5], pl.String(), [str(2**53 + 1), "0.5"]),
    ([[1], [2.5], []], pl.List(pl.Float64()), [[1.0], [2.5], []]),
    ([{"a": 1}, {"b": ["x"]}], pl.Struct({"a": pl.Int64(), "b": pl.List(pl.String())}),
     [{"a": 1, "b": None}, {"a": None, "b": ["x"]}]),
    ([{"a": 1}, {"a": "x"}], pl.String(), ['{"a": 1}', '{"a": "x"}']),
    ([{}, {}], pl.String(), ["{}", "{}"]),
    ([[[]], [None]], pl.List(pl.List(pl.String())), [[[]], [None]]),
    ([[1, "é"], "t"], pl.String(), ['[1, "é"]', "t"]),
])
def test_types_hold_over_all_records(tmp_path: Path, values: list[Any], dtype: pl.DataType,
                                     expected: list[Any]) -> None:
    write(tmp_path, "d.jsonl", "".join(json.dumps({"x": value}) + "\n" for value in values))
    plan, records = run(tmp_path, "d.jsonl", shard_rows=1)
    assert plan.schema["x"] == dtype
    assert [record.values and record.values["x"] for record in records] == expected


def test_formats_of_the_same_rows_agree(tmp_path: Path) -> None:
    rows = [{"q": f"question {i} ☃", "n": i, "f": i / 4, "l": [i, None], "s": {"a": str(i)}} for i in range(50)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write(tmp_path, "d.jsonl", lines)
    write(tmp_path, "d.jsonl.gz", gzip.compress(lines.encode()))
    write(tmp_path, "d.json", json.dumps(rows, indent=1, ensure_ascii=False))
    write(tmp_path, "lines.json", lines)
    pl.DataFrame(rows).with_columns(pl.col("n").cast(pl.Int16)).write_parquet(tmp_path / "d.parquet", row_group_size=13)
    for name in ("d.jsonl", "d.jsonl.gz", "d.json", "lines.json", "d.parquet"):
        plan, records = run(tmp_path, name, shard_rows=7)
        assert len(plan.splits) == 8
        assert [record.values for record in records] == rows
        assert plan.schema["n"] == pl.Int64()
        limited = run(tmp_path, name, shard_rows=7, limit=9)[1]
        assert [record.values for record in limited] == rows[:9]


def test_parquet_takes_types_that_have_a_text_form_and_refuses_bytes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": ["2024-02-29"], "price": ["1.50"], "big": [2**64 - 1], "raw": [b"x"]},
                         schema_overrides={"big": pl.UInt64}).with_columns(
        pl.col("day").str.to_date(), pl.col("price").cast(pl.Decimal(10, 2)))
    frame.write_parquet(tmp_path / "d.parquet")
    _, records = run(tmp_path, "d.parquet", columns={"day": "day", "price": "price", "big": "big"})
    assert records[0].values == {"day": "2024-02-29", "price": "1.50", "big": str(2**64 - 1)}
    with pytest.raises(DataError, match="column 'raw' has the type Binary"):
        run(tmp_path, "d.parquet")


def test_parquet_files_of_one_source_may_differ(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, 2**53 + 1], "y": ["a", None]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"x": [0.5]}).write_parquet(tmp_path / "b.parquet")
    _, records = run(tmp_path, ["a.parquet", "b.parquet"])
    assert records[0].values == {"x": 1.0, "y": "a"}
    assert records[1].failed == f"inexact_number: a.parquet: row 2: column 'x': {2**53 + 1} has no exact double"
    assert records[2].values == {"x": 0.5, "y": None}


def test_splits_of_a_gzip_file_are_read_in_any_order(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl.gz", gzip.compress(b"".join(b'{"x": %d}\n' % i for i in range(20))))
    params = FilesParams(paths=("d.jsonl.gz",))
    splits = FilesSource(shard_rows=3).plan(params, PlanContext(tmp_path)).splits
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 0, 0, 1, 4, 3, 2], [2, 3, 2, 3, 4]):
        got = [[record.values for record in FilesSource().read(splits[k], params)] for k in order]
        assert got == [[{"x": i} for i in range(3 * k, min(3 * k + 3, 20))] for k in order]


def test_a_file_that_changed_or_left_after_the_plan_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl", '{"x": 1}\n')
    params = FilesParams(paths=("d.jsonl",))
    split = FilesSource().plan(params, PlanContext(tmp_path)).splits[0]
    os.utime(tmp_path / "d.jsonl", ns=(1, 1))
    assert [record.values for record in FilesSource().read(split, params)] == [{"x": 1}]
    write(tmp_path, "d.jsonl", '{"x": 2}\n')
    with pytest.raises(DataError, match=r"d\.jsonl has changed since the plan"):
        list(FilesSource().read(split, params))
    (tmp_path / "d.jsonl").unlink()
    with pytest.raises(DataError, match=r"d\.jsonl is gone"):
        list(FilesSource().read(split, params))


VALUE = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats(allow_nan=False) | st.text(),
                     lambda inner: (st.lists(inner, max_size=3)
                                    | st.dictionaries(st.text(max_size=3), inner, max_size=3)), max_leaves=6)
ROW = st.fixed_dictionaries({"x": VALUE}, optional={"y": st.text()})
LINE = st.one_of(ROW.map(lambda row: json.dumps(row).encode()),
                 st.fixed_dictionaries({"x": st.text()}).map(lambda row: json.dumps(row, ensure_ascii=False).encode()),
                 st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")))


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=12), end=st.sampled_from([b"\n", b"\r\n"]), cut=st.integers(1, 5),
       limit=st.none() | st.integers(1, 12), packed=st.booleans())
def test_jsonl_reads_the_same_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes],
                                                end: bytes, cut: int, limit: int | None, packed: bool) -> None:
    base = tmp_path_factory.mktemp("cut")
    body = end.join([b'{"x": "first", "y": ""}', *lines])
    write(base, "d.jsonl", gzip.compress(body) if packed else body)
    whole_plan, whole = run(base, "d.jsonl", nullable=("x",), columns={"x": "x"}, limit=limit)
    many_plan, many = run(base, "d.jsonl", nullable=("x",), columns={"x": "x"}, limit=limit, shard_rows=cut)
    assert many == whole
    assert many_plan.identity == whole_plan.identity
    assert many_plan.schema == whole_plan.schema
    assert limit is None or len(whole) <= limit


CELL = st.text(alphabet=st.sampled_from(list('ab",\n\r é')), max_size=5)


@settings(max_examples=60, deadline=None)
@given(body=st.lists(st.lists(CELL, min_size=1, max_size=3).map(",".join), max_size=8).map("\n".join),
       cut=st.integers(1, 3))
def test_csv_reads_the_same_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, body: str, cut: int) -> None:
    base = tmp_path_factory.mktemp("cut")
    write(base, "d.csv", "x,y\n1,2\n" + body)
    assert run(base, "d.csv", nullable=("x", "y"), shard_rows=cut)[1] == run(base, "d.csv", nullable=("x", "y"))[1]


@pytest.mark.skipif(not (DATA / "gsm8k" / "test.jsonl").exists(), reason="no shared data folder beside this one")
def test_real_files_are_read_whole() -> None:
    _, records = run(DATA, "gsm8k/test.jsonl", columns={"prompt": "question", "answer": "answer"})
    assert len(records) == 1319
    assert all(record.values for record in records)
    _, records = run(DATA, "math/math_train12k_marti.json", columns={"prompt": "prompt", "answer": "answer"}, id="id")
    assert len(records) == len(json.loads((DATA / "math/math_train12k_marti.json").read_text()))
    assert all(record.values and record.native_id for record in records)
