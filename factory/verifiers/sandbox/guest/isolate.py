"""System calls that put a process behind walls. Order matters: walls first, limits next, the filter last."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Any

_NEW_NS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER, _PDEATHSIG = 38, 22, 2, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _unshare(flags: int) -> None:
    """Enter new namespaces as the same user, with every capability over them."""
    uid, gid = os.getuid(), os.getgid()
    _done(_libc.unshare(flags), "unshare")
    if flags & _NEW_USER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    _done(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()),
          f"mount {target}")


def own_room() -> int:
    """Make this process the first of a pid namespace in which it may make others; its parent waits for it.

    Returns a descriptor of that pid namespace."""
    _unshare(_NEW_USER | _NEW_NS | _NEW_PID)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
    mount("none", "/", "none", _REC | _PRIVATE)
    mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def fork_apart(home: int) -> int:
    """Fork a child that is the first process of a new pid namespace; `home` is this process's own."""
    _done(_libc.unshare(_NEW_PID), "unshare")
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            _done(_libc.setns(home, _NEW_PID), "setns")
    return pid


def wall_in(limits: dict[str, Any], network: bool, stdin: bool) -> None:
    """In the child: its own user, mount and IPC namespaces, a small /tmp, no /proc, no capabilities.

    `stdin`: descriptor 0 is a file, to be found as /dev/stdin too."""
    _unshare(_NEW_USER | _NEW_NS | _NEW_IPC | (0 if network else _NEW_NET))
    size = f"size={int(limits['disk'])},nr_inodes=4096,mode=700"
    mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, size)
    mount("/tmp", "/dev/shm", "none", _BIND)
    mount("tmpfs", "/proc", "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "size=4096,nr_inodes=1")
    if stdin:
        _show_input()
    os.chdir("/tmp")
    header, empty = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _done(_libc.capset(header, empty), "capset")


def _show_input() -> None:
    """A copy as /dev/fd/0, where /dev/stdin points: without /proc a descriptor has no path."""
    flags, left = _NOSUID | _NODEV | _NOEXEC, os.fstat(0).st_size
    mount("tmpfs", "/dev/fd", "tmpfs", flags, f"size={left + 4096},nr_inodes=2,mode=755")
    copy, done = os.open("/dev/fd/0", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444), 0
    while done < left and (sent := os.sendfile(copy, 0, done, left - done)):
        done += sent
    os.close(copy)
    mount("tmpfs", "/dev/fd", "tmpfs", flags | _REMOUNT | _RDONLY)


def die_with_parent() -> None:
    """Without walls, the kernel ends this process when the one that forked it ends."""
    _done(_libc.prctl(_PDEATHSIG, 9, 0, 0, 0), "die with parent")


def limit(limits: dict[str, Any], stack: int) -> None:
    """Resource limits, hard and soft alike.

    A core of 1 byte: where cores go to a program (core(5)) the kernel heeds no limit but this one."""
    total = int(limits["total"]) + 1
    memory, disk = int(limits["memory"]), int(limits["disk"])
    for name, value in (("CPU", total), ("AS", memory), ("FSIZE", disk), ("NOFILE", int(limits["files"])),
                        ("NPROC", int(limits["processes"])), ("CORE", 1), ("MEMLOCK", 0), ("MSGQUEUE", 0),
                        ("STACK", stack)):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter for this process and all that it starts."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    _done(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _done(_libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(Program(len(program) // 8, program)), 0, 0), "seccomp")
