"""`verify.code`: does the program in a response pass its tests?

Kinds of tests (`shapes.py`): functions with asserts (HumanEval, MBPP), calls with JSON values (LeetCode), programs with
inputs and outputs (codeforces, LiveCodeBench, APPS), unit-test files. Python, and C++ (17, else 20) for programs where
the machine has g++. Only the standard library is there.

Everything that was written by somebody runs in sandboxes (`factory/verifiers/sandbox`): the program in one, the tests
in another; only plain values cross between them, and what is compared is compared on the side of the tests. So a
program that ends early, prints what is wanted, patches the interpreter or redefines equality gains nothing: a test
passes when the value that came back is equal, as data, to the value that is wanted.

A limit that the program meets by itself is a verdict (`time_limit`, `memory_limit`, `output_limit`); a machine too
busy to tell is a failure of the row (`timeout`), and so is a broken sandbox (`sandbox_failed`).
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, PlanContext, op
from factory.verifiers.code.check import check_code
from factory.verifiers.code.results import CodeVerdict
from factory.verifiers.code.trials import trials
from factory.verifiers.sandbox import Limits, get_room, is_isolated
from factory.verifiers.verdict import VERDICT_OUT, frame

__all__ = ["CODE_OUT", "CodeParams", "CodeVerdict", "check_code", "unprotected", "verify_code"]

CODE_OUT: dict[str, pl.DataType] = {
    **VERDICT_OUT, "tests_passed": pl.Int32(), "tests_total": pl.Int32(), "tests_bits": pl.List(pl.Boolean())}
"""What `verify.code` adds: the program (cut), how many tests passed, of how many, and which."""

_MB = 1 << 20


class CodeParams(Params):
    """`response` and `tests` name columns. Limits are for one test (`time_limit`, in seconds of the program's own) and
    for all tests of one response (`total_limit`); `memory_mb`, `disk_mb`, `output_mb` and `processes` are what a
    sandbox may use. `float_tolerance` is for numbers in the output of programs."""

    response: str = "response"
    tests: str = "tests"
    language: Literal["python", "cpp", "auto"] = "python"
    time_limit: float = Field(5.0, gt=0, le=600)
    total_limit: float = Field(30.0, gt=0, le=3600)
    memory_mb: int = Field(512, ge=64, le=65536)
    disk_mb: int = Field(32, ge=1, le=4096)
    output_mb: int = Field(8, ge=1, le=256)
    processes: int = Field(32, ge=2, le=1024)
    float_tolerance: float = Field(1e-6, ge=0, le=0.1)

    def limits(self) -> Limits:
        """As the sandbox takes them."""
        return Limits(seconds=self.time_limit, total=max(self.total_limit, self.time_limit),
                      memory=self.memory_mb * _MB, processes=self.processes, disk=self.disk_mb * _MB,
                      output=self.output_mb * _MB)


def unprotected(_params: Params, _plan: PlanContext) -> dict[str, str] | None:
    """Identity of what ran without a sandbox: a program may have changed it, so a sandboxed run must not reuse it."""
    return None if is_isolated() else {"sandbox": "none"}


_CODE = tuple(f"factory.verifiers.code.{name}" for name in (
    "check", "extract", "functions", "quick", "results", "shapes", "stdio")) + tuple(
    f"factory.verifiers.sandbox.{name}" for name in (
        "bwrap", "model", "programs", "rooms", "seccomp", "guest.collecting", "guest.functions", "guest.isolate",
        "guest.peers", "guest.roles", "guest.tests", "guest.values", "guest.zygote"))


@op("verify.code", version=1, kind=Kind.SCORE, params=CodeParams,
    columns=lambda params: (params.response, params.tests), out=CODE_OUT, identity=unprotected, code=_CODE,
    trials=trials)
def verify_code(batch: pl.DataFrame, params: CodeParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the program in the response passes its tests, in a sandbox.

    `reason_code` is `passed`; `wrong_answer`, `runtime_error`, `time_limit`, `memory_limit`, `output_limit`,
    `compile_error` (of the first test that fails); `no_code`; undecided: `tests_invalid`, `no_compiler`. Rows fail with
    `timeout` where the machine was too busy and `sandbox_failed` where the sandbox broke twice. `score` is the share
    of tests passed.
    """
    get_room()  # before the first row: a machine without a sandbox is an error of the step, not of its rows
    if not is_isolated():
        ctx.count("unsandboxed", batch.height)
    limits = params.limits()
    rows = zip(batch[params.response].cast(pl.String), _tests(batch[params.tests]), strict=True)
    verdicts = [check_code(response, tests, language=params.language, limits=limits,
                           float_tolerance=params.float_tolerance) for response, tests in rows]
    ctx.count("timeouts", sum(verdict.reason_code == "timeout" for verdict in verdicts))
    known = [() if verdict.transient else verdict.tests for verdict in verdicts]
    return frame(verdicts).with_columns(
        pl.Series("tests_passed", [sum(tests) if tests else None for tests in known], dtype=pl.Int32),
        pl.Series("tests_total", [len(tests) or None for tests in known], dtype=pl.Int32),
        pl.Series("tests_bits", [list(tests) or None for tests in known], dtype=pl.List(pl.Boolean)))


def _tests(column: pl.Series) -> list[Any]:
    """Tests as text, or as the data that a list or struct column holds, without the fields that a row leaves empty."""
    if not column.dtype.is_nested():
        return column.cast(pl.String).to_list()
    return [{name: value for name, value in tests.items() if value is not None} if isinstance(tests, dict) else tests
            for tests in column.to_list()]
