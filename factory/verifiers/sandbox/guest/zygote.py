"""The warm interpreter of a room: it forks sandboxes on command, watches what they use, and tells how they ended.

It reads commands and descriptors from one socket and never what flows through those descriptors, so a fork holds
nothing of any other program. Commands: `["spawn", number, kind, limits]` with descriptors (in, out, errors, standard
input), `["watch", number]` when it is put to work, `["kill", number]`. News: `["usage", number, cpu, waited, memory]`
while a sandbox runs, `["exit", number, status, cpu, memory, said]` once it is gone.

A sandbox's processes are all descendants of its first one, also those whose parents died, so one reading of /proc
gives what it uses; without /proc (`isolated` false on other systems) only the kernel's own limits hold.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

from factory.verifiers.sandbox.guest import isolate

LOOK_EVERY = 0.05
_PRELOAD = ("abc", "array", "ast", "bisect", "builtins", "calendar", "cmath", "collections", "collections.abc", "copy",
            "csv", "ctypes", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
            "io", "inspect", "itertools", "json", "linecache", "math", "numbers", "operator", "queue", "random", "re",
            "statistics", "string", "struct", "textwrap", "threading", "time", "traceback", "types", "typing",
            "unittest", "unittest.mock", "_sitebuiltins")
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()


class Zygote:
    """`config`: `isolated`, `seccomp` (hex, or None)."""

    def __init__(self, control: socket.socket, config: dict[str, Any]):
        self.control, self.isolated = control, bool(config["isolated"])
        self.filter = bytes.fromhex(config["seccomp"]) if config["seccomp"] else None
        self.home = -1
        self.running: dict[int, int] = {}
        self.watched: set[int] = set()
        self.peak: dict[int, int] = {}
        self.poller = select.poll()
        self.handles: dict[int, int] = {}

    def run(self) -> None:
        """Until the socket closes."""
        if self.isolated:
            self.home = isolate.own_room()
        for name in _PRELOAD:
            __import__(name)
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.poller.register(self.control, select.POLLIN)
        self.tell(["up", sys.version.split()[0]])
        due = 0.0
        while True:
            events = self.poller.poll(LOOK_EVERY * 1000 if self.watched else None)
            for descriptor, _ in events:
                if descriptor == self.control.fileno():
                    if not self.command():
                        return
                else:
                    self.reap(self.handles[descriptor])
            if self.watched and time.monotonic() >= due:
                self.look()
                due = time.monotonic() + LOOK_EVERY

    def tell(self, news: list[Any]) -> None:
        self.control.send(json.dumps(news).encode())

    def command(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 8)
        if not message:
            self.kill_all()
            return False
        what, number, *rest = json.loads(message)
        if what == "spawn":
            self.spawn(number, rest[0], rest[1], descriptors)
        elif number in self.running and what == "watch":
            self.watched.add(number)
        elif number in self.running:
            self.kill(self.running[number])
        return True

    def spawn(self, number: int, kind: str, limits: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = isolate.fork_apart(self.home) if self.isolated else os.fork()
        except OSError as error:
            self.tell(["exit", number, -1, 0.0, 0, f"fork: {error}"])
            pid = -1
        if pid == 0:
            self.become(kind, limits, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid > 0:
            handle = os.pidfd_open(pid)
            self.running[number], self.handles[handle] = pid, number
            self.poller.register(handle, select.POLLIN)

    def become(self, kind: str, limits: dict[str, Any], descriptors: list[int]) -> None:
        """The child's life; never returns."""
        code = 70
        try:
            with contextlib.suppress(OSError):
                os.setsid()
            take(descriptors, self.control.detach())
            if self.isolated:
                isolate.wall_in(limits, self.filter is not None, len(descriptors) > 3)
            else:
                isolate.die_with_parent()
            isolate.limit(limits, 64 << 20 if kind != "binary" else int(limits["memory"]))
            if self.filter is not None and self.isolated:
                isolate.filter_calls(self.filter)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            gc.enable()
            from factory.verifiers.sandbox.guest import roles

            roles.play(kind, limits)
            code = 0
        except BaseException as error:
            with contextlib.suppress(BaseException):
                os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode()[:500])
        finally:
            os._exit(code)

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not self.isolated:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        for pid in self.running.values():
            self.kill(pid)

    def reap(self, number: int) -> None:
        pid = self.running.pop(number)
        self.watched.discard(number)
        if not self.isolated:
            self.kill(pid)
        handle = next(found for found, owner in self.handles.items() if owner == number)
        self.poller.unregister(handle)
        del self.handles[handle]
        os.close(handle)
        _, status, usage = os.wait4(pid, 0)
        memory = max(self.peak.pop(number, 0), usage.ru_maxrss * 1024)
        self.tell(["exit", number, status, usage.ru_utime + usage.ru_stime, memory, ""])

    def look(self) -> None:
        """Tell what every sandbox uses by now."""
        family = {self.running[number]: number for number in self.watched}
        found = {number: [0.0, 0.0, 0] for number in self.watched}
        for pid, parent, ticks, pages in sorted(processes()):
            number = family.get(pid, family.get(parent, -1))
            if number < 0:
                continue
            family[pid] = number
            sums = found[number]
            sums[0] += ticks / _TICK
            sums[1] = max(sums[1], waited(pid))
            sums[2] += pages * _PAGE
        for number, (cpu, wait, memory) in found.items():
            self.peak[number] = max(self.peak.get(number, 0), int(memory))
            self.tell(["usage", number, cpu, wait, int(memory)])


def processes() -> list[tuple[int, int, int, int]]:
    """(pid, parent, CPU ticks with those of reaped children, resident pages) of all that can be seen."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                found.append((int(name), int(fields[1]), sum(map(int, fields[11:15])), int(fields[21])))
    return found


def waited(pid: int) -> float:
    """Seconds that the process's threads stood in line for a processor: the largest of them."""
    longest = 0
    with contextlib.suppress(OSError, ValueError):
        for thread in os.listdir(f"/proc/{pid}/task")[:8]:
            with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
                longest = max(longest, int(file.read().split()[1]))
    return longest / 1e9


def take(descriptors: list[int], control: int) -> None:
    """Give the child its descriptors and nothing else: 0 input, 1 output, 2 errors, 3 messages in, 4 messages out."""
    reads, writes, errors, given = [*descriptors, -1][:4]
    high = [os.dup2(os.dup(number), number + 200) if number >= 0 else -1 for number in (reads, writes, errors, given)]
    null = os.open("/dev/null", os.O_RDWR)
    for wanted, have in zip((3, 4, 2, 0), high, strict=True):
        os.dup2(have if have >= 0 else null, wanted)
    os.dup2(null, 1)
    os.closerange(5, 1 << 16)
