"""`tests.filter`: the op around the two phases of `code_tests/phases.py`."""

from __future__ import annotations

import collections
import json
from typing import Any

import polars as pl

from factory.engine.op import Kind, OpContext, op
from factory.verifiers.code import unprotected
from factory.verifiers.code_tests.inputs import Busy, texts_of
from factory.verifiers.code_tests.phases import Filtered, FilterParams, filter_tests
from factory.verifiers.sandbox import get_room, is_isolated

_PLACE = {"reason_code": pl.String(), "reason": pl.String()}
_OUT: dict[str, pl.DataType] = {
    "tests": pl.String(), "tests_total": pl.Int32(), "tests_catch": pl.List(pl.List(pl.Int32())),
    "tests_dropped": pl.List(pl.Struct({"test": pl.Int32(), **_PLACE})), "caught": pl.List(pl.Int32()),
    "uncaught": pl.List(pl.Int32()),
    "programs_dropped": pl.List(pl.Struct({"which": pl.String(), "program": pl.Int32(), **_PLACE})),
}


@op("tests.filter", version=1, kind=Kind.MAP, params=FilterParams, columns=lambda params: params.columns, out=_OUT,
    identity=unprotected,
    code=("factory.verifiers.code_tests.phases", "factory.verifiers.code_tests.cover",
          "factory.verifiers.code_tests.inputs", "factory.verifiers.code.stdio", "factory.verifiers.code.extract",
          "factory.verifiers.sandbox.programs"))
def tests_filter(batch: pl.DataFrame, params: FilterParams, ctx: OpContext) -> pl.DataFrame:
    """Keep the tests on which correct programs agree and that catch wrong ones (R1 paper, supplement B.3.2).

    Adds `tests` (JSON of inputs and outputs, as `verify.code` reads it), `tests_total`, `tests_catch` (for each test
    the numbers, from 0, of the incorrect programs that it catches), `tests_dropped` (test, reason_code, reason),
    `caught` and `uncaught` (numbers of incorrect programs) and `programs_dropped` (which, program, reason_code, reason:
    those that tell nothing); `filter_tests` lists the codes. Rows are rejected as `too_few_correct` or
    `no_valid_test`, and fail with `timeout` or `sandbox_failed` where the machine is to blame.

    Raises:
        DataError: a column holds neither text nor lists of texts.
        SandboxMissing: there is no bubblewrap here.
    """
    get_room()
    if not is_isolated():
        ctx.count("unsandboxed", batch.height)
    columns = {name: texts_of(batch, name) for name in params.columns}
    rows = []
    for at in range(batch.height):
        given = {name: values[at] for name, values in columns.items()}
        try:
            found = filter_tests(given[params.inputs], given[params.correct], given[params.incorrect], params,
                                 given[params.outputs] if params.outputs is not None else None)
        except Busy as busy:
            rows.append((*[None] * len(_OUT), None, str(busy)))
            continue
        ctx.count("tests_kept", len(found.inputs))
        ctx.count("tests_dropped", len(found.dropped))
        rows.append((*_row(found), _rejected(found, params), None))
    return pl.DataFrame(rows, schema={**_OUT, "_rejected": pl.String(), "_failed": pl.String()}, orient="row")


def _row(found: Filtered) -> tuple[Any, ...]:
    tests = {"type": "stdio", "inputs": found.inputs, "outputs": found.outputs}
    return (json.dumps(tests, ensure_ascii=False), len(found.inputs), [list(caught) for caught in found.catch],
            [{"test": drop.number, "reason_code": drop.reason_code, "reason": drop.reason} for drop in found.dropped],
            list(found.caught), list(found.uncaught),
            [{"which": drop.which, "program": drop.number, "reason_code": drop.reason_code, "reason": drop.reason}
             for drop in found.programs_dropped])


def _rejected(found: Filtered, params: FilterParams) -> str | None:
    if found.correct < params.min_correct:
        return f"too_few_correct: {found.correct} correct programs run, {params.min_correct} are needed"
    if not found.inputs:
        codes = collections.Counter(drop.reason_code for drop in found.dropped)
        said = ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "there is no input"
        return f"no_valid_test: {said}"
    return None
