"""`factory doctor` says what works here, what is missing and what that would bring, and which verifiers are right."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

from factory import diagnosis
from factory.engine.op import _OPS, Kind, NoParams, OpContext, Trial, op


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Shell(tmp_path_factory.mktemp("doctor")).json("doctor")


def test_every_finding_says_what_to_do(found: Any) -> None:
    by_name = {each["name"]: each for each in found["findings"]}
    assert {"python", "core packages", "extra gym", "extra train", "extra vllm", "bubblewrap", "g++", "gpu",
            "disk"} <= set(by_name)
    assert by_name["core packages"]["state"] == "ok"
    assert "polars" in by_name["core packages"]["found"]
    for each in found["findings"]:
        assert each["state"] in ("ok", "missing", "broken")
        assert each["found"]
        assert each["state"] == "ok" or (each["enables"] and each["next_act"]), each
    assert (by_name["g++"]["state"] == "ok") == (shutil.which("g++") is not None)
    assert (by_name["bubblewrap"]["state"] == "missing") == (shutil.which("bwrap") is None)


def test_verifiers_accept_their_golds_and_refuse_mutated_ones(found: Any) -> None:
    proofs = {each["op"]: each for each in found["verifiers"]}
    assert {"verify.choice", "verify.format", "verify.gym"} <= set(proofs)
    for name, proof in proofs.items():
        assert proof["state"] != "broken", proof
        if proof["state"] == "ok" and not proof["failed"]:
            assert (proof["accepts"], proof["refuses"]) == (1.0, 1.0), name
    assert found["broken"] == []


def test_in_words(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "prove_verifiers", lambda: [diagnosis.Proof("verify.x", 3, "ok", 4, 4, 5, 5)])
    said = shell("doctor").stdout
    assert "verify.x 3" in said
    assert "4 of 4 (100 %)" in said
    assert "nothing that is installed is broken" in said


def test_what_is_broken_is_the_exit_code(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    @op("test.yes", version=1, kind=Kind.SCORE, trials=lambda _params: [Trial({"a": "1"}, "incorrect")])
    def yes(batch: Any, params: NoParams, ctx: OpContext) -> Any:
        """Accepts all."""
        return batch.select(passed=True)

    try:
        found = shell.json("doctor", code=1)
    finally:
        del _OPS["test.yes"]
    assert found["broken"] == ["test.yes"]
    (proof,) = (each for each in found["verifiers"] if each["op"] == "test.yes")
    assert proof["refuses"] == 0.0
    assert proof["faults"]


def test_an_old_installation_hides_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an extra needs is what the source says; where only an old installation speaks, an extra that it does not
    know is no extra that is there."""
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("trl", "peft"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(diagnosis, "prove_verifiers", list)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: ["polars>=1", 'polars>=1; extra == "train"'])
    train = {each["name"]: each for each in shell.json("doctor")["findings"]}["extra train"]
    assert train["state"] == "missing"
    assert {"trl", "peft"} <= set(train["found"].replace(",", " ").split())
    monkeypatch.setattr(diagnosis, "SOURCE", tmp_path / "none.toml")
    by_name = {each["name"]: each for each in shell.json("doctor")["findings"]}
    assert (by_name["core packages"]["state"], by_name["extra train"]["state"]) == ("ok", "ok")
    assert (by_name["extra gym"]["state"], by_name["extra gym"]["next_act"]) == ("missing", "pip install -e '.[gym]'")
