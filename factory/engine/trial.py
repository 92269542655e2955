"""Trials: a verifier shows that it accepts its own golds and refuses mutated ones before a recipe may use it.

A verifier decides what a model learns, so one that is broken here (a library that changed, a compiler that is missing,
params that make it accept everything) must not judge a single sample. An op names its trials as a function of its
params: rows with the label each must get. They run where the step's work runs, with the step's params, before the first
shard; the process that drives runs remembers what has passed.

A trial that hits a deadline or whose worker crashes is no verdict and stops nothing: if that is how the verifier always
ends, all rows fail and the step's `max_failed` stops it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from factory.engine.errors import OpError
from factory.engine.op import OpContext, OpSpec, Params, Trial

if TYPE_CHECKING:
    from factory.engine.task import Event, StepCall

_PASSED = {"correct": True, "incorrect": False, "undecided": None}


@dataclass(frozen=True, slots=True)
class Fault:
    """A trial that went wrong: the row, the label it must get, and what the verifier said."""

    row: dict[str, Any]
    wanted: str
    said: str

    def __str__(self) -> str:
        shown = {name: value if not isinstance(value, str) or len(value) <= 80 else value[:79] + "…"
                 for name, value in self.row.items()}
        return f"{json.dumps(shown, ensure_ascii=False, default=str)} must be {self.wanted}, it said {self.said}"


@dataclass(frozen=True, slots=True)
class Tried:
    """How an op's trials ended. `accepted` of `golds` and `refused` of `mutants`, each with the very label that it must
    get where the op gives labels; `failed` had no verdict (a deadline, a crash) and are in none of these."""

    op: str
    version: int
    golds: int
    accepted: int
    mutants: int
    refused: int
    failed: int
    faults: tuple[Fault, ...]


def try_op(spec: OpSpec, params: Params, context: OpContext | None = None) -> Tried:
    """Run the trials of an op with these params. An op without trials has tried nothing and has no faults."""
    trials: Sequence[Trial] = spec.trials(params) if spec.trials is not None else ()
    if not trials:
        return Tried(spec.name, spec.version, 0, 0, 0, 0, 0, ())
    names = dict.fromkeys(name for trial in trials for name in trial.row)
    batch = pl.DataFrame({name: [trial.row.get(name) for trial in trials] for name in names}, strict=False)
    batch = batch.with_columns(row_id=pl.int_range(batch.height, dtype=pl.Int64), row_key=pl.lit(b"", pl.Binary))
    made: pl.DataFrame = spec.func(batch, params, context or OpContext(step=spec.name))
    if made.height != len(trials):
        raise OpError(f"{spec.name} gave {made.height} rows for {len(trials)} trials: a SCORE op gives one for each")
    golds = accepted = mutants = refused = failed = 0
    faults = []
    for trial, said in zip(trials, made.iter_rows(named=True), strict=True):
        if said.get("_failed") is not None:
            failed += 1
            continue
        gold = trial.label == "correct"
        label = said.get("label") or next(name for name, value in _PASSED.items() if value is said["passed"])
        # without labels of its own an op cannot tell "incorrect" from "undecided"
        right = label == trial.label if said.get("label") else (said["passed"] is True) == gold
        golds, accepted = golds + gold, accepted + (gold and right)
        mutants, refused = mutants + (not gold), refused + (not gold and right)
        if not right:
            faults.append(Fault(trial.row, trial.label, f"{label} ({said.get('reason_code')}: {said.get('reason')})"))
    return Tried(spec.name, spec.version, golds, accepted, mutants, refused, failed, tuple(faults))


def require_trials(spec: OpSpec, params: Params, context: OpContext | None = None) -> None:
    """Raises OpError naming the first trial that went wrong."""
    tried = try_op(spec, params, context)
    if tried.faults:
        first = tried.faults[0]
        what = ("refuses a gold of its own" if first.wanted == "correct" else "accepts what it must refuse"
                if first.said.startswith("correct") else "gives a trial another label than it must")
        more = f" ({len(tried.faults)} trials of {tried.golds + tried.mutants} went wrong)"
        raise OpError(f"{spec.name} version {spec.version} {what}: {first}{more}. It judges nothing until this is "
                      f"mended: see its params ({params.model_dump_json()}) and at what it needs (`factory doctor`)")


_PROVEN: set[tuple[str, int, str]] = set()


def proven(spec: OpSpec, params: Params) -> bool:
    """Whether nothing is left to try: the op has no trials, or they have passed in this process."""
    return spec.trials is None or _key(spec, params) in _PROVEN


def note_proven(spec: OpSpec, params: Params) -> None:
    """Remember that the trials have passed with these params."""
    _PROVEN.add(_key(spec, params))


def _key(spec: OpSpec, params: Params) -> tuple[str, int, str]:
    return spec.name, spec.version, params.model_dump_json()


def run_trials(call: StepCall, shard: dict[str, Any], emit: Callable[[Event], None],
               stopping: Callable[[], bool]) -> None:
    """The task that tries a step's op where its shards will run."""
    if not proven(call.spec, call.op_params):
        require_trials(call.spec, call.op_params, call.context())
        note_proven(call.spec, call.op_params)
