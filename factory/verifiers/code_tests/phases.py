"""From test inputs to tests, with programs that are known to be right or wrong: what the op `tests.filter` does.

The two phases of the R1 paper (supplement B.3.2). Correct programs remove invalid tests: an input on which one of
them crashes, runs too long, or gives another answer than the others (or than the official output) is no test: either
it breaks the problem's rules or its answer is not the only one. What they agree on is the output that the test wants.
Then only a subset stays that still catches the wrong programs (`cover.py`): a test that catches nobody, or only
those whom others catch, costs time with every answer that is ever judged.

`agreement` says how many correct programs must agree: all (`unanimous`), or more than half (`majority`), where some of
the "correct" ones may be wrong. A program that cannot be compiled, or a correct one that fails on every input, tells
nothing about tests: it is set aside and reported. Every program runs in a sandbox, once for each input; outputs are
compared as `verify.code` compares them, and the result is what `verify.code` reads.

Problems with several right answers to an input have no tests of this kind: all their inputs are dropped.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from factory.engine.op import Params
from factory.verifiers.code.extract import take_code
from factory.verifiers.code.stdio import same_output
from factory.verifiers.code_tests.cover import choose_cover
from factory.verifiers.code_tests.inputs import Busy, last_words, run_once
from factory.verifiers.sandbox import Limits, Program, SandboxFailed, compile_cpp

_MB = 1 << 20
_CPP = re.compile(r"^\s*#\s*(?:include|pragma|define)\b", re.MULTILINE)
Language = Literal["auto", "python", "cpp"]


class FilterParams(Params):
    """`inputs`, `correct` and `incorrect` name columns of lists of texts, `outputs` that of the official outputs where
    there are some. Programs are plain sources or responses with a code block, in `language` (`auto`: by tag or text).
    A row needs `min_correct` correct programs that run; one alone agrees with itself. `at_least` and `at_most` bound
    the tests that stay. Limits are for one run (`time_limit` in seconds of the program's own)."""

    inputs: str = "inputs"
    correct: str = "correct"
    incorrect: str = "incorrect"
    outputs: str | None = None
    language: Language = "auto"
    agreement: Literal["unanimous", "majority"] = "unanimous"
    min_correct: int = Field(2, ge=1)
    at_least: int = Field(1, ge=1)
    at_most: int | None = Field(None, ge=1)
    time_limit: float = Field(5.0, gt=0, le=600)
    memory_mb: int = Field(512, ge=64, le=65536)
    output_mb: int = Field(8, ge=1, le=256)
    float_tolerance: float = Field(1e-6, ge=0, le=0.1)

    @model_validator(mode="after")
    def _check_bounds(self) -> FilterParams:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}: swap them")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.inputs, self.correct, self.incorrect, self.outputs) if name is not None)

    def limits(self) -> Limits:
        """As the sandbox takes them."""
        return Limits(seconds=self.time_limit, total=self.time_limit, memory=self.memory_mb * _MB,
                      output=self.output_mb * _MB)


@dataclass(frozen=True, slots=True)
class Drop:
    """A test or a program that does not count (`number` in its list), and why."""

    number: int
    reason_code: str
    reason: str
    which: str = ""


@dataclass(frozen=True, slots=True)
class Filtered:
    """Tests that stay (inputs, outputs, and the wrong programs that each catches), and what does not."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    catch: tuple[tuple[int, ...], ...]
    dropped: tuple[Drop, ...]
    caught: tuple[int, ...]
    uncaught: tuple[int, ...]
    programs_dropped: tuple[Drop, ...]
    correct: int
    """How many correct programs decided."""


_FAILED = {"time_limit": "ran too long", "memory_limit": "used too much memory", "output_limit": "wrote too much"}


@dataclass(frozen=True, slots=True)
class _Run:
    """What a program did with an input: its output, or why there is none."""

    output: str | None
    reason: str = ""


def filter_tests(inputs: Sequence[str | None], correct: Sequence[str | None], incorrect: Sequence[str | None],
                 params: FilterParams | None = None, outputs: Sequence[str | None] | None = None) -> Filtered:
    """Both phases for one problem; `outputs` are official ones, null where there is none.

    Reason codes of tests: `no_text` (null), `duplicate`, `correct_fails`, `correct_disagree`, `redundant` (it catches
    nobody whom the kept ones do not), `over_limit` (more than `at_most`). Of programs: `no_code`, `compile_error`,
    `always_fails`. Fewer than `min_correct` correct programs decide nothing: no test stays, and none is dropped.

    Raises:
        Busy: the machine could not give a program its time, or the sandbox broke.
        SandboxMissing: there is no sandbox here.
    """
    params = params or FilterParams.model_validate({})
    right, lost = _prepared(correct, "correct", params.language)
    wrong, lost_too = _prepared(incorrect, "incorrect", params.language)
    lost += lost_too
    fresh, dropped = _fresh(inputs)
    if len(right) < params.min_correct:
        return Filtered((), (), (), (), (), tuple(wrong), tuple(lost), len(right))
    runs = {number: {test: _run(program, text, params) for test, text in fresh.items()}
            for number, program in right.items()}
    silent = [number for number, said in runs.items() if said and all(run.output is None for run in said.values())]
    for number in silent:
        first = next(iter(runs.pop(number).values()))
        lost.append(Drop(number, "always_fails", f"it fails on every input; first: {first.reason}", "correct"))
    if len(runs) < params.min_correct:
        return Filtered((), (), (), (), (), tuple(wrong), tuple(lost), len(runs))
    valid: dict[int, str] = {}
    for test in fresh:
        official = outputs[test] if outputs is not None and test < len(outputs) else None
        found = _agreed({number: said[test] for number, said in runs.items()}, official, test, params)
        if isinstance(found, Drop):
            dropped.append(found)
        else:
            valid[test] = found
    return _smallest(fresh, valid, wrong, dropped, lost, len(runs), params)


def _prepared(sources: Sequence[str | None], which: str, language: Language) -> tuple[dict[int, Program], list[Drop]]:
    """Programs that can be run, by their number, and the others."""
    found: dict[int, Program] = {}
    lost: list[Drop] = []
    for number, source in enumerate(sources):
        program = _program(source or "", language)
        if isinstance(program, Program):
            found[number] = program
        else:
            lost.append(Drop(number, *program, which))
    return found, lost


def _program(source: str, language: Language) -> Program | tuple[str, str]:
    """A program from plain source or a response with a code block, compiled; or (reason code, reason)."""
    if "```" in source or "~~~" in source:
        code = take_code(source, language)
        text = code.text if code is not None else ""
        if code is not None:
            language = "cpp" if code.language == "cpp" else "python"
    else:
        text = source
    if not text.strip():
        return "no_code", "there is no complete program"
    if language == "cpp" or (language == "auto" and _CPP.search(text) and "main" in text):
        try:
            program, outcome = compile_cpp(text)
        except SandboxFailed as error:
            raise Busy(f"sandbox_failed: {error}") from error
        if program is None and outcome.status == "starved":
            raise Busy("timeout: the machine was too busy to compile the programs in time")
        return program or ("compile_error", last_words(outcome))
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "compile_error", f"{type(error).__name__}: {error}"[:240]
    return Program(text.encode("utf-8", "surrogatepass"))


def _fresh(inputs: Sequence[str | None]) -> tuple[dict[int, str], list[Drop]]:
    fresh: dict[int, str] = {}
    dropped: list[Drop] = []
    known: dict[str, int] = {}
    for number, text in enumerate(inputs):
        if text is None:
            dropped.append(Drop(number, "no_text", "the input is null"))
        elif text in known:
            dropped.append(Drop(number, "duplicate", f"the same as input {known[text]}"))
        else:
            known[text] = number
            fresh[number] = text
    return fresh, dropped


def _run(program: Program, text: str, params: FilterParams) -> _Run:
    outcome = run_once(program, text.encode("utf-8", "surrogatepass"), params.limits())
    if outcome.status != "done":
        return _Run(None, _FAILED.get(outcome.status) or last_words(outcome))
    return _Run(outcome.stdout.decode("utf-8", "replace"))


def _agreed(runs: dict[int, _Run], official: str | None, test: int, params: FilterParams) -> str | Drop:
    """The output of a valid test, or why it is none."""
    groups: list[tuple[str, list[int]]] = [] if official is None else [(official, [])]
    failed = []
    for number, run in runs.items():
        if run.output is None:
            failed.append(number)
            continue
        home = next((group for group in groups if same_output(run.output, group[0], params.float_tolerance)), None)
        if home is None:
            groups.append((run.output, [number]))
        else:
            home[1].append(number)
    best = groups[0] if official is not None else max(groups, key=lambda group: len(group[1]), default=("", []))
    needed = len(runs) if params.agreement == "unanimous" else len(runs) // 2 + 1
    if len(best[1]) >= needed:
        return best[0]
    if official is None and len(groups) < 2:
        return Drop(test, "correct_fails", f"{len(failed)} of {len(runs)} correct programs fail; number {failed[0]}: "
                    f"{runs[failed[0]].reason}")
    if official is not None:
        other = next(number for number in runs if number not in best[1])
        said = runs[other]
        return Drop(test, "correct_fails", f"{len(runs) - len(best[1])} of {len(runs)} correct programs do not give "
                    f"the official output; number {other}: {said.reason or repr((said.output or '').strip()[:80])}")
    return Drop(test, "correct_disagree", f"{len(runs)} correct programs give {len(groups)} different outputs"
                + (f", {len(failed)} fail" if failed else ""))


def _smallest(inputs: dict[int, str], valid: dict[int, str], wrong: dict[int, Program], dropped: list[Drop],
              lost: list[Drop], correct: int, params: FilterParams) -> Filtered:
    """The second phase."""
    order = sorted(valid)
    catches: list[set[int]] = []
    for test in order:
        runs = {number: _run(program, inputs[test], params).output for number, program in wrong.items()}
        catches.append({number for number, output in runs.items()
                        if output is None or not same_output(output, valid[test], params.float_tolerance)})
    costs = [len(inputs[test]) for test in order]
    kept = choose_cover(catches, costs, at_least=params.at_least, at_most=params.at_most)
    caught = set().union(*(catches[place] for place in kept)) if kept else set()
    for place in sorted(set(range(len(order))) - set(kept)):
        more = catches[place] - caught
        dropped.append(Drop(order[place], "over_limit" if more else "redundant",
                            f"it catches {sorted(more)}, and {params.at_most} tests are kept already" if more else
                            f"it catches {len(catches[place])} wrong programs, all of whom the kept tests catch"))
    return Filtered(
        tuple(inputs[order[place]] for place in kept), tuple(valid[order[place]] for place in kept),
        tuple(tuple(sorted(catches[place])) for place in kept), tuple(sorted(dropped, key=lambda drop: drop.number)),
        tuple(sorted(caught)), tuple(sorted(set(wrong) - caught)), tuple(lost), correct)
