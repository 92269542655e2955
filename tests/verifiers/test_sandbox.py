"""The sandbox at its own edge: what a program finds in it, what the limits do, what is left afterwards."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from factory.verifiers import sandbox
from factory.verifiers.code import check_code
from factory.verifiers.sandbox import Limits, Outcome, Program, SandboxMissing, close_room, get_room, run_program
from factory.verifiers.sandbox.bwrap import UNSAFE, compiler, find_bwrap
from factory.verifiers.sandbox.seccomp import build_filter

MB = 1 << 20
SMALL = Limits(seconds=1.0, total=1.0, memory=256 * MB, processes=16, disk=4 * MB, output=1 * MB)


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    try:
        find_bwrap()
    except SandboxMissing as error:
        pytest.skip(str(error))


def run(source: str, stdin: str = "", limits: Limits = SMALL) -> Outcome:
    return run_program(Program(source.encode()), stdin.encode(), limits)


def see(expression: str) -> Any:
    """What an expression is inside."""
    outcome = run(f"import os, sys, socket, ctypes\nprint(repr({expression}))")
    assert outcome.status == "done", outcome.stderr
    return ast.literal_eval(outcome.stdout.decode())


def test_programs_read_their_input_and_write_their_output() -> None:
    outcome = run("import sys\nprint(input()[::-1])\nsys.stderr.write('note')\nsys.exit(3)", "abc\n")
    assert (outcome.status, outcome.exit, outcome.stdout, outcome.stderr) == ("runtime_error", 3, b"cba\n", b"note")
    assert run("print('a')\nexit()").status == "done"
    assert run("import atexit\natexit.register(print, 'last')\nprint('first')").stdout == b"first\nlast\n"
    assert run("import threading\nthreading.Thread(target=print, args=('late',)).start()").stdout == b"late\n"
    assert b"ZeroDivisionError" in run("1/0").stderr


def test_a_large_input_and_output_pass_whole() -> None:
    text = "".join(f"{number} é\n" for number in range(60_000))
    assert run("import sys\nsys.stdout.write(sys.stdin.read())", text).stdout.decode() == text


def test_what_is_inside() -> None:
    os.environ["SECRET_OF_THE_TEST"] = "hidden"
    try:
        environment = see("dict(os.environ)")
    finally:
        del os.environ["SECRET_OF_THE_TEST"]
    assert set(environment) <= {"PATH", "HOME", "LANG", "PYTHONHASHSEED", "PWD", "LC_CTYPE"}
    assert set(see("os.listdir('/')")) <= {"bin", "dev", "lib", "lib32", "lib64", "proc", "sbin", "tmp", "usr",
                                          Path(os.sep, *Path(get_room_prefix()).parts[1:2]).name}
    assert see("os.listdir('/proc')") == []
    assert see("os.listdir('/tmp')") == []
    assert not {"local", "src", "games", "sbin"} & set(see("os.listdir('/usr')")) or get_room_prefix() == "/usr/local"
    assert see("os.listdir('/usr/share')") == ["zoneinfo"] or not Path("/usr/share/zoneinfo").exists()
    assert see("os.getpid()") == 1
    assert not {"site-packages", "dist-packages"} & {Path(path).name for path in see("sys.path")}
    assert see("[number for number in range(400) if ctypes.CDLL(None).fcntl(number, 1) >= 0]") == [0, 1, 2]


def get_room_prefix() -> str:
    return sandbox.rooms.bwrap.find_python()[1]


def test_of_an_interpreter_elsewhere_nothing_but_its_libraries_is_seen(monkeypatch: pytest.MonkeyPatch,
                                                                       tmp_path: Path) -> None:
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    shutil.copy(sys.executable, python)
    monkeypatch.setattr(sandbox.rooms.bwrap, "find_python", lambda: (str(python), str(tmp_path)))
    line = sandbox.rooms.bwrap.command("", 1 << 20)
    shown = {target for flag, _, target in zip(line, line[1:], line[2:], strict=False) if flag == "--ro-bind"}
    assert {path for path in shown if path.startswith(str(tmp_path))} == {str(python), str(tmp_path / "lib")}
    assert not {"/usr", "/usr/local", "/usr/src", "/usr/share"} & shown
    assert str(tmp_path / "lib" / "python3.11" / "site-packages") in line


def test_the_input_has_its_usual_name() -> None:
    assert run("print(open('/dev/stdin').read(), open(0).read(), open('/dev/fd/0').read())", "ab").stdout == \
        b"ab ab ab\n"
    assert run("print(open('/dev/stdin').read())").stdout == b"\n"
    assert b"Read-only" in run("open('/dev/stdin', 'w')").stderr or b"denied" in run("open('/dev/stdin', 'w')").stderr


def test_no_core_and_few_open_files() -> None:
    assert see("__import__('resource').getrlimit(4)") == (1, 1)
    assert run("import socket\nf = []\ntry:\n    while True: f.append(socket.socketpair())\n"
               "except OSError: print(len(f) < 32)").stdout == b"True\n"
    assert run("import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))").stdout == b"5\n"


@pytest.mark.parametrize("attempt", [
    "open('/etc/passwd')", "open('/usr/x', 'w')", "open('/x', 'w')", "open('/dev/x', 'w')", "os.mkdir('/proc/x')",
    "socket.socket()", "socket.socket(socket.AF_UNIX)", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "os.kill(2, 9)", "os.setuid(0)", "os.chroot('/tmp')", "os.sethostname('x') if hasattr(os, 'sethostname') else 1/0",
    "__import__('time').clock_settime(0, 0)", "os.memfd_create('x')", "os.nice(-5)", "os.mknod('/tmp/x', 0o20666, 1)",
    "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "__import__('resource').setrlimit(7, (9999, 9999))",
    *(f"ctypes.CDLL(None, use_errno=True).{call} == 0 or 1/0" for call in (
        "unshare(0x10000000)", "mount(b'x', b'/tmp', b'tmpfs', 0, 0)", "umount2(b'/proc', 2)", "ptrace(0, 0, 0, 0)",
        "setns(0, 0)", "syscall(321, 0, 0, 0)", "syscall(250, 0, 0, 0)", "syscall(425, 8, 0)",
        "sethostname(b'x', 1)", "personality(0x40000)")),
])
def test_refused(attempt: str) -> None:
    outcome = run(f"import os, socket, ctypes\ntry:\n    {attempt}\nexcept Exception as e:\n    print('no')\n")
    assert outcome.stdout == b"no\n", outcome.stderr


def test_time_limits() -> None:
    short = replace(SMALL, seconds=0.2, total=0.2)
    assert run("while True: pass", limits=short).status == "time_limit"
    assert run("import time\ntime.sleep(60)", limits=short).status == "time_limit"
    assert run("import signal\nfor s in (15, 24, 2): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
               limits=short).status == "time_limit"


_STOPPED = """
import sys
from factory.verifiers.code import check_code
from factory.verifiers.sandbox import Limits, get_room
get_room()
print("ready", flush=True)
found = check_code(sys.argv[1], sys.argv[2], limits=Limits(seconds=0.4, total=9))
print(found.label, found.reason_code)
"""


@pytest.mark.parametrize(("source", "tests"), [
    ("import time\ntime.sleep(0.6)\nprint(1)", '{"inputs": [""], "outputs": ["1"]}'),
    ("import time\ndef f(x):\n    until = time.process_time() + 0.15\n    while time.process_time() < until: pass\n"
     "    return x\n", str([f"assert f({x}) == {x}" for x in range(12)]).replace("'", '"'))])
def test_a_pause_of_the_host_is_not_the_programs(source: str, tests: str) -> None:
    """Ctrl-Z, or a batch system that suspends its jobs."""
    with subprocess.Popen([sys.executable, "-c", _STOPPED, f"```python\n{source}\n```", tests],
                          stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(0.15)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(1.8)
        worker.send_signal(signal.SIGCONT)
        assert worker.stdout.read() == b"correct passed\n"


def test_threads_judge_at_the_same_time() -> None:
    def judge(number: int) -> str:
        return check_code(f"```python\ndef f(x):\n    return x + {number}\n```", [f"assert f(1) == {number + 1}"]).label

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(judge, range(24))) == {"correct"}


def test_what_a_program_says_it_defines_may_be_anything() -> None:
    forged = "import os\nbody = b'[\"ready\", [1]]'\nos.write(4, len(body).to_bytes(4, 'little') + body)\ndef f(): pass"
    verdict = check_code(f"```python\n{forged}\n```", ["x = f()\nassert x == 1"])
    assert (verdict.label, verdict.reason_code) == ("incorrect", "runtime_error")


def test_other_limits() -> None:
    assert run("x = bytearray(1 << 30)").status == "memory_limit"
    assert run("x = [0]\nwhile True: x += x").status == "memory_limit"
    outcome = run("while True: print('x' * 10000)")
    assert outcome.status == "output_limit"
    assert len(outcome.stdout) <= SMALL.output + (1 << 17)
    full = run("import errno\ntry:\n    for k in range(99):\n        open(f'/tmp/{k}', 'wb').write(b'x' * (1 << 20))\n"
               "except OSError as e: print(errno.errorcode[e.errno], k)")
    assert full.stdout.startswith(b"ENOSPC")
    assert int(full.stdout.split()[1]) <= 4
    assert run("import os\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: os.pause() if hasattr(os, 'pause') "
               "else __import__('time').sleep(9)\n        n += 1\nexcept OSError: print(n)").stdout.strip() == b"15"
    assert run("f = []\ntry:\n    while True: f.append(open('/dev/null'))\nexcept OSError: print(len(f) < 64)"
               ).stdout == b"True\n"


def test_memory_of_all_processes_together_is_limited() -> None:
    source = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * (150 << 20)\n        " \
             "time.sleep(5)\ntime.sleep(5)"
    assert run(source, limits=replace(SMALL, seconds=6.0, total=6.0)).status == "memory_limit"


def test_nothing_is_left_for_the_next_program() -> None:
    room = get_room()
    left = run("import os, time\nopen('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')\n"
               "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: time.sleep(1)\n"
               "    os._exit(0)\nprint('done')")
    assert left.stdout == b"done\n"
    assert see("os.listdir('/tmp') + os.listdir('/dev/shm')") == []
    inside = psutil.Process(room.process.pid).children(recursive=True)
    assert len(inside) <= 4 + len(room.spares), inside  # bubblewrap's, the first interpreter, the zygote, the spares


def test_it_does_not_read_the_modules_of_the_one_before() -> None:
    run("import json, random\njson.loads = None\nrandom.random = lambda: 4\nimport builtins\nbuiltins.print = None")
    assert run("import json, random\nprint(json.loads('[1]'), random.random() < 1)").stdout == b"[1] True\n"


def test_a_killed_room_costs_nothing() -> None:
    room = get_room()
    room.process.kill()
    room.process.wait()
    assert run("print(1)").stdout == b"1\n"
    assert get_room() is not room


def test_a_room_made_in_a_thread_that_ended_is_replaced() -> None:
    close_room()
    said: list[bytes] = []
    thread = threading.Thread(target=lambda: said.append(run("print(1)").stdout))
    thread.start()
    thread.join()
    assert [*said, run("print(2)").stdout] == [b"1\n", b"2\n"]


def test_a_closed_room_leaves_no_process() -> None:
    room = get_room()
    run("print(1)")
    family = psutil.Process(room.process.pid).children(recursive=True)
    close_room()
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert (len(gone), alive) == (len(family), [])


@pytest.mark.skipif(compiler() is None, reason="there is no g++ here")
def test_compiled_programs_of_the_newer_standard_with_threads() -> None:
    program, outcome = sandbox.compile_cpp(
        "#include <concepts>\n#include <cstdio>\n#include <thread>\n"
        "template <std::integral T> T twice(T x) { return 2 * x; }\n"
        "int main() {\n    std::thread all[12];\n    int sums[12];\n    for (int k = 0; k < 12; k++)\n"
        "        all[k] = std::thread([&, k] { sums[k] = twice(k); });\n    for (auto& one : all) one.join();\n"
        "    int x;\n    fscanf(fopen(\"/dev/stdin\", \"r\"), \"%d\", &x);\n    printf(\"%d\", sums[11] + x);\n}\n")
    assert program is not None, outcome.stderr
    assert run_program(program, b"20", SMALL).stdout == b"42"


@pytest.mark.skipif(compiler() is None, reason="there is no g++ here")
def test_a_compiled_program_may_recur_deeply() -> None:
    program, _ = sandbox.compile_cpp("int f(long n) { volatile char room[99]; room[0] = 0; return n ? f(n - 1) + "
                                     "room[0] : 0; }\nint main() { return f(1000000); }")
    assert program is not None
    assert run_program(program, b"", replace(SMALL, memory=512 * MB)).status == "done"


@pytest.mark.skipif(compiler() is None, reason="there is no g++ here")
def test_compiled_programs() -> None:
    program, outcome = sandbox.compile_cpp("#include <iostream>\nint main(){int x;std::cin>>x;std::cout<<x*2;}")
    assert outcome.status == "done"
    assert program is not None
    assert run_program(program, b"21", SMALL).stdout == b"42"
    nothing, outcome = sandbox.compile_cpp("int main(){ return x; }")
    assert nothing is None
    assert b"error" in outcome.stderr
    nothing, outcome = sandbox.compile_cpp('#include "/etc/passwd"\nint main(){}')
    assert nothing is None
    assert b"No such file" in outcome.stderr


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    close_room()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxMissing, match="bubblewrap"):
        run("print(1)")


def test_without_a_sandbox_by_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(UNSAFE, "1")
    with contextlib.closing(get_room()):
        assert run("print(1 + 1)").stdout == b"2\n"
        assert run("while True: pass", limits=replace(SMALL, seconds=0.2, total=0.2)).status == "time_limit"
        assert sandbox.notes()["sandbox"] == "none"
    monkeypatch.undo()
    assert sandbox.notes()["sandbox"] == "bubblewrap"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_whole_instructions_with_jumps_inside(machine: str) -> None:
    found = build_filter(machine)
    assert found is not None
    assert len(found) % 8 == 0
    count = len(found) // 8
    for at in range(count):
        code, true, false = found[8 * at] | found[8 * at + 1] << 8, found[8 * at + 2], found[8 * at + 3]
        assert code in (0x20, 0x15, 0x35, 0x45, 0x06)
        assert at + 1 + max(true, false) < count or code == 0x06
    assert build_filter("riscv64") is None
