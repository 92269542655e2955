"""Tests that are an input and the output wanted: the program runs once for each, in a sandbox of its own.

Outputs are compared word by word, so white space never matters; a number that is wanted with a point or an exponent
is met by any number near it. A checker is a Python program for problems with many right answers: it is called as
`checker.py INPUT WANTED GOT` (three files) in a sandbox of its own; it accepts by printing "true", "yes", "ok",
"correct" or "accepted" as its last word, or a number that is 1 or more (less is part of a score), or by printing
nothing and ending with 0. Where it falls over, it is asked about the output wanted: if it does not accept that either,
or meets a limit, the tests are at fault and decide nothing.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from factory.verifiers.code.results import Result, Starved, Undecided, stopped
from factory.verifiers.code.shapes import Suite
from factory.verifiers.sandbox import Limits, Outcome, Program, compile_cpp, run_program

CHECKER_SECONDS = 10.0
_POINTED = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_ACCEPTED = frozenset({"true", "yes", "ok", "correct", "accepted", "accept", "ac"})

_CHECKER = """
import json, sys
given = json.load(sys.stdin)
sys.argv = ["checker.py"]
for name in ("input", "wanted", "got"):
    with open(f"/tmp/{name}.txt", "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(given[name])
    sys.argv.append(f"/tmp/{name}.txt")
exec(compile(given["checker"], "checker.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
"""


def run_stdio(source: str, language: str, suite: Suite, limits: Limits, tolerance: float) -> list[Result]:
    """Results of all tests of a suite; those that `limits.total` leaves no time for fail with `time_limit`.

    Raises:
        Starved, SandboxFailed, SandboxMissing
        Undecided: there is no compiler, or the checker does not work.
    """
    program: Program | None = Program(source.encode("utf-8", "surrogatepass"))
    if language == "cpp":
        program, outcome = compile_cpp(source)
        if program is None:
            return [_not_compiled(outcome)] * len(suite.inputs)
    assert program is not None
    results: list[Result] = []
    spent = 0.0
    for given, wanted in zip(suite.inputs, suite.outputs, strict=True):
        if spent > limits.total:
            results.append(stopped("time_limit", "the time for all tests was spent"))
            continue
        outcome = run_program(program, given.encode("utf-8", "surrogatepass"), limits)
        spent += max(outcome.seconds, limits.seconds if outcome.status == "time_limit" else 0.0)
        results.append(_result(outcome, given, wanted, suite.checker, limits, tolerance))
    return results


def _not_compiled(outcome: Outcome) -> Result:
    if outcome.exit == 127:
        raise Undecided("no_compiler", "there is no g++ here: install it (Debian, Ubuntu: apt install g++)")
    if outcome.status == "starved":
        raise Starved
    words = outcome.stderr.decode("utf-8", "replace")
    lines = [line for line in words.splitlines() if "error" in line]
    return Result("compile_error", (lines or [outcome.status])[0][:300])


def _result(outcome: Outcome, given: str, wanted: str, checker: str | None, limits: Limits, tolerance: float) -> Result:
    if outcome.status == "starved":
        raise Starved
    if outcome.status == "runtime_error":
        last = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
        return Result("compile_error" if last and last[-1].startswith(("SyntaxError", "IndentationError", "TabError"))
                      else "runtime_error", last[-1][:240] if last else f"it ended with status {outcome.exit}")
    if outcome.status != "done":
        return stopped(outcome.status)
    got = outcome.stdout.decode("utf-8", "replace")
    if checker is not None:
        return Result() if _checked(checker, given, wanted, got, limits) else Result(
            "wrong_answer", f"the checker refuses {got.strip()[:80]!r}")
    return Result() if same_output(got, wanted, tolerance) else Result(
        "wrong_answer", f"it wrote {got.strip()[:80]!r}, wanted {wanted.strip()[:80]!r}")


def same_output(got: str, wanted: str, tolerance: float) -> bool:
    """Whether two outputs have the same words, numbers with a point within `tolerance` (absolute or relative)."""
    if got == wanted:
        return True
    ours, theirs = got.split(), wanted.split()
    return len(ours) == len(theirs) and all(
        one == other or _near(one, other, tolerance) for one, other in zip(ours, theirs, strict=True))


def _near(got: str, wanted: str, tolerance: float) -> bool:
    if len(got) > 400 or not (_POINTED.fullmatch(wanted) and _NUMBER.fullmatch(got)):
        return False
    return math.isclose(float(got), float(wanted), rel_tol=tolerance, abs_tol=tolerance)


def _checked(checker: str, given: str, wanted: str, got: str, limits: Limits) -> bool:
    accepted, error = _asked(checker, given, wanted, got, limits)
    if error and not _asked(checker, given, wanted, wanted, limits)[0]:
        raise Undecided("tests_invalid", f"the checker fails, also on the output that is wanted: {error}")
    return accepted


def _asked(checker: str, given: str, wanted: str, got: str, limits: Limits) -> tuple[bool, str]:
    """Whether the checker accepts an output, and how it fell over where it did."""
    about = json.dumps({"checker": checker, "input": given, "wanted": wanted, "got": got}).encode()
    enough = replace(limits, seconds=max(limits.seconds, CHECKER_SECONDS))
    outcome = run_program(Program(_CHECKER.encode()), about, enough)
    if outcome.status == "starved":
        raise Starved
    if outcome.status not in ("done", "runtime_error"):
        raise Undecided("tests_invalid", f"the checker meets a limit: {outcome.status}")
    if outcome.status != "done":
        lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
        return False, lines[-1][:200] if lines else f"it ended with status {outcome.exit}"
    words = outcome.stdout.decode("utf-8", "replace").split()
    last = words[-1].lower() if words else "ok"
    return last in _ACCEPTED or bool(_NUMBER.fullmatch(last) and float(last) >= 1), ""
