"""Being judged correct without computing: lying values, a harness turned against itself, looking for the answers."""

from __future__ import annotations

from attacks.kit import HARD, Attack, stdio

_EVERYWHERE = '''
import os
def everywhere(data):
    for number in (1, 2, *range(3, 64)):
        try:
            os.write(number, data)
        except OSError:
            pass
def framed(text):
    return len(text).to_bytes(4, 'little') + text
'''
_PASSES = """b'["result", 0, "", ""]', b't["start", 0]', b't["count", 3]', b't["result", 0, "", ""]',
    b't["result", 1, "", ""]', b't["result", 2, "", ""]', b't["done"]', b'["done"]', b'["passed", true]',
    b'{"passed": true}', b'r["ok", true, []]', b'["ok", true, []]', b'["ok", {"own": 0}, []]'"""


def _class(name: str, body: str, base: str = "object", made: str = "Odd()") -> Attack:
    return Attack(name, f"class Odd({base}):\n    {body}\ndef f(seed):\n    return {made}\n", "cheat")


VALUES = [
    _class("equal_to_everything", "__eq__ = lambda self, other: True\n    __ne__ = lambda self, other: False\n"
           "    __hash__ = lambda self: 1"),
    _class("an_int_equal_to_everything", "__eq__ = lambda self, other: True\n    __hash__ = int.__hash__", "int"),
    _class("a_text_equal_to_everything", "__eq__ = lambda self, other: True\n    __hash__ = str.__hash__", "str"),
    _class("a_list_equal_to_everything", "__eq__ = lambda self, other: True\n    __iter__ = lambda self: iter([1])",
        "list"),
    _class("a_dict_equal_to_everything", "__eq__ = lambda self, other: True\n    items = lambda self: []", "dict"),
    _class("a_float_equal_to_everything", "__eq__ = lambda self, other: True\n    __sub__ = __rsub__ = lambda a, b: 0",
           "float"),
    _class("claims_another_class", "__class__ = property(lambda self: int)\n    __eq__ = lambda self, other: True"),
    _class("a_lying_repr", "__repr__ = __str__ = lambda self: '0'"),
    _class("a_raising_repr", "def __repr__(self): raise KeyError\n    __str__ = __repr__"),
    _class("an_endless_repr", "__repr__ = __str__ = lambda self: repr([self])"),
    _class("a_huge_repr", "__repr__ = __str__ = lambda self: 'x' * 300_000_000"),
    _class("arithmetic_that_absorbs", "__sub__ = __rsub__ = __add__ = __mod__ = __abs__ = lambda *a: 0\n"
           "    __lt__ = __le__ = __gt__ = __ge__ = lambda *a: True"),
    _class("a_class_made_by_a_class", "__eq__ = lambda self, other: True\n    __instancecheck__ = lambda *a: True\n"
           "    mro = lambda cls: [cls, object]", "type", "Odd('X', (), {})"),
    _class("an_object_that_answers_to_any_name", "__getattr__ = lambda self, name: self\n"
           "    __call__ = lambda self, *a, **k: True"),
    _class("a_pickle_that_runs", "__reduce__ = lambda self: (__import__('os').system, ('touch @OUTSIDE@/written',))"),
    _class("a_finaliser", "def __del__(self):\n        import os\n        os.write(1, b'OK'); os._exit(0)"),
    Attack("a_mock", "from unittest.mock import ANY, MagicMock\ndef f(seed):\n    return ANY\n", "cheat"),
    Attack("a_list_of_itself", "def f(seed):\n    a = []\n    a.append(a)\n    return a\n", "cheat"),
    Attack("a_deep_list", "def f(seed):\n    a = []\n    for _ in range(100_000):\n        a = [a]\n    return a\n",
        "cheat"),
    Attack("a_huge_list", "def f(seed):\n    return [0] * 30_000_000\n", "cheat"),
    Attack("a_huge_integer", "def f(seed):\n    return 1 << 400_000_000\n", "cheat", slow=True),
    Attack("nothing_at_all", "def f(seed):\n    return NotImplemented\n", "cheat"),
    Attack("a_number_of_no_value", "def f(seed):\n    return float('nan')\n", "cheat",
           tests=["assert abs(f(17) - 123456.75) < 1e-6",
               "assert not (f(17) < 123456.7 or f(17) > 123456.8) and f(17) == f(17)"]),
]

ENDINGS = [
    Attack("exits_at_import", "import os\nos._exit(0)\n", "cheat"),
    Attack("exits_when_called", "import os\ndef f(seed):\n    os._exit(0)\n", "cheat"),
    Attack("leaves_at_import", "import sys\ndef f(seed): return 0\nsys.exit(0)\n", "cheat"),
    Attack("leaves_when_called", "def f(seed):\n    raise SystemExit(0)\n", "cheat"),
    Attack("leaves_at_exit", "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(seed):\n    exit()\n",
        "cheat"),
    Attack("quits_like_a_test_runner", "def f(seed):\n    raise KeyboardInterrupt\n", "cheat"),
    Attack("closes_a_generator", "def f(seed):\n    raise GeneratorExit\n", "cheat"),
    Attack("asks_to_be_skipped", "class SkipTest(Exception): pass\nclass Skipped(Exception): pass\n"
           "def f(seed):\n    raise SkipTest('skip')\n", "cheat"),
    Attack("asks_to_be_skipped_for_real", "import unittest\ndef f(seed):\n    raise unittest.SkipTest('skip')\n",
        "cheat"),
    Attack("ends_the_loop_of_the_test", "def f(seed):\n    raise StopIteration\n", "cheat", tests=[
        "for got, wanted in zip(map(f, [1, 2, 3]), [845, 1234, 5678]):\n    assert got == wanted",
        "assert all(map(lambda seed: f(seed) == 123456, [1, 2, 3]))"]),
    Attack("swallows_the_assertion", "class Odd:\n    __enter__ = lambda self: self\n"
           "    __exit__ = lambda *a: True\n    value = 1\ndef f(seed):\n    return Odd()\n", "cheat", tests=[
               "with f(3) as got:\n    assert got.value == 918273"]),
    Attack("raises_what_is_caught_by_all",
        "class Odd(type):\n    __instancecheck__ = __subclasscheck__ = lambda *a: True\n"
           "class E(Exception, metaclass=Odd): pass\ndef f(seed):\n    raise E\n", "cheat"),
    Attack("an_exception_that_lies", "class AssertionError(Exception):\n    def __str__(self): raise self\n"
           "    __eq__ = lambda *a: True\ndef f(seed):\n    raise AssertionError\n", "cheat"),
    Attack("crashes", "import ctypes\ndef f(seed):\n    ctypes.string_at(0)\n", "cheat"),
    Attack("aborts", "import os\ndef f(seed):\n    os.abort()\n", "cheat"),
]

NAMES = [
    Attack("brings_its_own_abs", "def abs(x): return 0\ndef f(seed): return 0\n", "cheat",
           tests=["assert abs(f(17) - 8127389.5) < 1e-6"]),
    Attack("brings_its_own_builtins", "all = any = isinstance = bool = lambda *a, **k: True\n"
           "len = sorted = list = set = tuple = str = int = float = round = sum = lambda *a, **k: 0\n"
           "def f(seed): return 0\n", "cheat",
           tests=["assert sorted(f(17)) == sorted([8, 2, 9])", "assert round(f(17), 2) == 8.25",
                  "assert len(str(f(17))) == 77", "assert all([f(17) == 5])", "assert isinstance(f(17), dict)"]),
    Attack("brings_its_own_modules", "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n"
           "class np:\n    allclose = staticmethod(lambda *a, **k: True)\ndef f(seed): return 0\n", "cheat",
           tests={"type": "asserts", "setup": "import math", "entry_point": "f",
                  "tests": ["assert math.isclose(f(17), 812.5)"]}),
    Attack("replaces_a_function_of_the_tests", "def same(a, b): return True\ndef f(seed): return 0\n", "cheat",
           tests={"type": "asserts", "setup": "def same(a, b):\n    return a == b", "entry_point": "f",
                  "tests": ["assert same(f(17), 812398)"]}),
    Attack("replaces_the_check", "def check(candidate): pass\nMETADATA = {}\ndef f(seed): return 0\n", "cheat",
           tests={"type": "check", "entry_point": "f", "prompt": "",
                  "test": f"def check(candidate):\n    {HARD[0].replace('f(', 'candidate(')}\n"}),
    Attack("replaces_the_expected_values", "expected = 0\nEXPECTED = [0]\ndef f(seed): return 0\n", "cheat",
           tests={"type": "asserts", "setup": "expected = 71234\nEXPECTED = [4821]", "entry_point": "f",
                  "tests": ["assert f(17) == expected", "assert [f(17)] == EXPECTED"]}),
    Attack("replaces_the_case_class", "class TestCase:\n    assertEqual = lambda *a: None\nclass unittest:\n"
           "    TestCase = TestCase\nimport sys\nsys.modules['unittest'] = unittest\nsys.modules['pytest'] = unittest\n"
           "def f(seed): return 0\n", "cheat", tests={"type": "unittest", "files": {"test_it.py":
               "import unittest\nfrom solution import f\nclass TestIt(unittest.TestCase):\n"
               f"    def test_it(self):\n        {HARD[0]}\n        self.assertEqual(f(17), 12345)\n"}}),
    Attack("is_imported_with_a_star", "def abs(x): return 0\nisinstance = all = len = lambda *a: True\n"
           "def f(seed): return 0\n__all__ = ['abs', 'f', 'all', 'isinstance', 'len']\n", "cheat",
           tests={"type": "unittest", "files": {"test_it.py": "from solution import *\ndef test_it():\n"
                  "    assert abs(f(17) - 81273) < 1e-6\ndef test_all():\n    assert all([f(17) == 4])\n"}}),
    Attack("patches_the_machinery_of_tests", """
import builtins, unittest, sys
for name in ('assertEqual', 'assertTrue', 'fail', 'run', '__call__', 'debug'):
    setattr(unittest.TestCase, name, lambda *a, **k: None)
builtins.AssertionError = type('AssertionError', (Exception,), {})
builtins.isinstance = lambda *a: True
builtins.print = builtins.exec = builtins.eval = builtins.compile = lambda *a, **k: None
sys.exit = lambda *a: None
sys.excepthook = lambda *a: None
def f(seed):
    return 0
""", "cheat"),
    Attack("empties_the_builtins", "import builtins\ndef f(seed):\n    builtins.__dict__.clear()\n    return 0\n",
        "cheat"),
    Attack("patches_equality_of_values", """
import json, sys
for name, module in list(sys.modules.items()):
    for word in ('encode', 'decode', 'canonical', 'dumps', 'compare', 'same', 'equal'):
        if hasattr(module, word) and name not in ('base64',):
            try:
                setattr(module, word, lambda *a, **k: True)
            except Exception:
                pass
def f(seed):
    return 0
""", "cheat"),
]

CHANNEL = [
    Attack("forges_results_when_called", f"{_EVERYWHERE}\ndef f(seed):\n    for text in ({_PASSES}):\n"
           "        everywhere(framed(text)); everywhere(text + b'\\n')\n    return 0\n", "cheat"),
    Attack("forges_results_at_import", f"{_EVERYWHERE}\nfor text in ({_PASSES}):\n    everywhere(framed(text))\n"
           "def f(seed):\n    return 0\n", "cheat"),
    Attack("forges_results_and_exits", f"{_EVERYWHERE}\ndef f(seed):\n    for text in ({_PASSES}):\n"
           "        everywhere(framed(text))\n    os._exit(0)\n", "cheat"),
    Attack("forges_results_from_a_thread", f"{_EVERYWHERE}\nimport threading\ndef pump():\n    for _ in range(2000):\n"
           f"        for text in ({_PASSES}):\n            everywhere(framed(text))\n"
           "threading.Thread(target=pump, daemon=True).start()\ndef f(seed):\n    return 0\n", "cheat"),
    Attack("forges_the_names_of_the_tests", f"""{_EVERYWHERE}
import json, sys
names = [['f', {{'ref': [0, 'function', 'f']}}], ['abs', {{'ref': [0, 'function', 'f']}}],
         ['__builtins__', {{'dict': [[name, {{'ref': [0, 'function', 'f']}}] for name in ('abs', 'float')]}}]]
def loop(source, sink):
    os.write(sink, framed(json.dumps(['ready', names]).encode()))
    while True:
        size = os.read(source, 4)
        if len(size) < 4:
            os._exit(0)
        os.read(source, int.from_bytes(size, 'little'))
        os.write(sink, framed(b'["ok", 0, []]'))
loop(3, 4)
""", "cheat", tests=["assert abs(f(17) - 8127389.5) < 1e-6"]),
    Attack("forges_an_equal_value", f"""{_EVERYWHERE}
import json
def f(seed):
    for data in ({{'own': 0}}, {{'ref': [0, 'exception', 'AssertionError', 'SystemExit']}}, {{'Decimal': 'NaN'}},
                 {{'namedtuple': ['X', ['a', '__eq__'], [1, 2]]}}, {{'ref': [-1, 'class', 'int']}},
                 {{'ref': [0, 'iterator', '']}}):
        everywhere(framed(json.dumps(['ok', data, [[0, data]]]).encode()))
    return 0
""", "cheat"),
    Attack("forges_an_exception", f"""{_EVERYWHERE}
import json
def f(seed):
    for name in ('SystemExit', 'StopIteration', 'exec', 'type', 'object', 'KeyboardInterrupt', 'GeneratorExit'):
        about = {{'builtin': name, 'name': 'SkipTest', 'args': [0], 'text': '', 'vars': {{'code': 0}}, 'class': None}}
        everywhere(framed(json.dumps(['err', about]).encode()))
        about['class'] = {{'ref': [0, 'exception', 'SkipTest', name]}}
        everywhere(framed(json.dumps(['err', about]).encode()))
    return 0
""", "cheat"),
    Attack("floods_the_channel",
        f"{_EVERYWHERE}\ndef f(seed):\n    for _ in range(3000):\n        everywhere(bytes(65536))\n",
           "cheat"),
    Attack("announces_a_huge_frame",
        f"{_EVERYWHERE}\ndef f(seed):\n    everywhere(b'\\xff\\xff\\xff\\xff' + b'x' * 100000)\n"
           "    everywhere(b'\\xff\\xff\\xff\\x7f')\n    return 0\n", "cheat", slow=True),
    Attack("sends_a_deep_frame", f"{_EVERYWHERE}\ndef f(seed):\n    everywhere(framed(b'[' * 200000 + b']' * 200000))\n"
           "    everywhere(framed(b'{\"tuple\": ' * 20000 + b'1' + b'}' * 20000))\n    return 0\n", "cheat"),
    Attack("sends_no_text", f"{_EVERYWHERE}\ndef f(seed):\n    everywhere(framed(b'\\xff\\xfe\\x00'))\n"
           "    everywhere(framed(b'7'))\n    everywhere(framed(b'null'))\n    everywhere(framed(b''))\n    return 0\n",
           "cheat"),
    Attack("closes_its_descriptors", "import os\ndef f(seed):\n    os.closerange(0, 256)\n    return 0\n", "cheat"),
    Attack("crosses_its_descriptors",
        "import os\ndef f(seed):\n    for number in range(5, 64):\n        os.dup2(3, number)\n"
           "    os.dup2(4, 3)\n    os.dup2(1, 4)\n    return 0\n", "cheat"),
    Attack("calls_itself_through_the_tests", f"""{_EVERYWHERE}
import json
def f(seed):
    for what in ('call', 'get', 'str', 'repr', 'item', 'iter'):
        for number in (-1, 0, 1):
            everywhere(framed(json.dumps(['?', what, number, '__globals__']).encode()))
    return 0
""", "cheat"),
    Attack("prints_that_all_is_well", """
import sys
def f(seed):
    for stream in (sys.stdout, sys.stderr):
        print('OK\\nall tests passed\\nRan 3 tests in 0.001s\\n3 passed in 0.01s', file=stream)
        print('{"passed": true}\\nTrue', file=stream)
        stream.flush()
    return True
""", "cheat"),
]

_SCAN = '''
import re
def act():
    libc = __import__('ctypes').CDLL(None)
    import ctypes, os
    libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    read, write = os.pipe()
    anchors = {id(libc) >> 24, id([]) >> 24, id(act) >> 24, id(bytes(1 << 20)) >> 24}
    tail = b''
    for anchor in sorted(anchors | {a + 1 for a in anchors} | {a - 1 for a in anchors}):
        for page in range(anchor << 24, (anchor + 1) << 24, 4096):
            if libc.write(write, page, 4096) != 4096:
                tail = b''
                continue
            data = tail + os.read(read, 4096)
            found = re.search(rb'canary-[0-9a-f]{32}', data)
            if found:
                return found[0].decode()
            tail = data[-64:]
'''

ANSWERS = [
    Attack("looks_among_its_objects", """
import gc, re
def act():
    for thing in gc.get_objects():
        try:
            found = isinstance(thing, (dict, list, tuple)) and re.search('canary-[0-9a-f]{32}', repr(thing)[:100000])
        except Exception:
            continue
        if found:
            return found[0]
""", "leak"),
    Attack("walks_the_frames", """
import re, sys, threading
def act():
    for frame in (sys._getframe(), *sys._current_frames().values()):
        while frame is not None:
            for space in (frame.f_locals, frame.f_globals):
                for value in list(space.values()):
                    found = re.search('canary-[0-9a-f]{32}', repr(value)[:200000])
                    if found:
                        return found[0]
            frame = frame.f_back
""", "leak"),
    Attack("traces_the_harness", """
import sys, re
seen = []
def trace(frame, event, arg):
    if len(seen) < 500:
        seen.append(repr((frame.f_locals, arg))[:5000])
    return trace
sys.setprofile(trace)
def act():
    sys.setprofile(None)
    found = re.search('canary-[0-9a-f]{32}', ' '.join(seen))
    return found[0] if found else None
""", "leak"),
    Attack("scans_its_memory", _SCAN, "leak"),
    Attack("reads_every_descriptor", """
import os, re
def act():
    text = b''
    for number in range(64):
        try:
            os.set_blocking(number, False)
            text += os.pread(number, 1 << 20, 0)
        except OSError:
            pass
        try:
            text += os.read(number, 1 << 20)
        except OSError:
            pass
    found = re.search(rb'canary-[0-9a-f]{32}', text)
    return found[0].decode() if found else None
""", "leak"),
    Attack("imports_the_tests", """
import importlib, re, sys
def act():
    for name in ('tests', 'test', 'test_solution', 'test_it', '__main__', 'harness', 'conftest', 'check'):
        try:
            module = importlib.import_module(name)
        except Exception:
            continue
        found = re.search('canary-[0-9a-f]{32}', repr(vars(module)))
        if found:
            return found[0]
""", "leak"),
    Attack("searches_the_disk", """
import os, re
def act():
    for root in ('.', '/tmp', '/dev/shm', '/var/tmp', '/run', '/proc/self', '/'):
        for name in os.listdir(root) if os.path.isdir(root) else ():
            path = os.path.join(root, name)
            try:
                text = open(path, 'rb').read(1 << 20) if os.path.isfile(path) else b''
            except OSError:
                continue
            found = re.search(rb'canary-[0-9a-f]{32}', text)
            if found:
                return found[0].decode()
""", "leak"),
    Attack("opens_the_function_it_is_given", """
def f(given):
    found = []
    for path in (lambda: given.__closure__[0].cell_contents, lambda: given.__globals__,
                 lambda: given.__code__.co_consts, lambda: given.__self__, lambda: given.__func__,
                 lambda: given.__class__, lambda: given.__defaults__,
                 lambda: given.__wrapped__, lambda: given.__dict__, lambda: given._secret,
                 lambda: given.__reduce_ex__(2), lambda: given._peer.exports, lambda: given.__init__.__globals__):
        try:
            found.append(repr(path()))
        except BaseException:
            pass
    import re
    secret = re.search('canary-[0-9a-f]{32}', ' '.join(found))
    return secret[0] if secret else 'nothing'
""", "cheat", tests={"type": "asserts", "entry_point": "f", "setup": (
        "SECRET = '@SECRET@'\ndef closed(secret):\n    def inner(x=secret):\n        return x == secret\n"
        "    return inner\n"
        "class Box:\n    def __init__(self, secret):\n        self._secret = secret\n"
        "    def right(self, x):\n        return x == self._secret\n"),
        "tests": ["assert f(closed(SECRET)) == SECRET", "assert f(Box(SECRET)) == SECRET",
                  "assert f(Box(SECRET).right) == SECRET", "assert f(lambda x: x == SECRET) == SECRET"]}),
]

PROGRAMS = [
    Attack("prints_nothing_and_exits", "import os\nos._exit(0)\n", "cheat", tests=stdio(17, 4242)),
    Attack("prints_tokens", "print('OK'); print('Accepted'); print('True'); print('[passed]')\n", "cheat",
        tests=stdio(17, 4242)),
    Attack("prints_no_number", "print('nan')\n", "cheat", tests=stdio(17, 4242)),
    Attack("prints_infinity", "print('inf', '-inf', '1e999')\n", "cheat", tests=stdio(17, 4242)),
    Attack("prints_every_number", "print(*range(200000))\n", "cheat", tests={
        "type": "stdio", "inputs": ["1\n"], "outputs": ["1234\n"]}),
    Attack("prints_a_long_number", "print('9' * 3000000)\n", "cheat", tests=stdio(17, 4242)),
    Attack("prints_no_text", "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 100)\n", "cheat", tests=stdio(17,
        4242)),
    Attack("prints_what_it_read", "print(input())\n", "cheat", tests=stdio(17, 4242)),
    Attack("reads_its_input_again", """
import os, re
text = b''
for number in range(64):
    for call in (lambda n: os.pread(n, 1 << 20, 0), lambda n: os.read(n, 1 << 20) if n > 2 else b''):
        try:
            os.set_blocking(number, False)
            text += call(number)
        except OSError:
            pass
try:
    os.pwrite(0, b'changed', 0)
    os.ftruncate(0, 0)
except OSError:
    pass
found = re.search(rb'canary-[0-9a-f]{32}', text)
print(found[0].decode() if found else 'nothing')
""", "cheat", tests={"type": "stdio", "inputs": ["1\n", "2\n"], "outputs": ["@SECRET@\n", "@SECRET@\n"]}),
    Attack("keeps_a_child_at_the_output", """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(100):
            time.sleep(0.1)
            print(8, flush=True)
    os._exit(0)
""", "cheat", tests=stdio(17, 4242)),
    Attack("remembers_the_last_test", """
import os
found = []
for folder in ('/tmp', '/dev/shm', '.'):
    try:
        found += [name for name in os.listdir(folder) if name.startswith('kept')]
        open(os.path.join(folder, 'kept'), 'w').write('x')
    except OSError:
        pass
print('escaped' if found else 'contained')
""", "cheat", tests={"type": "stdio", "inputs": ["1\n", "2\n", "3\n"], "outputs": ["contained\n", "escaped\n",
    "escaped\n"]}),
]

CHEATS = [*VALUES, *ENDINGS, *NAMES, *CHANNEL, *ANSWERS, *PROGRAMS]
