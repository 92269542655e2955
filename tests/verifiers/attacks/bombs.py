"""Using up what a machine has: processes, memory, disk, output, time; and leaving something behind.

Every bomb ends by itself: see `kit`.
"""

from __future__ import annotations

from attacks.kit import Attack, stdio

_ANY = ("time_limit", "memory_limit", "output_limit", "runtime_error", "wrong_answer")
_NAMED = """
import ctypes, os, time, signal
def named():
    ctypes.CDLL(None).prctl(15, b'@MARK@', 0, 0, 0)
"""

PROCESSES = [
    Attack("kills_its_group", "import os, signal\ndef f(seed):\n    os.killpg(0, signal.SIGKILL)\n    return seed\n",
        "bomb",
           _ANY),
    Attack("stops_itself",
        "import os, signal\ndef f(seed):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return seed\n",
           "bomb", _ANY),
    Attack("fork_bomb", _NAMED + """
def f(seed):
    named()
    end, count = time.time() + 20, 0
    for _ in range(11):
        if time.time() > end:
            break
        try:
            os.fork()
        except OSError:
            count += 1
            time.sleep(0.01)
    return count and 0
""", "bomb", _ANY),
    Attack("fork_bomb_of_a_program", _NAMED + """
named()
for _ in range(11):
    try:
        os.fork()
    except OSError:
        pass
time.sleep(20)
""", "bomb", _ANY, tests=stdio(17)),
    Attack("counts_its_children", """
import os, time
def act():
    made = 0
    for _ in range(300):
        try:
            if os.fork() == 0:
                time.sleep(5)
                os._exit(0)
            made += 1
        except OSError:
            break
    return made >= 200
"""),
    Attack("thread_bomb", """
import threading, time
def act():
    made = 0
    threading.stack_size(65536)
    for _ in range(600):
        try:
            threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
            made += 1
        except (RuntimeError, MemoryError):
            break
    return made >= 300
"""),
    Attack("daemons", _NAMED + """
def f(seed):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                named()
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXCPU):
                    signal.signal(number, signal.SIG_IGN)
                time.sleep(20)
            os._exit(0)
    return 0
""", "bomb", _ANY),
    Attack("daemons_of_a_program_that_execute", """
import os, subprocess, sys
for _ in range(3):
    subprocess.Popen(['/usr/bin/sleep', '20'], env={'MARK': '@MARK@'}, start_new_session=True)
os._exit(0)
""", "bomb", _ANY, tests=stdio(17)),
    Attack("a_daemon_that_outlives_its_parent", _NAMED + """
def f(seed):
    if os.fork() == 0:
        named()
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        while True:
            time.sleep(1)
            seed -= 1
            if seed < -20:
                os._exit(0)
    os._exit(0)
""", "bomb", _ANY),
]

MEMORY = [
    Attack("memory_bomb", "def f(seed):\n    return len([bytearray(64 << 20) for _ in range(48)]) and 0\n", "bomb",
        _ANY),
    Attack("memory_in_many_processes", """
import os, time
def f(seed):
    for _ in range(24):
        try:
            if os.fork() == 0:
                block = bytearray(120 << 20)
                time.sleep(10)
                os._exit(0)
        except OSError:
            pass
    time.sleep(10)
    return 0
""", "bomb", _ANY),
    Attack("maps_a_hundred_gigabytes", """
import mmap
def act():
    for flags in (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, 0x4022):
        try:
            return len(mmap.mmap(-1, 100 << 30, flags))
        except (OSError, ValueError):
            pass
"""),
    Attack("a_large_number", "def f(seed):\n    return (10 ** 10 ** 9) % 7\n", "bomb", _ANY),
    Attack("a_text_of_ten_gigabytes", "def act():\n    return len('x' * (10 << 30))\n"),
    Attack("unbounded_recursion", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(seed):\n    return f(seed + 1)\n",
        "bomb",
           _ANY),
    Attack("memory_in_pipes_and_pairs", """
import os, socket
def act():
    ends, size = [], 0
    try:
        for _ in range(3000):
            ends.append(os.pipe())
            os.set_blocking(ends[-1][1], False)
            size += os.write(ends[-1][1], bytes(65536))
    except OSError:
        pass
    return size > 128 << 20
"""),
    Attack("locks_memory", """
import ctypes, mmap
def act():
    libc = ctypes.CDLL(None)
    return libc.mlockall(1) == 0 or libc.mlock(id(act) & ~4095, 64 << 20) == 0
"""),
]

DISK = [
    Attack("fills_the_disk", """
import os
def act():
    size = 0
    for folder in ('/tmp', '/dev/shm', '.', '/var/tmp', '/run', '/dev'):
        for number in range(32):
            try:
                with open(os.path.join(folder, f'fill{number}'), 'wb') as file:
                    for _ in range(16):
                        size += file.write(bytes(4 << 20))
                        file.flush()
            except OSError:
                pass
    return size > 512 << 20
"""),
    Attack("makes_many_files", """
def act():
    made = 0
    for number in range(50_000):
        try:
            open(f'/tmp/many{number}', 'w').close()
            made += 1
        except OSError:
            break
    return made >= 50_000
"""),
    Attack("makes_a_sparse_file", """
import os
def act():
    with open('/tmp/sparse', 'wb') as file:
        os.ftruncate(file.fileno(), 1 << 40)
    return True
"""),
    Attack("opens_ten_thousand_files", """
def act():
    kept = []
    try:
        for _ in range(10_000):
            kept.append(open('/dev/null'))
    except OSError:
        pass
    return len(kept) >= 5_000
"""),
    Attack("makes_deep_folders", """
import os
def act():
    made = 0
    try:
        for _ in range(20_000):
            os.mkdir('d')
            os.chdir('d')
            made += 1
    except OSError:
        pass
    return made >= 20_000
"""),
]

OUTPUT = [
    Attack("a_gigabyte_of_output", "import os\nfor _ in range(1000):\n    os.write(1, bytes(1 << 20))\n", "bomb", _ANY,
           tests=stdio(17)),
    Attack("a_gigabyte_of_errors", "import os\nfor _ in range(1000):\n    os.write(2, bytes(1 << 20))\n", "bomb", _ANY,
           tests=stdio(17)),
    Attack("a_gigabyte_printed_by_a_function", "import sys\ndef f(seed):\n    for _ in range(1000):\n"
           "        sys.stdout.write('x' * (1 << 20))\n    return 0\n", "bomb", _ANY),
    Attack("one_line_without_end", "while True:\n    print('1', end=' ', flush=True)\n", "bomb", _ANY, tests=stdio(17)),
]

TIME = [
    Attack("loops_and_ignores_signals", """
import signal
for number in range(1, 64):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def f(seed):
    while True:
        pass
""", "bomb", ("time_limit",)),
    Attack("loops_at_import", "while True:\n    pass\n", "bomb", ("time_limit",)),
    Attack("loops_in_c", "import re\ndef f(seed):\n    return re.match('(a+)+$', 'a' * 60 + 'b')\n", "bomb",
        ("time_limit",)),
    Attack("loops_in_a_finaliser", "import atexit\natexit.register(lambda: [1 for _ in iter(int, 1)])\nprint(0)\n",
        "bomb",
           ("time_limit", "wrong_answer"), tests=stdio(17)),
    Attack("sleeps", "import time\ndef f(seed):\n    time.sleep(30)\n    return 0\n", "bomb", ("time_limit",),
        slow=True),
    Attack("waits_for_input_that_never_comes", "import os\nread, write = os.pipe()\nos.read(read, 1)\n", "bomb",
           ("time_limit",), tests=stdio(17), slow=True),
    Attack("stops_its_children", _NAMED + """
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        named()
        time.sleep(20)
        os._exit(0)
    os.kill(pid, signal.SIGSTOP)
os.wait()
""", "bomb", ("time_limit",), tests=stdio(17), slow=True),
    Attack("burns_time_in_unseen_children", """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.time() + 20
while time.time() < end:
    if os.fork() == 0:
        stop = time.process_time() + 0.02
        while time.process_time() < stop:
            pass
        os._exit(0)
    time.sleep(0.02)
""", "bomb", _ANY, tests=stdio(17), slow=True),
    Attack("loops_in_many_processes", """
import os, time
for _ in range(4):
    try:
        os.fork()
    except OSError:
        pass
end = time.time() + 20
while time.time() < end:
    pass
""", "bomb", ("time_limit", "starved"), tests=stdio(17), slow=True),
    Attack("iterates_without_end", "import itertools\ndef f(seed):\n    return itertools.count()\n", "bomb", _ANY,
           tests=["assert list(f(17)) == [1, 2, 3]"]),
    Attack("a_range_without_end", "def f(seed):\n    return range(10 ** 15)\n", "bomb", (*_ANY, "tests_invalid"),
           tests=["assert list(f(17)) == [1, 2, 3]"]),
]

BEHIND = [
    Attack("leaves_a_module_for_the_next", """
import os, sys
for folder in ('.', '/tmp', '/dev/shm', *[p for p in sys.path if p]):
    for name in ('random.py', 'json.py', 'sitecustomize.py', 'usercustomize.py', 'x.pth', 'left'):
        try:
            with open(os.path.join(folder, name), 'w') as file:
                file.write('import os\\nos._exit(0)\\n')
        except OSError:
            pass
def f(seed):
    return 0
""", "cheat"),
    Attack("finds_what_was_left", """
import os
def act():
    return [path for path in ('/tmp/left', '/dev/shm/left', 'left', '/tmp/random.py', '/dev/shm/random.py')
            if os.path.exists(path)]
"""),
    Attack("finds_any_file_of_another", """
import os
def act():
    return os.listdir('/tmp') + os.listdir('/dev/shm')
"""),
    Attack("preloads_a_library", """
import os
def f(seed):
    os.environ['LD_PRELOAD'] = '/tmp/x.so'
    os.environ['PYTHONSTARTUP'] = os.environ['PYTHONPATH'] = '/tmp'
    os.execve('/usr/bin/env', ['env', 'true'], dict(os.environ))
""", "cheat"),
    Attack("becomes_another_program", "import os\ndef f(seed):\n    os.execv('/usr/bin/true', ['true'])\n", "cheat"),
    Attack("patches_the_waiting_interpreter", """
import gc, os, sys, builtins
def f(seed):
    for module in list(sys.modules.values()):
        if 'sandbox' in getattr(module, '__name__', ''):
            for name in list(vars(module)):
                if not name.startswith('__'):
                    setattr(module, name, None)
    builtins.len = lambda *a: 0
    return 0
""", "cheat"),
]

BOMBS = [*PROCESSES, *MEMORY, *DISK, *OUTPUT, *TIME, *BEHIND]
