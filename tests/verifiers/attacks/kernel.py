"""Asking the kernel and the network for what no program under test needs."""

from __future__ import annotations

from attacks.kit import Attack

_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"

NETWORK = [
    Attack("connects_to_the_host", """
import socket
def act():
    for family, address in ((socket.AF_INET, ('127.0.0.1', @PORT@)), (socket.AF_INET6, ('::1', @PORT@)),
                            (socket.AF_INET, ('@ADDRESS@', @PORT@)), (socket.AF_INET, ('10.0.2.2', @PORT@))):
        try:
            with socket.socket(family) as one:
                one.settimeout(0.3)
                one.connect(address)
                one.send(b'@MARK@')
                return address
        except OSError:
            pass
"""),
    Attack("sends_datagrams", """
import socket
def act():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.sendto(b'@MARK@', ('127.0.0.1', @PORT@))
"""),
    Attack("connects_to_a_unix_socket", """
import socket
def act():
    for address in ('@OUTSIDE@/server', '/run/docker.sock', '/var/run/docker.sock', '/run/dbus/system_bus_socket'):
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(address)
                return address
        except OSError:
            pass
"""),
    Attack("connects_to_an_abstract_socket", """
import socket
def act():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(chr(0) + '@MARK@')
        return True
"""),
    Attack("opens_other_kinds_of_sockets", """
import socket
def act():
    done = []
    for family, kind, protocol in ((16, 3, 0), (16, 3, 15), (17, 3, 768), (40, 1, 0), (2, 3, 1), (2, 2, 1), (31, 3, 1),
                                   (29, 3, 1), (38, 5, 0), (44, 3, 0), (21, 5, 0), (1, 2, 0)):
        try:
            socket.socket(family, kind, protocol).close()
            done.append(family)
        except OSError:
            pass
    return done
"""),
    Attack("listens", """
import socket
def act():
    with socket.socket() as one:
        one.bind(('0.0.0.0', 0))
        one.listen()
        return True
"""),
    Attack("resolves_names", "import socket\ndef act():\n    return socket.getaddrinfo('example.com', 80)\n"),
    Attack("lists_interfaces", """
import socket
def act():
    return [name for _, name in socket.if_nameindex() if name != 'lo']
"""),
    Attack("speaks_through_a_child", """
import subprocess
def act():
    for line in (['/usr/bin/curl', '-m', '1', 'http://127.0.0.1:@PORT@/'],
                 ['/usr/bin/wget', '-T1', '-t1', '127.0.0.1:@PORT@'],
                 ['/bin/bash', '-c', 'echo @MARK@ > /dev/tcp/127.0.0.1/@PORT@'],
                 ['/usr/bin/perl', '-MIO::Socket', '-e', 'IO::Socket::INET->new("127.0.0.1:@PORT@") or exit 1']):
        try:
            if subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=3).returncode == 0:
                return line
        except (OSError, subprocess.TimeoutExpired):
            pass
"""),
]


def _call(name: str, *calls: str) -> Attack:
    """System calls by their x86-64 numbers; a result of 0 or more is a success."""
    lines = ",\n    ".join(f"lambda: libc.syscall({call})" for call in calls)
    return Attack(name, _LIBC + f"""
import os, platform
buffer = ctypes.create_string_buffer(4096)
CALLS = [
    {lines}
]
def act():
    if platform.machine() != 'x86_64':
        return None
    for call in CALLS:
        libc.syscall.restype = ctypes.c_long
        if call() >= 0:
            return True
""")


KERNEL = [
    _call("makes_namespaces", *(f"272, {flag}" for flag in (
        0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80, 0x10020000))),
    Attack("clones_into_a_user_namespace", _LIBC + """
import os, platform
def act():
    if platform.machine() != 'x86_64':
        return None
    for flags in (0x10000000, 0x20000000, 0x40000000):
        pid = libc.syscall(56, flags | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            return flags
    class Args(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ('flags', 'a', 'b', 'c', 'exit', 'd', 'e', 'f', 'g', 'h', 'i')]
    args = Args(flags=0x10000000, exit=17)
    pid = libc.syscall(435, ctypes.byref(args), ctypes.sizeof(args))
    if pid == 0:
        os._exit(0)
    return pid > 0
"""),
    Attack("enters_other_namespaces", _LIBC + """
import os, glob
def act():
    for path in glob.glob('/proc/*/ns/*'):
        try:
            if libc.setns(os.open(path, os.O_RDONLY), 0) == 0:
                return path
        except OSError:
            pass
    return any(libc.setns(number, 0) == 0 for number in range(64))
"""),
    _call("mounts", "165, b'none', b'/tmp', b'tmpfs', 0, 0", "165, b'/', b'/tmp', 0, 4096, 0",
          "165, 0, b'/', 0, 32 | 4096, 0", "166, b'/tmp', 2", "166, b'/proc', 2", "155, b'/tmp', b'/tmp'",
          "428, -100, b'/', 1", "430, b'tmpfs', 0", "429, -100, b'/tmp', -100, b'/tmp', 0"),
    _call("uses_keyrings", "250, 0, -3, 1", "248, b'user', b'x', b'y', 1, -3", "250, 1, 0"),
    _call("starts_io_uring", "425, 8, buffer"),
    _call("opens_performance_events", "298, buffer, 0, -1, -1, 0", "298, buffer, -1, 0, -1, 0"),
    _call("loads_bpf", "321, 5, buffer, 64", "321, 0, buffer, 64"),
    _call("handles_page_faults", "323, 0", "323, 1"),
    _call("sets_the_clock", "227, 0, buffer", "164, buffer, 0", "305, 0, (ctypes.c_int * 64)(1)",
          "159, (ctypes.c_int * 64)(1)"),
    _call("reboots", "169, 0xfee1dead, 672274793, 0, 0", "246, 0, 0, 0, 0", "320, 0, 0, 0, 0, 0"),
    _call("loads_modules", "175, buffer, 64, b''", "313, 0, b'', 0", "176, b'x', 0"),
    _call("names_the_machine", "170, b'@MARK@', 8", "171, b'@MARK@', 8"),
    _call("uses_swap_and_accounting", "167, b'/tmp/x', 0", "163, b'/tmp/x'", "103, 3, buffer, 4096", "153"),
    _call("touches_the_processor", "172, 3", "173, 0x80, 1, 1", "154, 1, buffer, 16"),
    _call("opens_by_handle", "304, 3, buffer, 0", "303, -100, b'/usr', buffer, buffer, 0"),
    _call("injects_into_a_terminal", "16, 0, 0x5412, b'x'", "16, 1, 0x5412, b'x'", "16, 2, 0x5412, b'x'",
          "16, 0, 0x541c, b'x'"),
    _call("shares_system_v_memory", "29, 0, 1 << 20, 0o1600", "68, 0, 0o1600", "64, 0, 1, 0o1600"),
    _call("watches_with_fanotify", "300, 0, 0"),
    _call("takes_descriptors_of_others", "438, 0, 0, 0", "312, 1, 1, 0, 0, 0"),
    Attack("runs_a_program_from_memory", """
import os
def act():
    number = os.memfd_create('x')
    with open('/usr/bin/true', 'rb') as file:
        os.write(number, file.read())
    if os.fork() == 0:
        os.execve(number, ['x'], {})
    return os.wait()[1] == 0
"""),
    Attack("speaks_x32", _LIBC + "import platform\ndef act():\n    return platform.machine() == 'x86_64' and "
           "libc.syscall(0x40000000 | 39) > 0\n"),
    Attack("removes_the_filter", _LIBC + """
def act():
    # An own filter may be added (it only takes more away); what was refused must stay refused.
    class Program(ctypes.Structure):
        _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_char_p)]
    libc.prctl(22, 2, ctypes.byref(Program(1, bytes([6, 0, 0, 0, 0, 0, 255, 127]))), 0, 0)
    return libc.unshare(0x10000000) == 0 or libc.prctl(22, 0, 0, 0, 0) == 0
"""),
]
