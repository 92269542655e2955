"""Running code that nobody has read: the sandbox and its interface.

**The model.** A *room* is one long-lived bubblewrap container per thread that asks: no network, no host files but a
read-only interpreter and compiler, an empty environment, an unprivileged user. In it waits a warm interpreter. Each
*sandbox* is one fork of it with a pid, mount, IPC and user namespace of its own, a fresh small tmpfs as `/tmp`, no
`/proc`, no capabilities, a system call filter and resource limits. When its first process ends, the kernel kills all
others in it; nothing that it wrote is left. So a start costs a fork and not an interpreter, and yet two programs share
nothing that either can write to.

The waiting interpreter never sees a payload: source, calls and inputs go through pipes that only the sandbox they are
meant for holds. What comes back is bytes with a cap, read as plain values and never unpickled (`guest/values.py`).

**The clock.** A time limit is in seconds of the program's own: CPU time of all its processes, or time in which it
neither ran nor waited for a processor (it slept). Time spent waiting for a processor is the machine's: a program that
hits the wall limit only because of that gets the status `starved`, which is no statement about the program.

**Use.** `get_room()` gives this thread's room (started on first use, replaced if it died):

    run_program(Program(b"print(input())"), b"4\\n")  -> Outcome
    compile_cpp(source)                               -> (Program, Outcome)
    get_room().spawn("functions", limits)             -> Child: send(frame), frames(), kill()

Linux 5.14 or newer with bubblewrap (`bwrap`); without it everything here raises `SandboxMissing`, unless the
environment variable FACTORY_UNSAFE_NO_SANDBOX is 1: then code runs as the current user with nothing but resource
limits, and `is_isolated()` is False. Seccomp needs x86_64 or aarch64; elsewhere each sandbox gets a network namespace
of its own instead (`notes()` says so).
"""

from factory.verifiers.sandbox.bwrap import is_isolated
from factory.verifiers.sandbox.model import Limits, Outcome, SandboxFailed, SandboxMissing
from factory.verifiers.sandbox.programs import Program, compile_cpp, run_program
from factory.verifiers.sandbox.rooms import Child, Room, close_room, get_room, notes

__all__ = ["Child", "Limits", "Outcome", "Program", "Room", "SandboxFailed", "SandboxMissing", "close_room",
           "compile_cpp", "get_room", "is_isolated", "notes", "run_program"]
