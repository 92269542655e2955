"""One contract over all verifiers: found by name, imported when asked for, timed, batched, open to plugins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from factory.engine.errors import UsageError
from factory.verifiers.contract import get_verifier, names, verifier, verify, verify_many, versions
from factory.verifiers.verdict import Verdict


def test_the_same_call_asks_every_verifier() -> None:
    assert verify("choice", "The answer is (B).", "B").label == "correct"
    assert verify("verify.choice", "The answer is (B).", "Paris", options=["Rome", "Paris"]).label == "correct"
    assert verify("format", "<think>a</think><answer>b</answer>").label == "correct"
    assert verify("format", "<think>a</think>b", form="r1_zero").reason_code == "missing_answer"
    assert verify("math", r"\boxed{7}", "7").label == "correct"


def test_a_batch_says_what_single_calls_say_and_how_long_it_took() -> None:
    responses, references = ["A", "B", None, "C or D"], ["A", "A", "A", "D"]
    batch = verify_many("choice", responses, references)
    assert batch == [verify("choice", response, gold) for response, gold in zip(responses, references, strict=True)]
    assert all(verdict.seconds > 0 for verdict in batch)
    assert verify_many("choice", [], []) == []


def test_time_is_no_part_of_a_verdict() -> None:
    assert Verdict("correct", "equal", "r", seconds=1.0) == Verdict("correct", "equal", "r", seconds=2.0)


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match=r"'mth'.*math"):
        verify("mth", "1", "1")
    with pytest.raises(UsageError, match=r"'choice'.*colour"):
        verify("choice", "A", "A", colour="red")
    with pytest.raises(UsageError, match="2 responses and 1 references"):
        verify_many("choice", ["A", "B"], ["A"])


def test_references_and_options_may_be_data() -> None:
    assert verify("math", r"\boxed{4}", 4).label == "correct"
    assert verify("choice", "B", 1, gold="index0", options=["Rome", "Paris"]).label == "correct"
    for options in ({"A": "Rome", "B": "Paris"}, '["Rome", "Paris"]', ("Rome", "Paris")):
        assert verify("choice", "Paris", "B", options=options).label == "correct"
    item = {"question": "", "answer": " ", "metadata": {"source_dataset": "gcd", "numbers": (4, 6)}}
    assert verify("gym", "2", item).reason_code == "gold_unparseable"
    with pytest.raises(UsageError, match="is no JSON"):
        verify("gym", "2", {"answer": {1}})


def test_a_setting_names_the_values_that_it_takes() -> None:
    with pytest.raises(UsageError, match=r"no form 'r1-zero'.*r1_zero, r1,"):
        verify("format", "r", form="r1-zero")
    with pytest.raises(UsageError, match=r"no gold 'index'.*auto, index0, index1"):
        verify("choice", "B", "1", gold="index")


def test_every_verifier_has_a_version_and_can_be_loaded() -> None:
    known = versions()
    assert {"math", "choice", "format", "gym"} <= set(known)
    assert all(isinstance(version, int) for version in known.values())
    for name in names():
        assert get_verifier(name).name == name


def test_a_plugin_registers_its_own_with_a_batched_form() -> None:
    def many(pairs: list[tuple[str, str]]) -> list[Verdict]:
        return [Verdict("correct", "batched", str(len(pairs))) for _ in pairs]

    @verifier("test_echo", many=many)
    def echo(response: str, reference: str) -> Verdict:
        return Verdict("correct" if response == reference else "incorrect", "echo", "")

    assert [verdict.reason for verdict in verify_many("test_echo", ["a", "b"], ["a", "a"])] == ["2", "2"]
    assert "test_echo" in names()
    with pytest.raises(UsageError, match=r"factory\.verifiers\.math"):
        verifier("math")(echo)


def test_one_verifier_loads_no_other() -> None:
    script = ("from factory.verifiers.contract import verify\nimport sys\n"
              "assert verify('choice', 'A', 'A').label == 'correct'\n"
              "unwanted = ('math_verify', 'sympy', 'reasoning_gym', 'factory.verifiers.math')\n"
              "print(*(name for name in unwanted if name in sys.modules))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
