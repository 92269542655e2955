"""The system call filter of every sandbox, as a classic BPF program for `PR_SET_SECCOMP`.

A list of what is refused, not of what is allowed: interpreters and compilers use hundreds of calls, and the walls are
the namespaces. The filter takes away what code under test never needs and what kernel exploits start from: new
namespaces, mounts, tracing, keyrings, bpf, io_uring, userfaultfd, clocks, modules, and every socket but a pair. It also
refuses memory that no limit counts: memfd, System V shared memory and message queues.

Refused calls fail with EPERM, `clone3` with ENOSYS (C libraries then use `clone`, whose flags can be read); calls for
another architecture (the 32-bit entry of x86_64) end the process. Numbers are from the kernel's tables.
"""

from __future__ import annotations

import platform
import struct

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

# name: (x86_64, aarch64); None where the architecture has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "personality": (135, 92), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "lsm_set_self_attr": (460, 460),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
}
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)


def build_filter(machine: str = "") -> bytes | None:
    """The filter for this machine (or the one named, as `platform.machine` does); None where there is none."""
    machine = machine or platform.machine()
    if machine not in ("x86_64", "aarch64") or struct.calcsize("P") != 8:
        return None
    column = 0 if machine == "x86_64" else 1
    code = [(_LOAD, 0, 0, _ARCH), (_JUMP_EQ, 1, 0, (_X86_64, _AARCH64)[column]), (_RETURN, 0, 0, _KILL),
            (_LOAD, 0, 0, _NR)]
    if machine == "x86_64":  # the x32 table has the same calls under other numbers
        code += [(_JUMP_GE, 0, 1, 0x40000000), (_RETURN, 0, 0, _ENOSYS)]
    code += [(_JUMP_EQ, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ENOSYS)]
    code += [(_JUMP_EQ, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _ARG0), (_JUMP_SET, 0, 6, _NEW_NAMESPACES),
             (_RETURN, 0, 0, _EPERM)]
    code += [(_JUMP_EQ, 0, 4, _IOCTL[column]), (_LOAD, 0, 0, _ARG1), (_JUMP_EQ, 1, 0, _TIOCSTI),
             (_JUMP_EQ, 0, 1, _TIOCLINUX), (_RETURN, 0, 0, _EPERM)]
    code += [(_LOAD, 0, 0, _NR)]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            code += [(_JUMP_EQ, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    code += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in code)
