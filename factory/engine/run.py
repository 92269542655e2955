"""The driver: takes a plan through its steps. Planning, fingerprints and commits happen here and nowhere else.

Steps run in plan order. A step that is there already is reused; one whose input failed is blocked, the others go on. A
step is held under a lease, so that a second run of the same recipe waits for the first and then reuses its result; the
lease only saves work, the commit protocol is what makes the result one.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.engine.commit import commit_step
from factory.engine.errors import DataError, FactoryError, GateNotMet, Interrupted, ShardFailed, TooManyFailures
from factory.engine.executors.base import Executor
from factory.engine.facts import model_of, task_facts
from factory.engine.op import Kind
from factory.engine.plan import Plan, Step
from factory.engine.prepare import Prepared, prepare, work_key
from factory.engine.progress import Progress, Silent, Size
from factory.engine.resolve import find_version
from factory.engine.task import Task
from factory.engine.trial import note_proven, proven
from warehouse import Warehouse, layout
from warehouse.catalog import tidy
from warehouse.errors import WarehouseError
from warehouse.records import Manifest, RunEnd, RunRecord, ShardRecord, StepReport, Usage, now

HEARTBEAT_SECONDS = 10.0
_TOLD = ("checkpoint", "metrics", "passed", "reason", "currency")
"""Facts of a version that the report of its step repeats."""
EXIT_CODES = {"succeeded": 0, "failed": 1, "stopped": 3, "interrupted": 130}


@dataclass(slots=True)
class RunReport:
    """How a run ended. `status`: succeeded, failed, stopped (a gate or quota was not met) or interrupted."""

    run_id: str
    recipe: str
    status: str = "succeeded"
    steps: list[StepReport] = field(default_factory=list)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]


class Driver:
    """Runs one plan against one warehouse. `given`: versions that steps take as inputs and the plan does not make."""

    def __init__(self, plan: Plan, warehouse: Warehouse, executor: Executor, progress: Progress | None = None, *,
                 retry_failed: bool = False, given: Mapping[str, Manifest] | None = None):
        self.plan, self.warehouse, self.executor = plan, warehouse, executor
        self.progress: Progress = progress or Silent()
        self.retry_failed = retry_failed
        self.stopping = False
        self._spent, self._priced = Usage(), dict[str, str]()
        self.report = RunReport(uuid.uuid4().hex[:12], plan.recipe_name, manifests=dict(given or {}))

    def run(self) -> RunReport:
        """Run every step that is not there yet."""
        self.warehouse.start_run(self._record())
        try:
            with self._signals(), self._heartbeat():
                for step in self.plan.steps.values():
                    self.report.steps.append(self._run_or_skip(step))
        except BaseException as error:
            second_signal = self.stopping and isinstance(error, KeyboardInterrupt)
            self.report.status = "interrupted" if second_signal else "failed"
            self.report.errors.append(error)
            raise
        finally:
            failure = str(self.report.errors[0]) if self.report.errors else None
            self.warehouse.end_run(RunEnd(run_id=self.report.run_id, status=self.report.status, ended_at=now(),
                                          steps=self.report.steps, error=failure))
            self.progress.close()
            self.warehouse.store.clear_scratch()
        with contextlib.suppress(OSError, WarehouseError):  # derived: who asks through us brings it up to date anyway
            tidy(self.warehouse)  # but plain DuckDB reads the file as it lies
            self.warehouse.store.clear_scratch()
        return self.report

    def _run_or_skip(self, step: Step) -> StepReport:
        report = StepReport(step=step.name, op=step.spec.name, status="done", fingerprint=step.fingerprint)
        if self.report.status == "stopped" or self.stopping:
            report = report.model_copy(update={"status": "skipped"})
        elif any(name not in self.report.manifests for name in step.inputs):
            report = report.model_copy(update={"status": "blocked"})
        else:
            report = self._try(step, report)
        self.progress.step_ended(report)
        return report

    def _try(self, step: Step, report: StepReport) -> StepReport:
        started, self._spent, self._priced = time.monotonic(), Usage(), {}

        def ended(**found: Any) -> StepReport:
            seconds = round(time.monotonic() - started, 3)
            usage = self._spent.model_copy(update={"seconds": seconds})
            facts = {**self._priced, **found.pop("facts", {})}
            return report.model_copy(update={**found, "seconds": seconds, "usage": usage, "facts": facts})

        inputs = [self.report.manifests[name] for name in step.inputs]
        try:
            manifest, reused = self._make(step, inputs)
        except GateNotMet as error:
            self._fail("stopped", error)
            return ended(status="failed", error=str(error))
        except (FactoryError, WarehouseError, OSError) as error:
            self._fail("failed", error)
            return ended(status="failed", error=str(error))
        if manifest is None:
            return ended(status="skipped")
        self.report.manifests[step.name] = manifest
        if manifest.kind == "gate" and not manifest.facts["passed"]:
            self._fail("stopped", GateNotMet(f"gate {step.name}: {manifest.facts['reason']}"))
        told = {name: manifest.facts[name] for name in _TOLD if name in manifest.facts}
        return ended(ref=manifest.ref, reused=reused, counts=manifest.counts, kind=manifest.kind,
                     facts=told)

    def _fail(self, status: str, error: BaseException) -> None:
        if self.report.status in ("succeeded", "stopped"):
            self.report.status = status
        self.report.errors.append(error)

    def _make(self, step: Step, inputs: list[Manifest]) -> tuple[Manifest | None, bool]:
        """The step's version, and whether it was there; None when a stop was asked for before it was whole."""
        found = find_version(step, self.warehouse, inputs)
        retried = found if self._wants_retry(step, found) else None
        if found is not None and retried is None and step.kind is not Kind.PUBLISH:
            return found, True
        key = work_key(step, inputs, retried)
        with self._lease(step, key) as held:
            if not held:
                return None, False
            found = find_version(step, self.warehouse, inputs)
            if found is not None and step.kind is not Kind.PUBLISH and (retried is None or found.ref != retried.ref):
                return found, True
            prepared = prepare(self.plan, step, self.warehouse, inputs, self.report.run_id, retried=retried,
                               workers=self.executor.workers, model=model_of(step, self.warehouse, inputs),
                               facts=task_facts(self.plan, step, inputs, self.report.steps))
            records = self._execute(step, prepared)
            if self.stopping and records is None:
                return None, False
            assert records is not None
            try:
                made = commit_step(self.plan, step, self.warehouse, prepared, records, self.report.run_id)
            except TooManyFailures:
                self._forget(prepared, records)
                raise
            if retried is not None and made.ref == retried.ref:  # in vain, and the next retry is the same increment
                self._forget(prepared, records)
            return made, False

    def _wants_retry(self, step: Step, found: Manifest | None) -> bool:
        return (self.retry_failed and found is not None and found.counts.failed > 0
                and step.kind in (Kind.MAP, Kind.EXPAND, Kind.SCORE))

    @contextlib.contextmanager
    def _lease(self, step: Step, key: str) -> Iterator[bool]:
        """Hold the increment alone; False when a stop was asked for while another run held it."""
        told = False
        while True:
            with self.warehouse.store.lease(layout.work_lock(key), wait=False) as held:
                if held:
                    yield True
                    return
            if self.stopping:
                yield False
                return
            if not told:
                self.progress.note(f"{step.name}: another run is working on this step; waiting for its result")
                told = True
            time.sleep(0.2)

    def _execute(self, step: Step, prepared: Prepared) -> list[ShardRecord] | None:
        """Run all stages. Returns shard records in shard order, or None when a drain left some undone."""
        self.progress.step_started(step.name, step.spec.name, _size(step, prepared))
        if not self._prove(step, prepared) or not self._run_stage(prepared.groundwork, []):
            return None
        records: list[ShardRecord] = []
        for stage in prepared.stages:
            if not self._run_stage(stage, records):
                return None
        return _complete(step, prepared, records)

    def _prove(self, step: Step, prepared: Prepared) -> bool:
        """Run the trials of a verifier that is about to judge; False when a stop came in between."""
        store, key = self.warehouse.store, prepared.call.op_key
        if proven(step.spec, step.params) or all(
                store.exists(layout.work_shard(key, shard["marker"])) for shard in prepared.work.shards):
            return True
        ended = self._run_stage([Task("factory.engine.trial:run_trials", prepared.call, {}, step.name)], [])
        if ended:
            note_proven(step.spec, step.params)
        return ended

    def _run_stage(self, tasks: list[Any], records: list[ShardRecord]) -> bool:
        errors: list[BaseException] = []
        ended = 0
        for outcome in self.executor.run(tasks, self._heard):
            ended += 1
            if isinstance(outcome.error, Interrupted) and self.stopping:
                ended -= 1
                continue
            if outcome.error is not None:
                error = _disk_error(tasks[0].label, outcome.error) or outcome.error
                errors.append(error)
                if not isinstance(error, FactoryError | WarehouseError):
                    self.report.tracebacks.append(outcome.traceback)
                continue
            result = outcome.result
            records.extend(result if isinstance(result, list) else [result])
        if errors:
            first = errors[0]
            if isinstance(first, FactoryError | WarehouseError):
                raise first
            raise ShardFailed(
                f"{len(errors)} of {len(tasks)} tasks crashed: {type(first).__name__}: {first}") from first
        return ended == len(tasks)

    def _heard(self, event: dict[str, Any]) -> None:
        """Pass an event on, and note what this run asked for: also of a step that comes to nothing."""
        self._spent += Usage(tokens_in=event.get("tokens_in", 0), tokens_out=event.get("tokens_out", 0),
                             requested=event.get("answers", 0), reused=event.get("reused", 0),
                             cost=event.get("cost", 0.0))
        if "currency" in event:
            self._priced = {"currency": event["currency"]}
        self.progress.event(event)

    def _forget(self, prepared: Prepared, records: list[ShardRecord]) -> None:
        """Let shards with failures be tried again by the next run; no version was made of them."""
        store = self.warehouse.store
        for record in records:
            if record.counts.failed:
                for key in (prepared.call.work_key, prepared.call.op_key):
                    store.delete(layout.work_shard(key, int(record.shard) if record.shard.isdigit() else record.shard))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """First SIGINT or SIGTERM: drain and stop resumable. Second: stop at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, _frame: Any) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True
            if self.report.status == "succeeded":
                self.report.status = "interrupted"
            self.executor.stop()
            self.progress.note(f"{signal.Signals(number).name}: finishing what is in flight; once more stops at once")

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):
                    self.warehouse.heartbeat(self.report.run_id)

        self.warehouse.heartbeat(self.report.run_id)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _record(self) -> RunRecord:
        recipe = self.plan.loaded.recipe
        return RunRecord(
            run_id=self.report.run_id, recipe=recipe.recipe, recipe_version=recipe.version,
            recipe_text=self.plan.loaded.text, argv=list(sys.argv), host=socket.gethostname(), user=_user(),
            git_commit=_git_commit(str(self.plan.loaded.base_dir)), seed=recipe.seed, started_at=now(),
            executor=type(self.executor).__name__)


def _size(step: Step, prepared: Prepared) -> Size:
    """What the progress bar counts: answers that are owed, rows to be judged (by who knows how many), or shards."""
    shards = max(1, sum(len(stage) for stage in [prepared.groundwork, *prepared.stages]))
    if not step.spec.asks_model:
        return Size(shards, "shards", shards)
    if step.kind is Kind.SCORE:
        rows = sum(shard["rows"] for shard in prepared.work.shards)
        return Size(rows, "rows", len(prepared.work.shards))
    standing = prepared.work.standing.rows if prepared.work.standing is not None else 0
    slots = prepared.inputs[0].row_count * int(prepared.call.params.get("n", 1))
    return Size(max(slots - standing, 0), "answers", len(prepared.work.shards))


def _complete(step: Step, prepared: Prepared, records: list[ShardRecord]) -> list[ShardRecord] | None:
    """All records in shard order; None when some shards were left for later by a drain."""
    if step.kind is Kind.GLOBAL:
        return records
    if step.kind is Kind.SCORE:
        order = {shard["marker"]: shard["number"] for shard in prepared.work.shards}
    else:
        order = {str(shard.get("number", index)): index for index, shard in enumerate(prepared.work.shards)}
    by_shard = {record.shard: record for record in records}
    if any(name not in by_shard for name in order):
        return None
    return [by_shard[name] for name in sorted(order, key=lambda name: order[name])]


_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
                   errno.EIO, errno.EEXIST, errno.ENAMETOOLONG})
"""What a disk or its permissions can do to any op; other system errors may be bugs and keep their traceback."""


def _disk_error(step: str, error: BaseException) -> DataError | None:
    """An error of the disk as one line."""
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    where = f" ({error.filename})" if error.filename else ""
    return DataError(f"step {step}: {error.strerror}{where}: make room or name another place, then run again; what was "
                     "finished is kept")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git_commit(folder: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
