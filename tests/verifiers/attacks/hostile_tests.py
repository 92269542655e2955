"""Tests that are attacks themselves: they are data, and a model may have written them. The program is a right one.

A test decides the verdict, so here the question is what it may do besides, and that tests which never ran, or that
ended early, are no success.
"""

from __future__ import annotations

from typing import Any

from attacks.kit import GOOD, Attack

_PROGRAM = GOOD.removeprefix("```python\n").removesuffix("\n```")
_NEVER = ("tests_invalid", "runtime_error", "wrong_answer", "time_limit", "memory_limit", "output_limit")


def _asserts(*tests: str, setup: str = "") -> dict[str, Any]:
    return {"type": "asserts", "setup": setup, "tests": list(tests), "entry_point": "f"}


def _file(text: str) -> dict[str, Any]:
    return {"type": "unittest", "files": {"test_it.py": text}}


def _judged(name: str, tests: Any, **more: Any) -> Attack:
    return Attack(name, _PROGRAM, "bomb", _NEVER, tests, **more)


def _checked(name: str, checker: str, outputs: tuple[str, ...] = ("1\n",), source: str = "print(0)\n",
    **more: Any) -> Attack:
    return Attack(name, source, "bomb", _NEVER, {"type": "stdio", "inputs": ["1\n"] * len(outputs),
        "outputs": list(outputs),
                                                 "checker": checker}, **more)


_REACH = """
import os, socket
def reach():
    found = []
    for path in ('/etc/shadow', '@OUTSIDE@/secret.txt', '@HOME@/.bashrc', '@PROJECT@/README.md'):
        try:
            open(path).close(); found.append(path)
        except OSError: pass
    for path in ('@OUTSIDE@/written', '/usr/x', '/x'):
        try:
            open(path, 'w').write('@MARK@'); found.append(path)
        except OSError: pass
    try:
        socket.create_connection(('127.0.0.1', @PORT@), 0.3); found.append('net')
    except OSError: pass
    found += [name for name, value in os.environ.items() if 'canary-' in value]
    return found
"""
_DAEMON = """
import ctypes, os, time
if os.fork() == 0:
    os.setsid()
    ctypes.CDLL(None).prctl(15, b'@MARK@', 0, 0, 0)
    time.sleep(20)
    os._exit(0)
"""
_FORGE = """
import os
def say(*frames):
    for number in (1, 2, *range(3, 64)):
        for body in frames:
            try: os.write(number, len(body).to_bytes(4, 'little') + body)
            except OSError: pass
"""

TESTS = [
    _judged("no_tests_at_all", _asserts()),
    _judged("a_file_without_tests", _file("import unittest\nx = 1\n")),
    _judged("tests_that_are_no_program", _asserts("assert f(17 ==", "assert")),
    _judged("tests_that_exit_early", _asserts("import os; os._exit(0)", "assert f(17) == 1")),
    _judged("a_setup_that_exits", _asserts("assert f(17) > 0 or True", setup="import os\nos._exit(0)")),
    _judged("a_file_that_exits_when_imported", _file("import os\nos._exit(0)\ndef test_it(): pass\n")),
    _judged("a_file_that_leaves_when_imported", _file("import sys\nsys.exit(0)\ndef test_it(): pass\n")),
    _judged("a_test_that_leaves", _asserts("import sys; sys.exit(0)", "assert f(17) == 1")),
    _judged("tests_that_all_skip", _file("import unittest\nclass TestIt(unittest.TestCase):\n"
                                         "    @unittest.skip('no')\n    def test_it(self): self.fail()\n")),
    _judged("tests_that_reach_out", _asserts("assert reach()", setup=_REACH)),
    _judged("a_file_that_reaches_out", _file(_REACH + "def test_it():\n    assert reach()\n")),
    _judged("tests_that_leave_a_daemon", _asserts("assert f(17) == 1", setup=_DAEMON)),
    _judged("tests_that_fork_without_end", _asserts("assert f(17) == 1", setup=(
        "import os, time\nfor _ in range(11):\n    try:\n        os.fork()\n    except OSError:\n        pass\n"))),
    _judged("tests_that_use_all_memory", _asserts("assert not [bytearray(64 << 20) for _ in range(48)]")),
    _judged("tests_that_never_end", _asserts("while True: pass"), slow=True),
    _judged("tests_that_write_without_end", _asserts("import os\nwhile True: os.write(1, b'x' * 65536)"), slow=True),
    _judged("tests_that_announce_a_trillion", _asserts("assert f(17) == 1", setup=(
        _FORGE + "say(b't[\"count\", 1000000000000]', b't[\"setup\", \"x\"]')\nos._exit(0)\n"))),
    _judged("tests_that_speak_nonsense", _asserts("assert f(17) == 1", setup=(
        _FORGE + "say(b'', b't', b'tnull', b't7', b't[]', b't{}', b'c', b'q[1]', b't[\"result\"]', "
        "b't[\"count\", \"x\"]', "
        "b't' + b'[' * 100000)\nsay(b'\\xff' * 40)\nos.write(4, b'\\xff\\xff\\xff\\xff')\nos._exit(0)\n"))),
    _judged("a_test_as_deep_as_the_sea", _asserts("assert f(17) == " + "(" * 5000 + "1" + ")" * 5000)),
    _judged("an_endless_expression", _asserts("assert f(17) == 9 ** 9 ** 9 ** 9"), slow=True),
    _judged("tests_of_another_shape", {"type": "asserts", "tests": {"a": 1}, "setup": 7, "entry_point": []}),
    _judged("files_with_paths_outside", {"type": "unittest", "files": {
        "../../../..@OUTSIDE@/written": "def test_it(): assert False\n", "@OUTSIDE@/written.py": "x = 1\n"}}),
]

CHECKERS = [
    _checked("a_checker_that_never_ends", "while True: pass\n", slow=True),
    _checked("a_checker_that_is_no_program", "def (:\n"),
    _checked("a_checker_that_dies", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nos.abort()\n"),
    _checked("a_checker_that_reaches_out",
        _REACH + "import sys\nprint(1 if reach() else 0)\nsys.exit(0 if reach() else 1)\n"),
    _checked("a_checker_that_leaves_a_daemon", _DAEMON + "import sys\nprint(0)\nsys.exit(1)\n"),
    _checked("a_checker_that_floods",
        "import os, sys\nfor _ in range(500): os.write(1, b'0' * (1 << 20))\nsys.exit(1)\n"),
    Attack("an_output_that_attacks_the_checker", "print('\\x00' * 10 + '\\n' + \"'); import os; os._exit(0) #\")\n",
        "bomb",
           _NEVER, {"type": "stdio", "inputs": ["1\n"], "outputs": ["5\n"], "checker": (
               "import sys\nparts = [open(p).read() if p.startswith('/') else p for p in sys.argv[1:]]\n"
               "good = len(parts) > 2 and parts[2].strip() == parts[1].strip()\nprint(1 if good else 0)\n"
               "sys.exit(0 if good else 1)\n")}),
]

INPUTS = [
    Attack("an_input_of_no_text", "import sys\nprint(len(sys.stdin.read()))\n", "bomb", _NEVER, {
        "type": "stdio", "inputs": ["\ud800\x00\ufffe", "\x1a\x04\r\r"], "outputs": ["x\n", "y\n"]}),
    Attack("a_large_input", "import sys\nprint(len(sys.stdin.read()))\n", "bomb", _NEVER, {
        "type": "stdio", "inputs": ["1" * 3_000_000], "outputs": ["x\n"]}),
    Attack("an_output_that_is_never_matched", "print('1 ' * 100000)\n", "bomb", _NEVER, {
        "type": "stdio", "inputs": ["1"], "outputs": ["1.0000000000000001 " * 100001]}),
    Attack("inputs_of_another_shape", "print(1)\n", "bomb", _NEVER, {
        "type": "stdio", "inputs": [None, {"a": 1}], "outputs": "1"}),
]

HOSTILE = [*TESTS, *CHECKERS, *INPUTS]
