"""The bubblewrap command line of a room, and who runs it.

The room holds, read-only: of `/usr` the programs, libraries and headers that an interpreter and a compiler need (never
`/usr/local` or `/usr/src`, where projects live); of an interpreter elsewhere its program and its libraries; the places
of third-party packages are covered. Also `/proc`, five devices, an empty `/tmp`. Its user is nobody in particular, has
no capabilities and no terminal. Where this process is root, an unprivileged user starts the room: limits on processes
do not hold for root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from factory.verifiers.sandbox.model import SandboxMissing

UNSAFE = "FACTORY_UNSAFE_NO_SANDBOX"
INSTALL = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"
_DEVICES = ("null", "zero", "full", "random", "urandom")


def is_isolated() -> bool:
    """False where the environment says that code may run without a sandbox (the only place that reads it)."""
    return os.environ.get(UNSAFE) != "1"


def find_bwrap() -> str:
    """Path of bubblewrap.

    Raises:
        SandboxMissing: there is none, or this is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxMissing("running code needs Linux with bubblewrap: use a Linux machine, or allow code to run "
                             "without any sandbox with --unsafe-no-sandbox")
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxMissing(f"running code needs bubblewrap and `bwrap` is not on the PATH: {INSTALL}")
    return found


@cache
def unprivileged() -> int | None:
    """The user id to run rooms as where this process is root: a high one that nobody has. None: stay who we are."""
    if os.getuid() != 0:
        return None
    for uid in range(64999, 60000, -1):
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    return None


def start(line: list[str], control: int, errors: int) -> subprocess.Popen[bytes]:
    """Start a room with its control socket as standard input."""
    uid = unprivileged()

    def popen(**who: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(line, stdin=control, stdout=subprocess.DEVNULL, stderr=errors, cwd="/",
                                start_new_session=True, env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}, **who)

    if uid is not None:
        # Inside a user namespace without such an id, root is no real root, and limits hold for it.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return popen(user=uid, group=uid, extra_groups=[])
    return popen()


@cache
def find_python() -> tuple[str, str]:
    """(executable, prefix) of the interpreter for rooms: this one's, or the system's where others cannot reach ours.

    Raises:
        SandboxMissing: neither can be used.
    """
    own = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (own, Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        if path.exists() and _reachable(path):
            prefix = sys.base_prefix if path == own else str(path.parent.parent)
            return str(path), prefix
    raise SandboxMissing(f"no Python that an unprivileged user can start: {own} is closed to others and there is no "
                         "/usr/bin/python3. Install python3 system-wide")


def _reachable(path: Path) -> bool:
    if os.getuid() != 0:
        return os.access(path, os.X_OK)
    return all(parent.stat().st_mode & 0o001 for parent in [path.resolve(), *path.resolve().parents])


def command(boot: str, temporary: int) -> list[str]:
    """bubblewrap and what it runs: an interpreter whose descriptor 0 is the control socket."""
    python, prefix = find_python()
    line = [find_bwrap(), "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent",
            "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv", "--setenv", "PATH", "/usr/bin",
            "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0"]
    line += _system()
    if prefix != "/usr":
        line += _own(python, prefix)
    for place in _packages(prefix):
        line += ["--tmpfs", place, "--remount-ro", place]
    line += ["--proc", "/proc", "--dir", "/dev/shm", "--dir", "/dev/fd", "--symlink", "fd/0", "/dev/stdin"]
    for name in _DEVICES:
        line += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    return [*line, "--size", str(temporary), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--",
            python, "-S", "-s", "-B", "-c", boot]


def _system() -> list[str]:
    """The system's programs, libraries, headers and time zones."""
    usr = Path("/usr")
    paths = [Path("/", name) for name in ("bin", "lib", "lib32", "lib64", "libx32")]
    paths += [usr / "bin", usr / "include", *sorted(usr.glob("lib*")), usr / "share" / "zoneinfo"]
    return [word for path in paths for word in _bound(path)]


def _bound(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


def _own(python: str, prefix: str) -> list[str]:
    """An interpreter outside `/usr`, or in `/usr/local`, where its libraries lie among those of others. Elsewhere they
    are all shown: those of conda need one another."""
    root = Path(prefix)
    libraries = [root / "lib", root / "lib64"]
    if root == Path("/usr/local"):
        libraries = [found for lib in libraries if not lib.is_symlink()
                     for found in (*sorted(lib.glob("libpython*.so*")), *sorted(lib.glob("python3.*")))]
    return ["--ro-bind", str(Path(python).resolve()), python, *(word for path in libraries for word in _bound(path))]


def _packages(prefix: str) -> list[str]:
    """Folders of third-party packages within what a room sees."""
    places = [place for root in dict.fromkeys((prefix, "/usr")) for lib in ("lib", "lib64")
              if not Path(root, lib).is_symlink() for name in ("site-packages", "dist-packages")
              for place in sorted(Path(root, lib).glob(f"python3*/{name}"))]
    return [str(place) for place in places if place.is_dir() and not place.is_symlink()]


def plain_command(boot: str) -> list[str]:
    """The same without a sandbox."""
    return [sys.executable, "-S", "-s", "-B", "-c", boot]


def explain(errors: str) -> str:
    """One line on why a room did not start."""
    last = (errors.strip().splitlines() or ["it ended without a word"])[-1]
    return (f"bubblewrap cannot make a sandbox here ({last[:200]}): user namespaces must be allowed "
            "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a "
            "container, a seccomp profile that permits them)")


def compiler() -> str | None:
    """The C++ compiler as rooms see it; None where there is none."""
    return "/usr/bin/g++" if os.access("/usr/bin/g++", os.X_OK) else None


def close_quietly(process: subprocess.Popen[bytes]) -> int:
    """Kill and reap."""
    process.kill()
    return process.wait()
