"""What a sandbox allows and what it reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from factory.engine.errors import FactoryError

MB = 1 << 20

Status = Literal["done", "runtime_error", "time_limit", "memory_limit", "output_limit", "starved"]


class SandboxMissing(FactoryError):
    """There is no working bubblewrap here; the message says what to install."""


class SandboxFailed(FactoryError):
    """The sandbox itself broke twice in a row (not the code in it): the run may be tried again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use. Seconds are the program's own (see the package); sizes are bytes.

    `seconds` is for one test, `total` for all tests that share a process, `memory` is address space of a process and
    resident memory of all together, `disk` the size of its `/tmp` and of any file, `output` what is read from it.

    Memory that the kernel holds for a process (what was written to pipes and pairs of sockets and not yet read) is not
    counted. `files` bounds it: at most 0.2 MB a descriptor, so 10 MB a process as it stands. Pairs of sockets cannot be
    refused as other sockets are: asyncio needs one."""

    seconds: float = 5.0
    total: float = 30.0
    memory: int = 512 * MB
    processes: int = 32
    disk: int = 32 * MB
    files: int = 64
    output: int = 8 * MB

    def wire(self) -> dict[str, float]:
        """As the room reads them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended. `exit` is its exit code, or minus the signal that killed it; None where it was stopped.
    `seconds` is CPU time; `stdout` and `stderr` are what it wrote, cut at the limit."""

    status: Status
    exit: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    memory: int = 0
