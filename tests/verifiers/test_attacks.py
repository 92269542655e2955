"""No attack gets out, none is judged correct, and the neighbour that is judged right after is.

`correct` is what each attack is after (`attacks/kit.py` says how), so one assertion holds for all. What the host sees
afterwards is in `attacks/host.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import polars as pl
import pytest
from attacks.bombs import BOMBS, MEMORY
from attacks.cheats import CHEATS
from attacks.cpp import CPP
from attacks.escapes import ESCAPES
from attacks.host import Host
from attacks.hostile_tests import HOSTILE
from attacks.kit import GOOD, GOOD_TESTS, HARD, Attack, lcg
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.op import OpContext
from factory.verifiers.code import CodeParams, check_code, verify_code
from factory.verifiers.code.extract import LONGEST, take_code
from factory.verifiers.code.results import CodeVerdict
from factory.verifiers.code.shapes import TestsInvalid, read_tests
from factory.verifiers.sandbox import Limits, SandboxMissing, get_room

MB = 1 << 20
SHORT = Limits(seconds=0.5, total=1.0, memory=256 * MB, processes=32, disk=16 * MB, output=2 * MB)
LONG = Limits(seconds=4.0, total=8.0, memory=1024 * MB, processes=32, disk=16 * MB, output=2 * MB)
RESIDENT = 1536 * MB
"""Four times what the limit allows, for it is enforced by looking twenty times a second; without it: 3 GB."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTORY_ATTACKED_SECRET", "")
        try:
            get_room()
        except SandboxMissing as error:
            pytest.skip(str(error))
        yield Host(tmp_path_factory.mktemp("outside"))


def _with_marks(attacks: list[Attack]) -> list[object]:
    return [pytest.param(attack, id=attack.name, marks=[pytest.mark.exhaustive] if attack.slow else [])
            for attack in attacks]


def _judge(host: Host, attack: Attack, **changes: object) -> CodeVerdict:
    if attack.language == "cpp" and shutil.which("g++") is None:
        pytest.skip("there is no g++")
    response, tests = attack.fill(host.known())
    if changes:
        tests = json.dumps({**json.loads(tests), **changes})
    verdict = check_code(response, tests, language=attack.language, limits=LONG if attack.shape in ("act",
        "leak") else SHORT)
    assert verdict.label != "correct", f"{attack.name} succeeded: {verdict.reason}"
    if host.secret not in tests:
        assert host.secret not in verdict.reason
    return verdict


def _assert_unharmed(host: Host) -> None:
    neighbour = check_code(GOOD, GOOD_TESTS, limits=SHORT)
    assert neighbour.label == "correct", f"the neighbour is {neighbour.label}: {neighbour.reason}"
    assert host.harm() == []


@pytest.mark.parametrize("attack", _with_marks(ESCAPES))
def test_nobody_gets_out(host: Host, attack: Attack) -> None:
    verdict = _judge(host, attack)
    assert verdict.tests[:1] == (True,), f"the attack broke: {verdict.reason}"
    _assert_unharmed(host)


@pytest.mark.parametrize("attack", _with_marks(CHEATS))
def test_nobody_passes_without_computing(host: Host, attack: Attack) -> None:
    verdict = _judge(host, attack)
    assert attack.shape != "leak" or verdict.tests[:1] == (True,), f"the attack broke: {verdict.reason}"
    if attack.tests is None and attack.shape == "cheat":  # once more with tests that run in a sandbox of their own
        _judge(host, attack, tests=[f"wanted = True\n{test}" for test in HARD])
    _assert_unharmed(host)


@pytest.mark.parametrize("attack", _with_marks([*BOMBS, *HOSTILE]))
def test_nobody_harms_the_machine(host: Host, attack: Attack) -> None:
    if attack in MEMORY:
        with host.memory() as peak:
            verdict = _judge(host, attack)
        assert peak[0] < RESIDENT
    else:
        verdict = _judge(host, attack)
    assert attack.shape == "cheat" or not attack.ends or verdict.reason_code in attack.ends, verdict.reason
    assert attack.shape != "act" or verdict.tests[:1] == (True,), f"the attack broke: {verdict.reason}"
    _assert_unharmed(host)


@pytest.mark.parametrize("attack", _with_marks(CPP))
def test_no_machine_code_gets_out(host: Host, attack: Attack) -> None:
    verdict = _judge(host, attack)
    assert verdict.reason_code in attack.ends, verdict.reason
    _assert_unharmed(host)


@settings(max_examples=25, deadline=None)
@given(frames=st.lists(st.one_of(
    st.binary(max_size=60),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["ok", "err",
        "ready", "?"]),
                 lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                     st.sampled_from(["ref", "own", "int", "tuple", "dict", "set", "class", "args", "builtin"]), inner,
                     max_size=2), max_leaves=8).map(lambda data: json.dumps(data).encode()),
    st.tuples(st.just("ok"), st.dictionaries(st.sampled_from(["own", "ref", "Decimal", "range", "namedtuple", "float"]),
                                             st.text(max_size=5) | st.integers(-2, 2), max_size=1), st.just([])).map(
        lambda data: json.dumps(data).encode())), min_size=1, max_size=4), own=st.booleans())
def test_no_forged_frame_passes(host: Host, frames: list[bytes], own: bool) -> None:
    source = (f"import os\ndef f(seed):\n    for body in {frames!r}:\n"
              "        os.write(4, len(body).to_bytes(4, 'little') + body)\n    return 0\n")
    tests = HARD[:1] if own else [f"wanted = True\n{HARD[0]}"]
    verdict = check_code(f"```python\n{source}```", {"type": "asserts", "tests": tests, "entry_point": "f"},
        limits=SHORT)
    assert verdict.label != "correct"


def test_every_attack_is_a_program_with_a_name_of_its_own() -> None:
    attacks = [*ESCAPES, *CHEATS, *BOMBS, *HOSTILE, *CPP]
    assert len({attack.name for attack in attacks}) == len(attacks) >= 60
    for attack in attacks:
        if attack.language == "python":
            compile(attack.source.replace("@PORT@", "1"), attack.name, "exec")


def test_a_room_dies_with_its_process(host: Host) -> None:
    """A worker that is killed leaves no container and nothing that ran in it."""
    response, tests = next(attack for attack in BOMBS if attack.name == "stops_its_children").fill(host.known())
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfrom factory.verifiers.code import check_code\n"
         "from factory.verifiers.sandbox import Limits\n"
         "check_code(sys.stdin.read(), sys.argv[1], limits=Limits(seconds=60))", tests],
        stdin=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    worker.stdin.write(response)
    worker.stdin.close()
    try:
        while not host.strangers():
            assert worker.poll() is None, "the attack never ran"
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait()
    assert host.harm() == []


ODD_TEXTS = ("def f(s):\n    raise ValueError('\\ud800')", "def f(s):\n    return '\\udc80'",
    "raise ValueError('\\ud800')",
             "def f(s):\n    raise type('\\ud801', (Exception,), {})('\\x00\\ud800')",
                 "def f(s):\n    return {'\\ud800': b'\\xff'}")


def test_what_a_program_says_never_breaks_a_batch(host: Host) -> None:
    """Texts that no table holds come back as verdicts, and the rows between them keep theirs."""
    rows = []
    for source in ODD_TEXTS:
        for tests in (HARD[:1], [f"found = f(17)\nassert found == 1, found\n{HARD[0]}"]):
            rows += [(f"```python\n{source}\n```", json.dumps({"type": "asserts", "tests": tests})), (GOOD, GOOD_TESTS)]
    rows.append((GOOD, json.dumps({"\ud800": 1})))
    batch = pl.DataFrame(rows, schema={"response": pl.String, "tests": pl.String}, orient="row")
    said = verify_code(batch, CodeParams(time_limit=1), OpContext())
    assert said["label"].to_list() == ["incorrect", "correct"] * (2 * len(ODD_TEXTS)) + ["undecided"]
    assert host.harm() == []


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(
    ["asserts", "check", "stdio", "unittest", "calls", "functional", "{", "[1]", "assert f(1) == 2"]),
        lambda inner: st.lists(
        inner, max_size=3) | st.dictionaries(st.sampled_from([
            "type", "tests", "test", "setup", "entry_point", "inputs", "outputs", "input", "output", "checker", "files",
            "fn_name", "metadata", "testtype", "test_list", "test_setup_code", "test_imports", "public_tests"]), inner,
            max_size=4), max_leaves=10)


@given(JSON, st.booleans())
def test_tests_of_any_shape_are_read_or_refused(data: object, as_text: bool) -> None:
    try:
        suite = read_tests(json.dumps(data) if as_text else data)
    except TestsInvalid:
        return
    assert suite.tests or suite.test or suite.calls or suite.inputs or suite.files
    assert all(isinstance(text, str) for text in (suite.setup, *suite.tests, *suite.inputs, *suite.outputs))


@pytest.mark.parametrize("text", [
    "/**/" * 20_000 + "x", "//\n" * 20_000 + "x", "/*" * 50_000, "#include" + "} " * 50_000 + "x", "```\n" * 50_000,
    "`" * 100_000 + "\n", " " * 200_000, "(" * 50_000, "-" * 200_000 + "1", "f" + "()" * 40_000])
def test_no_response_keeps_the_reader_busy(text: str) -> None:
    for language in ("python", "cpp", "auto"):
        assert take_code(text, language) is None or len(text) < LONGEST


def test_the_kit_sees_an_attack_that_succeeds(host: Host) -> None:
    """What is asserted above can fail: deeds that are allowed, or done by the host itself, are noticed."""
    for attack in (Attack("does_it", "def act():\n    return True\n"),
                   Attack("knows_it", f"def act():\n    return {host.secret!r}\n", "leak")):
        response, tests = attack.fill(host.known())
        assert check_code(response, tests, limits=LONG).label == "correct"
    (host.outside / "written").touch()
    with subprocess.Popen(["sleep", "20"], env={"MARK": host.mark}) as stranger:
        try:
            assert f"{stranger.pid}: environ" in host.strangers()
        finally:
            stranger.kill()
    harm = host.harm()
    (host.outside / "written").unlink()
    assert len(harm) == 1
    assert "written" in harm[0]
    assert host.harm() == []


def test_another_room_is_no_neighbour_of_a_bomb(host: Host) -> None:
    """Workers have rooms of their own: while one is under attack, the answers in the other keep their verdicts."""
    bombs = [attack.fill(host.known()) for attack in BOMBS if attack.name in ("fork_bomb", "memory_in_many_processes")]
    code = ("import json, sys\nfrom factory.verifiers.code import check_code\n"
            "from factory.verifiers.sandbox import Limits\n"
            "limits = Limits(seconds=1, total=1, memory=256 << 20, disk=16 << 20)\n"
            "for pair in json.load(sys.stdin):\n    print(check_code(*pair, limits=limits).label)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(bombs))
        worker.stdin.close()
        judged = 0
        while worker.poll() is None or judged < 20:
            assert check_code(GOOD, GOOD_TESTS, limits=LONG).label == "correct"
            judged += 1
        assert worker.stdout is not None
        assert worker.stdout.read().split() == ["incorrect"] * len(bombs)
    assert host.harm() == []


SHAPES = {
    "check": {"type": "check", "entry_point": "f", "prompt": "def f(seed):\n",
              "test": "def check(candidate):\n    for seed in (17, 4242):\n        assert candidate(seed) == "
                      f"{{17: {lcg(17)}, 4242: {lcg(4242)}}}[seed]\n"},
    "calls": {"fn_name": "f", "inputs": [[17], [4242]], "outputs": [lcg(17), lcg(4242)]},
    "unittest": {"type": "unittest", "files": {"test_it.py": "import unittest\nfrom solution import f\n"
                 "class TestIt(unittest.TestCase):\n    def test_it(self):\n"
                 f"        self.assertEqual(f(17), {lcg(17)})\n"
                 f"def test_other():\n    assert f(4242) == {lcg(4242)}\n"}},
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attack",
    _with_marks([each for each in CHEATS if each.tests is None and each.shape == "cheat"]))
def test_nobody_passes_tests_of_another_shape(host: Host, attack: Attack, shape: str) -> None:
    assert check_code(GOOD, SHAPES[shape], limits=LONG).label == "correct"
    response, _ = attack.fill(host.known())
    assert check_code(response, SHAPES[shape], limits=SHORT).label != "correct"
    _assert_unharmed(host)
