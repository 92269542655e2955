"""Whole programs: run with an input until they end, or compile first."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from factory.verifiers.sandbox.bwrap import compiler
from factory.verifiers.sandbox.model import MB, Limits, Outcome, SandboxFailed, Status
from factory.verifiers.sandbox.rooms import Child, get_room

COMPILE = Limits(seconds=30.0, total=60.0, memory=2048 * MB, processes=24, disk=128 * MB, files=256,
                 output=64 * MB)


@dataclass(frozen=True, slots=True)
class Program:
    """Something that can be run: Python source, or the bytes of a compiled program (`kind` = `binary`)."""

    body: bytes
    kind: str = "python"


def compile_cpp(source: str) -> tuple[Program | None, Outcome]:
    """Compile C++17 or C++20 in a sandbox. None instead of a program where the compiler refuses (its words are in
    `stderr`) or there is no compiler (`exit` 127)."""
    if compiler() is None:
        return None, Outcome("runtime_error", 127, b"", b"there is no g++", 0.0)
    outcome = _run("cpp", source.encode("utf-8", "surrogatepass"), None, COMPILE)
    if outcome.status != "done" or not outcome.stdout:
        return None, outcome
    return Program(outcome.stdout, "binary"), dataclasses.replace(outcome, stdout=b"")


def run_program(program: Program, stdin: bytes, limits: Limits | None = None) -> Outcome:
    """Run a program once, in a sandbox of its own, until it ends or meets a limit.

    Raises:
        SandboxFailed: the room died twice.
        SandboxMissing: there is no sandbox here.
    """
    return _run(program.kind, program.body, stdin, limits or Limits())


def _run(kind: str, body: bytes, stdin: bytes | None, limits: Limits) -> Outcome:
    limits = dataclasses.replace(limits, total=min(limits.total, limits.seconds))
    for _ in range(2):
        room = get_room()
        child = room.spawn(kind, limits, stdin)
        child.send(body, close=True)
        while not child.gone:
            room.turn(0.05)
            why = child.overdue(child.born, 0.0, 0.0, limits.seconds)
            if why is not None:
                child.stop(why)
        if child.status != -1:
            return _outcome(child)
    raise SandboxFailed(f"the sandbox died twice ({child.said or 'no reason given'}): see whether memory is short")


def _outcome(child: Child) -> Outcome:
    exit_code = os.waitstatus_to_exitcode(child.status or 0)
    return Outcome(ended(child, exit_code), None if child.stopped else exit_code, bytes(child.output),
                   bytes(child.errors), child.cpu, child.memory)


def ended(child: Child, exit_code: int) -> Status:
    """What the end of a sandbox means."""
    if child.stopped is not None:
        return child.stopped
    if exit_code == 0:
        return "done"
    if child.cpu >= child.limits.total and exit_code < 0:
        return "time_limit"
    last = bytes(child.errors[-400:])
    if b"MemoryError" in last or b"bad_alloc" in last:
        return "memory_limit"
    return "runtime_error"
