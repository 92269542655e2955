"""What tests said, test by test, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.verifiers.verdict import Verdict

_STATUS_TEXT = {
    "time_limit": "it ran longer than it may", "memory_limit": "it used more memory than it may",
    "output_limit": "it wrote more than is read", "runtime_error": "it ended early",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One test's result: `code` is empty for passed, else `wrong_answer`, `runtime_error`, `time_limit`,
    `memory_limit`, `output_limit`."""

    code: str = ""
    reason: str = ""

    @property
    def passed(self) -> bool:
        return not self.code


@dataclass(frozen=True, slots=True)
class CodeVerdict(Verdict):
    """A verdict with what each test said: `tests` in order (empty where none could run)."""

    tests: tuple[bool, ...] = ()


class Starved(Exception):
    """The machine was too busy to say anything about the program."""


class Undecided(Exception):
    """The tests cannot be run: `code` and a sentence."""

    def __init__(self, code: str, reason: str):
        super().__init__(reason)
        self.code, self.reason = code, storable(reason)


def stopped(code: str, detail: str = "") -> Result:
    """The result of a test in which the program was stopped or fell over."""
    return Result(code, detail or _STATUS_TEXT.get(code, code))


def conclude(results: Sequence[Result], extracted: str) -> CodeVerdict:
    """Correct where every test passed; else incorrect for the first reason, with the share of tests passed."""
    passed = tuple(result.passed for result in results)
    score = sum(passed) / len(passed)
    if all(passed):
        return CodeVerdict("correct", "passed", f"all {len(passed)} tests passed", extracted, 1.0, tests=passed)
    number = passed.index(False)
    first = results[number]
    return CodeVerdict("incorrect", first.code, f"{sum(passed)} of {len(passed)} tests passed; test {number + 1}: "
                       f"{storable(first.reason)}", extracted, score, tests=passed)


def storable(text: str) -> str:
    """At most 300 characters of what a program may have written. Lone surrogates are replaced: no table holds them."""
    return text[:300].encode("utf-8", "replace").decode()
