"""Verifying as Python functions: re-verify a warehouse, compare verdicts, name what could not be judged, see whether
all works here. The command line calls these and prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from factory.diagnosis import Diagnosis, diagnose
from factory.engine.errors import UsageError
from factory.engine.executors.base import make_executor
from factory.engine.progress import Progress, Silent
from factory.engine.reverify import Stale, find_stale
from factory.engine.reverify import reverify as run_again
from factory.engine.run import RunReport
from factory.engine.verdicts import VerdictDiff, diff_verdicts
from factory.engine.verdicts import unjudged as find_unjudged
from warehouse import Warehouse
from warehouse.store import DEFAULT_ROOT


def reverify(prefix: str = "", *, op: str | None = None, warehouse: str | Path = DEFAULT_ROOT,
             dry_run: bool = False, plugins: Sequence[str] = (), executor: str = "local", workers: int | None = None,
             progress: Callable[[list[str]], Progress] = lambda _steps: Silent(), max_failed: float | None = None,
             looked: Callable[[int], None] = lambda _datasets: None) -> tuple[list[Stale], list[RunReport]]:
    """Judge again, without generating, what older versions of the verifiers have judged.

    Args:
        prefix: only datasets whose names begin so.
        op: only this verifier, as `verify.math`.
        dry_run: only tell what would be judged again.
        plugins: modules that define further verifiers.
        max_failed: share of rows that may fail before a step does (default: as for any step).
        looked: hears how many datasets of verdicts were looked at.

    Returns:
        One entry for each dataset whose verifier changed, and the reports of the runs. See `factory.engine.reverify`.

    Raises:
        UsageError: no dataset of verdicts has the prefix, or `op` is no verifier.
    """
    if "://" in str(warehouse):
        raise UsageError(f"{warehouse}: verifiers run on a warehouse in a folder")
    opened = Warehouse(warehouse)
    if dry_run:
        return find_stale(opened, prefix, op, plugins, looked), []
    runner = make_executor(executor, workers)
    try:
        return run_again(opened, runner, prefix, op, plugins, progress, max_failed, looked)
    finally:
        runner.close()


def verdicts_diff(old: str, new: str, *, warehouse: str | Path = DEFAULT_ROOT) -> VerdictDiff:
    """Compare two versions of verdicts, or those of two verifiers over the same rows. See `factory.engine.verdicts`."""
    return diff_verdicts(Warehouse(warehouse), old, new)


def unjudged(ref: str, *, warehouse: str | Path = DEFAULT_ROOT) -> pl.DataFrame:
    """The prompts whose reference a dataset's verifier could not use; see `factory.engine.verdicts`."""
    return find_unjudged(Warehouse(warehouse), ref)


def doctor(*, warehouse: str | Path = DEFAULT_ROOT) -> Diagnosis:
    """What works on this machine: extras, sandbox, devices, disk, every verifier's trials; see `factory.diagnosis`."""
    return diagnose(warehouse)
