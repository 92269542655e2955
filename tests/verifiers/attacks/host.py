"""What the host sees while and after an attack runs: processes, files, connections, memory, its own settings."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from factory.verifiers.sandbox import Room, get_room

PATIENCE = 10.0
"""Seconds for the kernel to clear away a sandbox that was killed. Nothing waits that long unless something is wrong."""


class Host:
    """A host that is worth attacking: a secret in its environment and in a file that anybody may read, a folder that
    anybody may write to, servers on all addresses."""

    def __init__(self, outside: Path):
        self.mark, self.secret = f"atk{secrets.token_hex(4)}", f"canary-{secrets.token_hex(16)}"
        self.outside = outside
        outside.chmod(0o777)
        (outside / "secret.txt").write_text(self.secret)
        (outside / "secret.txt").chmod(0o644)
        os.environ["FACTORY_ATTACKED_SECRET"] = self.secret
        self.calls: list[str] = []
        self.servers = [self._listen(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))]
        self.port = self.servers[0].getsockname()[1]
        self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", self.port))
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(outside / "server"))
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.mark}")
        self.files = sorted(os.listdir(outside))
        self.room: Room = get_room()
        self.family = self._family()
        self.settings = self._settings()

    def _listen(self, family: int, kind: int, address: tuple[str, int] | str) -> socket.socket:
        server = socket.socket(family, kind)
        server.bind(address)
        if isinstance(address, str) and address.startswith("/"):
            os.chmod(address, 0o777)
        if kind == socket.SOCK_STREAM:
            server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    if kind == socket.SOCK_STREAM:
                        server.accept()[0].close()
                    else:
                        server.recv(100)
                    self.calls.append(f"family {family}, kind {kind}")

        threading.Thread(target=serve, daemon=True).start()
        return server

    def known(self) -> dict[str, str]:
        """What the attackers are told; the secret only their tests."""
        return {"MARK": self.mark, "OUTSIDE": str(self.outside), "PORT": str(self.port), "SECRET": self.secret,
                "HOME": str(Path.home()), "PROJECT": str(Path(__file__).parents[3]), "ADDRESS": _address(),
                "HOSTNAME": socket.gethostname()}

    def _family(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.room.process.pid).children(recursive=True)}

    def _settings(self) -> dict[str, object]:
        limits = {name: resource.getrlimit(getattr(resource,
            name)) for name in dir(resource) if name.startswith("RLIMIT_")}
        return {"limits": limits, "host": socket.gethostname(), "folder": os.getcwd(), "user": os.getuid(),
                "priority": os.getpriority(os.PRIO_PROCESS, 0), "processors": os.sched_getaffinity(0),
                "clock": round((time.time() - time.monotonic()) / 600)}

    def strangers(self) -> list[str]:
        """Processes that should not be: marked ones anywhere, new ones below the room."""
        found = [f"{pid} below the room" for pid in self._family() - self.family]
        mark = self.mark.encode()
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            for part in ("comm", "cmdline", "environ"):
                with contextlib.suppress(OSError), open(f"/proc/{name}/{part}", "rb") as file:
                    if mark in file.read():
                        found.append(f"{name}: {part}")
        return found

    def harm(self) -> list[str]:
        """Everything that is not as it was; empty where nothing happened."""
        while self.room.spares:  # sandboxes that wait for their program are no strangers
            self.room.spares.popitem()[1].kill()
        end = time.monotonic() + PATIENCE
        while (strangers := self.strangers()) and time.monotonic() < end:
            time.sleep(0.02)
        found = [f"a process is left: {stranger}" for stranger in strangers]
        files = sorted(os.listdir(self.outside))
        if files != self.files or (self.outside / "secret.txt").read_text() != self.secret:
            found.append(f"files of the host changed: {files}")
        found += [f"somebody connected: {call}" for call in self.calls]
        found += [f"{name} changed" for name, value in self._settings().items() if value != self.settings[name]]
        if self.room.dead or get_room() is not self.room:
            found.append("the room died")
        return found

    @contextlib.contextmanager
    def memory(self) -> Iterator[list[int]]:
        """The most resident memory (bytes) that all processes of the room had together, in a list of one."""
        peak, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.03):
                total = 0
                for pid in self._family() - self.family:
                    with contextlib.suppress(psutil.Error):
                        total += psutil.Process(pid).memory_info().rss
                peak[0] = max(peak[0], total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            done.set()
            watcher.join()


def _address() -> str:
    """An address of this machine that is not the loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("10.255.255.255", 1))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
