"""Tests that call functions: the program in one sandbox, the tests in another or, where they are plain data, here.

One process of the program serves all its tests, as in the data sets' own harnesses, so start-up is paid once. A test in
which it is stopped or dies costs that test; the next gets a new process, until `total` seconds are spent or three
processes are gone; tests that were not reached count as failed for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from factory.verifiers.code.quick import Quick, judge
from factory.verifiers.code.results import Result, Starved, Undecided, stopped
from factory.verifiers.sandbox import Limits, SandboxFailed, get_room
from factory.verifiers.sandbox.guest.values import pack
from factory.verifiers.sandbox.rooms import WALL_EXTRA, WALL_FACTOR

PROCESSES = 3
MOST_TESTS = 100_000
CODES = ("", "wrong_answer", "runtime_error", "time_limit", "memory_limit", "output_limit")


class _Unsure(Exception):
    """A comparison that plain data cannot decide."""


class Served:
    """A program's process, and what it and the clock have said."""

    def __init__(self, source: str, limits: Limits, names: bool):
        self.room, self.limits = get_room(), limits
        self.child = self.room.spawn("functions", limits)
        self.child.send(pack({"source": source, "names": names}))
        self.ready: list[Any] | None = None
        self.mark()

    def mark(self) -> None:
        """A test begins."""
        self.since, self.cpu, self.waited = self.room.clock(), self.child.cpu, self.child.waited

    def late(self) -> None:
        """Stop the program where its time is up."""
        if self.room.settling():  # what was used in a pause of ours may belong to many tests: this one begins anew
            self.mark()
        why = self.child.overdue(self.since, self.cpu, self.waited, self.limits.seconds)
        if why is not None:
            self.child.stop(why)

    def fault(self) -> Result:
        """Why it is gone."""
        if self.child.status == -1 and self.child.said:
            raise SandboxFailed(f"the sandbox died ({self.child.said})")
        if self.child.stopped == "starved":
            raise Starved
        if self.child.stopped is not None:
            return stopped(self.child.stopped)
        if self.child.cpu > self.limits.total:
            return stopped("time_limit")
        return stopped("runtime_error", "the program ended before it answered")

    def loaded(self, data: list[Any]) -> Result | None:
        """Take the first message; the result of every test where the program could not be loaded."""
        self.ready = data
        if data[0] == "ready":
            names = data[1]
            good = isinstance(names, list) and all(
                isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in names)
            return None if good else Result("runtime_error", "what the program defines cannot be read")
        return Result("compile_error", str(data[1])) if data[0] == "compile_error" else failure(data[1])


def read(frame: bytes) -> list[Any]:
    """A message of the program; one that is none reads as an error of its own."""
    try:
        data = json.loads(frame)
        if isinstance(data, list) and len(data) >= 2:
            return data
    except (ValueError, RecursionError, MemoryError):
        pass
    return ["err", {"builtin": "Exception", "name": "Unreadable", "text": "the result cannot be read"}]


def failure(about: Any) -> Result:
    """An exception of the program as a result."""
    about = about if isinstance(about, dict) else {}
    if about.get("builtin") == "MemoryError":
        return stopped("memory_limit")
    return Result("runtime_error", f"{str(about.get('name'))[:60]}: {str(about.get('text'))[:240]}")


def run_quick(source: str, tests: Sequence[Quick], limits: Limits) -> list[Result] | None:
    """Results of quick tests; None where one of them needs Python to compare.

    Raises:
        Starved, SandboxFailed, SandboxMissing
    """
    results: list[Result] = []
    spent = 0.0
    for _ in range(PROCESSES):
        served = Served(source, limits, names=False)
        try:
            fatal = _quick_round(served, tests, results)
        except _Unsure:
            return None
        finally:
            served.child.kill()
        spent += served.child.cpu
        if fatal is not None:
            return [fatal] * len(tests)
        if len(results) == len(tests):
            return results
        if spent > limits.total:
            break
    return results + [results[-1]] * (len(tests) - len(results))


def _quick_round(served: Served, tests: Sequence[Quick], results: list[Result]) -> Result | None:
    """Go on until all is done or the process is gone; a result that holds for all tests where it cannot be loaded."""
    left = tests[len(results):]
    served.child.send(pack(["calls", [[test.name, test.args, test.kwargs] for test in left]]))
    while len(results) < len(tests):
        served.room.turn(0.05)
        for frame in served.child.frames():
            data = read(frame)
            if served.ready is None:
                if (fatal := served.loaded(data)) is not None:
                    return fatal
            elif len(results) < len(tests):
                results.append(_compared(tests[len(results)], data))
            served.mark()
        if served.child.gone:
            if len(results) < len(tests):
                if served.ready is None:
                    return served.fault()
                results.append(served.fault())
            return None
        served.late()
    return None


def _compared(test: Quick, data: list[Any]) -> Result:
    if data[0] != "ok":
        return failure(data[1])
    try:
        verdict = judge(test, data[1])
        shown = json.dumps(data[1])[:80]
    except (RecursionError, TypeError, ValueError, AttributeError):
        return Result("wrong_answer", "the result cannot be read")
    if verdict is None:
        raise _Unsure
    return Result() if verdict else Result("wrong_answer", f"{test.name} returned {shown}")


# ---- with the tests in a sandbox of their own --------------------------------------------------------------------


def run_plan(source: str, plan: dict[str, Any], limits: Limits) -> list[Result]:
    """Results of tests that are programs themselves (`guest/tests.py` says what a plan is).

    Raises:
        Starved, SandboxFailed, SandboxMissing
        Undecided: the tests cannot be run.
    """
    return _Trial(source, plan, limits).run()


class _Trial:
    def __init__(self, source: str, plan: dict[str, Any], limits: Limits):
        self.source, self.limits = source, limits
        self.served = Served(source, limits, names=True)
        self.tests = get_room().spawn("tests", limits)
        self._mark()
        self._to_tests(b"p", json.dumps(plan).encode())
        self.results: list[Result] = []
        self.count = 0
        self.used = 1
        self.spent = 0.0
        self.lost: Result | None = None
        self.finished = False

    def _to_tests(self, letter: bytes, body: bytes) -> None:
        self.tests.send((len(body) + 1).to_bytes(4, "little") + letter + body)

    def run(self) -> list[Result]:
        try:
            fatal = self._rounds()
        finally:
            self.served.child.kill()
            self.tests.kill()
        if fatal is not None:
            return [fatal] * max(self.count, 1)
        missing = self.count - len(self.results)
        return self.results + [self.lost or stopped("runtime_error")] * missing

    def _rounds(self) -> Result | None:
        while not self.finished:
            self.served.room.turn(0.05)
            for frame in self.served.child.frames():
                if self.served.ready is None and (fatal := self.served.loaded(read(frame))) is not None:
                    return fatal
                self._to_tests(b"r", frame)
            if self.served.child.gone and self.lost is None:
                self.lost = self.served.fault()
                if self.served.ready is None:
                    return self.lost
                self.spent += self.served.child.cpu
                self._to_tests(b"d", json.dumps([self.lost.code, self.lost.reason]).encode())
            for frame in self.tests.frames():
                if (done := self._take(frame[:1], frame[1:])) is not None:
                    return done
            if self.tests.gone and not self.finished:
                self._tests_gone()
            self._late()
        return None

    def _take(self, letter: bytes, body: bytes) -> Result | None:
        if letter == b"c":
            if self.lost is not None and not self._replace():
                self.finished = True
                return None
            self.asked = True
            self.served.child.send(len(body).to_bytes(4, "little") + body)
            return None
        try:
            return self._told(*json.loads(body))
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
            raise Undecided("tests_invalid", f"the tests' own process said nonsense ({type(error).__name__})") from None

    def _told(self, what: Any, *rest: Any) -> Result | None:
        """News of the tests. They may have been written by anybody, so nothing of it is taken for granted."""
        if what == "invalid":
            raise Undecided("tests_invalid", f"the tests cannot be run: {rest[0]}")
        if what == "setup":
            return Result("runtime_error", str(rest[0]))
        if what == "count":
            self.count = int(rest[0])
            if not 0 < self.count <= MOST_TESTS:
                raise Undecided("tests_invalid", f"the files hold {self.count} tests; 1 to {MOST_TESTS} can be run")
        elif what == "start":
            self._mark()
        elif what == "result":
            if rest[1] == "skipped":
                self.count -= 1
                return None
            if rest[1] not in CODES:
                raise ValueError
            self.count = max(self.count, len(self.results) + 1)
            self.results.append(Result(str(rest[1]), str(rest[2])))
        elif what == "done":
            self.finished = True
            if self.count <= 0:
                raise Undecided("tests_invalid", "every test skips itself")
        return None

    def _replace(self) -> bool:
        """A new process in place of the lost one."""
        if self.used >= PROCESSES or self.spent > self.limits.total:
            return False
        self.used += 1
        self.lost, self.served = None, Served(self.source, self.limits, names=True)
        return True

    def _mark(self) -> None:
        self._restart()
        self.asked = False

    def _restart(self) -> None:
        self.served.mark()
        self.began = (self.tests.cpu, self.tests.waited)

    def _tests_gone(self) -> None:
        """The tests' own process ended: the program's doing where it had been asked something in this test."""
        if self.tests.stopped == "starved":
            raise Starved
        if self.tests.status == -1 and self.tests.said:
            raise SandboxFailed(f"the sandbox died ({self.tests.said})")
        if not self.asked:
            raise Undecided("tests_invalid", f"the tests' own process ended ({self.tests.stopped or 'by itself'})")
        self.lost = stopped(self.tests.stopped or "memory_limit", "the tests choke on what the program returned")
        self.finished = True

    def _late(self) -> None:
        """One clock for both: a test's time is what either uses, and what neither uses and neither waits for."""
        program, tests, seconds = self.served.child, self.tests, self.limits.seconds
        if self.served.room.settling():
            self._restart()
        wall = self.served.room.clock() - self.served.since
        used, own = program.cpu - self.served.cpu, tests.cpu - self.began[0]
        idle = wall - used - own - max(program.waited - self.served.waited, tests.waited - self.began[1])
        if used > seconds or (idle > seconds + 1 and self.asked and self.lost is None):
            program.stop("time_limit")
        elif own > seconds or idle > seconds + 1:
            tests.stop("time_limit")
        elif wall > WALL_FACTOR * seconds + WALL_EXTRA:
            tests.stop("starved")
