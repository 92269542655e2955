"""Rooms: the host's side of a long-lived bubblewrap container and of the sandboxes in it.

One room serves one thread of one process. `turn` moves bytes between the host and its sandboxes and takes the room's
news; whoever waits for something calls it until that has come.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.verifiers.sandbox import bwrap
from factory.verifiers.sandbox.bwrap import is_isolated
from factory.verifiers.sandbox.model import Limits, SandboxFailed, SandboxMissing, Status
from factory.verifiers.sandbox.seccomp import build_filter

START_SECONDS = 60.0
WALL_FACTOR, WALL_EXTRA = 6.0, 20.0
RETIRE = 20_000
SPARES = 4
PAUSE, SETTLE = 0.5, 0.5
"""Seconds between two turns that count as a pause of this process; seconds after one in which old news is read."""

_GUEST = ("values", "peers", "functions", "collecting", "tests", "roles", "isolate", "zygote")
_PACKAGE = "factory.verifiers.sandbox.guest"
_BOOT = """
import json, os, socket, sys, types
sys.path[:] = [p for p in sys.path if p]
control = socket.socket(fileno=os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDWR), 0)
parts = []
while (part := control.recv(1 << 17)) != b"end": parts.append(part)
config = json.loads(b"".join(parts))
name = ""
for part in config["package"].split("."):
    name = f"{name}.{part}".lstrip("."); module = types.ModuleType(name); module.__path__ = []
    sys.modules[name] = module
for part, source in config["sources"]:
    module = types.ModuleType(name + "." + part); sys.modules[module.__name__] = module
    setattr(sys.modules[name], part, module)
    exec(compile(source, part + ".py", "exec"), module.__dict__)
sys.modules[name + ".zygote"].Zygote(control, config).run()
"""


class Child:
    """The host's end of one sandbox.

    `output` and `errors` gather what it wrote; `cpu`, `waited` and `memory` are the newest figures (seconds, seconds,
    bytes; they come about twenty times a second), `status` is its wait status once it is gone, `stopped` why the host
    ended it."""

    def __init__(self, room: Room, number: int, limits: Limits, pipes: tuple[int, int, int]):
        self.room, self.number, self.limits = room, number, limits
        self.sink, self.source, self.trouble = pipes
        self.output, self.errors = bytearray(), bytearray()
        self.pending = bytearray()
        self.received = 0
        self.cpu = self.waited = 0.0
        self.memory = 0
        self.status: int | None = None
        self.stopped: Status | None = None
        self.said = ""
        self.closing = False
        self.born = room.clock()

    def send(self, data: bytes, close: bool = False) -> None:
        """Queue bytes for descriptor 3; `close` ends that stream after them."""
        self.pending += data
        self.closing = self.closing or close
        self.room._flush(self)

    def frames(self) -> Iterator[bytes]:
        """Complete frames that have arrived, each once."""
        while len(self.output) >= 4:
            size = int.from_bytes(self.output[:4], "little")
            if len(self.output) < 4 + size:
                return
            frame = bytes(self.output[4:4 + size])
            del self.output[:4 + size]
            yield frame

    @property
    def gone(self) -> bool:
        """Whether it ended and all that it wrote has been read."""
        return self.status is not None and self.source < 0

    def stop(self, why: Status) -> None:
        """Kill everything in the sandbox; the first reason stays."""
        if self.stopped is None and self.status is None:
            self.stopped = why
        self.kill()

    def kill(self) -> None:
        """Kill everything in the sandbox. It is gone a little later."""
        if self.status is None:
            self.room._tell(["kill", self.number])
        self.room._close(self)

    def overdue(self, since: float, cpu: float, waited: float, seconds: float) -> Status | None:
        """Whether more than `seconds` of its own have passed since the moment with these figures (see the package);
        `since` is a reading of the room's clock."""
        wall = self.room.clock() - since
        if self.cpu - cpu > seconds:
            return "time_limit"
        if wall - (self.cpu - cpu) - (self.waited - waited) > seconds + 1:
            return "time_limit"
        return "starved" if wall > WALL_FACTOR * seconds + WALL_EXTRA else None


class Room:
    """A running container. Raises `SandboxMissing` where there cannot be one."""

    def __init__(self) -> None:
        self.isolated = is_isolated()
        self.filter = build_filter()
        self.children: dict[int, Child] = {}
        self.spares: dict[tuple[str, Limits], Child] = {}
        self.made = 0
        self.python = ""
        self.dead = False
        self.paused, self.looked, self.resumed = 0.0, time.monotonic(), -SETTLE
        self.poller = select.poll()
        self.ends: dict[int, Child] = {}
        self.owner = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = ours
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        line = bwrap.command(_BOOT, 1 << 20) if self.isolated else bwrap.plain_command(_BOOT)
        with theirs:
            self.process = bwrap.start(line, theirs.fileno(), self.log.fileno())
        try:
            self._boot()
        except OSError:
            self._failed_start()
        self.poller.register(ours, select.POLLIN)

    def _boot(self) -> None:
        sources = [[name, Path(__file__).with_name("guest").joinpath(f"{name}.py").read_text("utf-8")]
                   for name in _GUEST]
        config = json.dumps({"package": _PACKAGE, "sources": sources, "isolated": self.isolated,
                             "seccomp": self.filter.hex() if self.filter else None}).encode()
        for start in range(0, len(config), 1 << 16):
            self.control.send(config[start:start + (1 << 16)])
        self.control.send(b"end")
        self.control.settimeout(START_SECONDS)
        hello = self.control.recv(1 << 16)
        if not hello:
            raise ConnectionError
        self.python = json.loads(hello)[1]
        self.control.setblocking(False)

    def _failed_start(self) -> None:
        status = bwrap.close_quietly(self.process)
        self.log.seek(0)
        errors = self.log.read(4000).decode("utf-8", "replace")
        self.close()
        if self.isolated:
            raise SandboxMissing(bwrap.explain(errors)) from None
        raise SandboxFailed(f"the interpreter for code did not start (exit status {status}): {errors[-300:]}") from None

    # ---- sandboxes ----

    def spawn(self, kind: str, limits: Limits, stdin: bytes | None = None) -> Child:
        """A new sandbox of a kind (`guest/roles.py`); its work is sent with `Child.send`.

        Of kinds that need no input of their own, the next is made while this one works."""
        if stdin is not None:
            child = self._make(kind, limits, stdin)
        else:
            spare = self.spares.pop((kind, limits), None)
            child = spare if spare is not None and spare.status is None else self._make(kind, limits)
            if kind in ("functions", "tests"):
                self.spares[kind, limits] = self._make(kind, limits)
                while len(self.spares) > SPARES:
                    self.spares.pop(next(iter(self.spares))).kill()
        self._tell(["watch", child.number])
        self.looked = time.monotonic()
        child.born = self.clock()
        return child

    def _make(self, kind: str, limits: Limits, stdin: bytes | None = None) -> Child:
        theirs_in, sink = os.pipe2(os.O_CLOEXEC)
        source, theirs_out = os.pipe2(os.O_CLOEXEC)
        trouble, theirs_err = os.pipe2(os.O_CLOEXEC)
        given = [theirs_in, theirs_out, theirs_err, *([_sealed(stdin)] if stdin is not None else [])]
        self.made += 1
        child = Child(self, self.made, limits, (sink, source, trouble))
        try:
            message = json.dumps(["spawn", child.number, kind, limits.wire()]).encode()
            socket.send_fds(self.control, [message], given)
        except OSError:
            self.dead = True
        finally:
            for descriptor in given:
                os.close(descriptor)
        for descriptor in (sink, source, trouble):
            os.set_blocking(descriptor, False)
        for descriptor in (source, trouble):
            self.ends[descriptor] = child
            self.poller.register(descriptor, select.POLLIN)
        self.children[child.number] = child
        if self.dead:
            self._died()
        return child

    def clock(self) -> float:
        """Seconds, without those in which this process itself was stopped or got no processor."""
        return time.monotonic() - self.paused

    def settling(self) -> bool:
        """Whether a pause has just ended, so that the figures of the sandboxes may still be those from before it."""
        return self.clock() - self.resumed < SETTLE

    def _look(self, seconds: float) -> None:
        now = time.monotonic()
        gap = now - self.looked - max(0.0, seconds)
        self.looked = now
        if gap > PAUSE:
            self.paused += gap
            self.resumed = self.clock()

    def turn(self, seconds: float = 0.1) -> None:
        """Wait at most that long for something to happen, and take it."""
        try:
            self._take(seconds)
        finally:
            self._look(seconds)

    def _take(self, seconds: float) -> None:
        for descriptor, events in self.poller.poll(max(0.0, seconds) * 1000):
            if descriptor == self.control.fileno():
                self._news()
            elif descriptor in self.ends:
                child = self.ends[descriptor]
                if descriptor == child.sink:
                    self._flush(child)
                elif events:
                    self._read(child, descriptor)

    def _read(self, child: Child, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._drop(child, descriptor)
        elif descriptor == child.trouble:
            # Only the last words are of use; the rest is read and dropped, so that the writer never stalls.
            child.errors += data
            del child.errors[:-16384]
        else:
            child.output += data
            child.received += len(data)
            if child.received > child.limits.output:
                child.stop("output_limit")

    def _news(self) -> None:
        try:
            data = self.control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return
        what, number, *rest = json.loads(data)
        child = self.children.get(number)
        if child is None:
            return
        if what == "usage":
            child.cpu, child.waited, child.memory = rest
            if child.memory > child.limits.memory * 1.25:
                child.stop("memory_limit")
            elif child.cpu > child.limits.total + 1:
                child.stop("time_limit")
            return
        child.status, child.cpu, child.memory, child.said = rest[0], rest[1], max(child.memory, rest[2]), rest[3]
        del self.children[number]

    def _died(self) -> None:
        self.dead = True
        for child in list(self.children.values()):
            child.status, child.said = -1, "the room is gone"
            self._close(child)
        self.children.clear()

    def _tell(self, message: list[Any]) -> None:
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(message).encode())

    def _flush(self, child: Child) -> None:
        while child.pending and child.sink >= 0:
            try:
                # Copied first: a bytearray cannot shrink while it is being looked at.
                sent = os.write(child.sink, bytes(child.pending[:1 << 16]))
                del child.pending[:sent]
            except BlockingIOError:
                if child.sink not in self.ends:
                    self.ends[child.sink] = child
                    self.poller.register(child.sink, select.POLLOUT)
                return
            except OSError:
                child.pending.clear()
                self._drop(child, child.sink)
                return
        if child.sink in self.ends:
            self.poller.unregister(child.sink)
            del self.ends[child.sink]
        if child.closing:
            self._drop(child, child.sink)

    def _drop(self, child: Child, descriptor: int) -> None:
        if descriptor < 0:
            return
        if self.ends.pop(descriptor, None) is not None:
            self.poller.unregister(descriptor)
        os.close(descriptor)
        for name in ("sink", "source", "trouble"):
            if getattr(child, name) == descriptor:
                setattr(child, name, -1)

    def _close(self, child: Child) -> None:
        for descriptor in (child.sink, child.source, child.trouble):
            self._drop(child, descriptor)

    def close(self) -> None:
        """End the container and everything in it."""
        if os.getpid() == self.owner:
            for child in list(self.children.values()):
                self._close(child)
            bwrap.close_quietly(self.process)
        self.control.close()
        self.log.close()
        self.dead = True


def _sealed(data: bytes) -> int:
    """Bytes as a file in memory that nobody can change any more."""
    found = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    left = memoryview(data)
    while left:
        left = left[os.write(found, left):]
    os.lseek(found, 0, os.SEEK_SET)
    fcntl.fcntl(found, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
                | fcntl.F_SEAL_WRITE)
    return found


_rooms: dict[threading.Thread, Room] = {}


def get_room() -> Room:
    """This thread's room, started where there is none or the last one died.

    Every thread has its own: a room dies with the thread that started it, and its news is read by one at a time.

    Raises:
        SandboxMissing: there is no bubblewrap, or it cannot make a sandbox here.
    """
    thread = threading.current_thread()
    room = _rooms.get(thread)
    if room is not None and (room.owner != os.getpid() or room.dead or room.isolated != is_isolated() or (
            room.made >= RETIRE and len(room.children) <= len(room.spares))):
        close_room()
        room = None
    if room is None:
        _close_left()
        room = _rooms[thread] = Room()
    return room


def close_room() -> None:
    """End this thread's room, if it has one."""
    if (room := _rooms.pop(threading.current_thread(), None)) is not None:
        room.close()


def _close_left() -> None:
    """End the rooms of threads that have ended, and let go of those of the process that this one was forked from."""
    for thread, room in list(_rooms.items()):
        if (room.owner != os.getpid() or not thread.is_alive()) and _rooms.pop(thread, None) is not None:
            room.close()


@atexit.register
def _close_all() -> None:
    while _rooms:
        _rooms.popitem()[1].close()


def notes() -> dict[str, str]:
    """How code is run here: `sandbox` (bubblewrap, none), `seccomp` (on, off), `python` (its version)."""
    room = get_room()
    return {"sandbox": "bubblewrap" if room.isolated else "none",
            "seccomp": "on" if room.isolated and room.filter else "off", "python": room.python}
