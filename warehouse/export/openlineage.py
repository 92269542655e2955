"""Runs, steps and versions as OpenLineage run events (specification 2-0-2), for catalogs such as Marquez or DataHub.

A run of a recipe is a run of the job `<recipe>`; each step that it began is a run of the job `<recipe>/<step>` with the
recipe's run as parent. Namespaces are `dataset-factory://<warehouse id>` unless the caller names one. Run ids are UUIDs
derived from the warehouse, the run and the step, so the same warehouse always tells the same events, and a copy of it
tells them too.

What is told, and what is not:

- Every begun step has a START and one of COMPLETE, FAIL or ABORT (a stop was asked for while it ran). A step that never
  began has no event; the recipe's last event lists it under `notStarted`.
- A step that found its version there did no work and made nothing: it has no event. The recipe's last event lists it
  under `reused` with the run that did make the version, and steps after it name the version as input, so the graph has
  no gap and no version has two makers.
- A gate that says no is a step that did its work: COMPLETE. The recipe's run, whose later steps it withheld, ABORTs.
- A run that never said how it ended has a START, a RUNNING at its last heartbeat, and its committed steps; that is all
  that is known. A version whose run is not recorded has the events of its step, without a parent.
- Steps run one after another, and a commit is dated: from these and the measured seconds the times of events are
  worked out. They never go backwards inside a run, whatever the clock did.
- A step that committed nothing (it failed or was stopped) has no inputs: only a manifest pins them.
- Deletions are not told: a version was made, whatever became of it.
- `outputStatistics` describe the whole version; of one that extends another, the parts carried on too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from warehouse import layout
from warehouse.errors import NotInWarehouse
from warehouse.export.facets import SPEC, Describer, Json, facets, factory_version, producer
from warehouse.records import Manifest, RunEnd, RunRecord, StepReport

if TYPE_CHECKING:
    from warehouse.store import Warehouse

_ENDS = {"succeeded": "COMPLETE", "failed": "FAIL", "interrupted": "ABORT", "stopped": "ABORT"}


def events(warehouse: Warehouse, *, run: str | None = None, namespace: str | None = None) -> Iterator[Json]:
    """OpenLineage events, oldest run first, each ready for `json.dumps`.

    Args:
        run: only this run (its id); every run, and versions of unrecorded runs, by default.
        namespace: namespace of jobs and datasets; checkpoints are in `<namespace>/checkpoints`.

    Raises:
        NotInWarehouse: there is no such run.
    """
    told = warehouse.runs()
    if run is not None:
        told = (found for found in told if found[0].run_id == run)
    teller = _Teller(warehouse, namespace)
    return teller.all(sorted(told, key=lambda found: found[0].started_at), run)


@dataclass(slots=True)
class _Step:
    """A begun step: what its report says, and the version that it reached (of whatever run)."""

    report: StepReport
    made: Manifest | None
    committed: bool


class _Teller:
    def __init__(self, warehouse: Warehouse, namespace: str | None):
        self.warehouse = warehouse
        self.warehouse_id = str(json.loads(warehouse.store.get(layout.ROOT_RECORD))["warehouse_id"])
        self.namespace = namespace or f"dataset-factory://{self.warehouse_id}"
        self.describe = Describer(warehouse, self.namespace)
        self.by_run: dict[str, list[Manifest]] = {}
        for made in warehouse.manifests():
            self.by_run.setdefault(made.run_id, []).append(made)

    def all(self, runs: list[tuple[RunRecord, RunEnd | None, str | None]], wanted: str | None) -> Iterator[Json]:
        if wanted is not None and not runs:
            raise NotInWarehouse(f"no run {wanted!r} in {self.warehouse.root}: `factory sql \"SELECT run_id, recipe, "
                                 "started_at FROM runs\"` lists them")
        return self._told(runs, wanted)

    def _told(self, runs: list[tuple[RunRecord, RunEnd | None, str | None]], wanted: str | None) -> Iterator[Json]:
        for start, end, beat in runs:
            yield from self._run(start, end, beat)
        if wanted is None:
            recorded = {start.run_id for start, _, _ in runs}
            for run_id in sorted(self.by_run.keys() - recorded):
                yield from self._steps(run_id, None, self._begun(run_id, None), None)

    def _run(self, start: RunRecord, end: RunEnd | None, beat: str | None) -> Iterator[Json]:
        run_id, job = self._uuid(start.run_id), self._job(start.recipe, "RECIPE")
        job["facets"].update(facets(sourceCode={"language": "yaml", "sourceCode": start.recipe_text}))
        began = _time(start.started_at)
        yield _event("START", began, self._facets(run_id, datasetFactory_run=self._said(start, None)), job)
        parent = {"run": {"runId": run_id}, "job": {"namespace": self.namespace, "name": start.recipe}}
        last = began
        for event in self._steps(start.run_id, parent, self._begun(start.run_id, end), began):
            last = max(last, _time(event["eventTime"]))
            yield event
        said: Json = {"datasetFactory_run": self._said(start, end)}
        if end is None:
            if beat is not None:
                yield _event("RUNNING", max(last, _time(beat)), self._facets(run_id, **said), job)
            return
        if end.error is not None:
            said["errorMessage"] = _error(end.error)
        yield _event(_ENDS.get(end.status, "FAIL"), max(last, _time(end.ended_at)), self._facets(run_id, **said), job)

    def _begun(self, run_id: str, end: RunEnd | None) -> list[_Step]:
        """The steps that did something, in the order in which they did it."""
        own = {made.ref: made for made in self.by_run.get(run_id, [])}
        begun = []
        for report in end.steps if end is not None else []:
            if report.reused or report.status == "blocked" or (report.status == "skipped" and not report.seconds):
                continue
            made = self._made(report.ref)
            own.pop(report.ref or "", None)
            begun.append(_Step(report, made, made is not None and made.run_id == run_id))
        for made in sorted(own.values(), key=lambda found: (found.sequence, found.ref)):
            begun.append(_Step(_report(made), made, True))
        return begun

    def _made(self, ref: str | None) -> Manifest | None:
        found = self.describe.dataset(ref) if ref is not None else None
        return found.manifest if found is not None else None

    def _steps(self, run_id: str, parent: Json | None, begun: list[_Step], clock: datetime | None) -> Iterator[Json]:
        for step in begun:
            recipe = parent["job"]["name"] if parent else (step.made.recipe if step.made else "")
            stamp = _time(step.made.created_at) if step.made is not None and step.committed else None
            clock = clock or stamp or _time("1970-01-01T00:00:00+00:00")
            ended = max(clock, stamp or clock + timedelta(seconds=step.report.seconds))
            began = max(clock, ended - timedelta(seconds=step.report.seconds))
            clock = ended
            known = self._facets(self._uuid(run_id, step.report.step), **({"parent": parent} if parent else {}))
            job = self._job(f"{recipe}/{step.report.step}", "STEP")
            job["facets"].update(facets(documentation={"description": f"The op {step.report.op}."}))
            inputs = self.describe.inputs(step.made) if step.made is not None else []
            yield _event("START", began, known, job, inputs)
            kind = {"failed": "FAIL", "skipped": "ABORT"}.get(step.report.status, "COMPLETE")
            ending = {**known, "facets": {**known["facets"], **_outcome(step)}}
            yield _event(kind, ended, ending, job, inputs, self._outputs(step))

    def _outputs(self, step: _Step) -> list[Json]:
        if step.made is not None:
            return [self.describe.output(step.made)]
        return [self.describe.gone(step.report.ref)] if step.report.ref else []

    def _said(self, start: RunRecord, end: RunEnd | None) -> Json:
        steps = end.steps if end is not None else []
        reused = [step for step in steps if step.reused and step.ref is not None]
        return {
            "run": start.run_id, "recipeVersion": start.recipe_version, "seed": start.seed, "executor": start.executor,
            "gitCommit": start.git_commit, "status": end.status if end is not None else None,
            "notStarted": [step.step for step in steps
                           if step.status == "blocked" or (step.status == "skipped" and not step.seconds)],
            "reused": [{"step": step.step, "datasetVersion": step.ref, "producedBy": self._maker(step.ref)}
                       for step in reused]}

    def _maker(self, ref: str | None) -> str | None:
        made = self._made(ref)
        return self._uuid(made.run_id, made.step) if made is not None else None

    def _uuid(self, *names: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(["dataset-factory:", self.warehouse_id, *names])))

    def _facets(self, run_id: str, **own: Json) -> Json:
        engine = {"name": "dataset-factory", "version": factory_version()}
        return {"runId": run_id, "facets": facets(processingEngine=engine, **own)}

    def _job(self, name: str, kind: str) -> Json:
        said = {"processingType": "BATCH", "integration": "DATASET_FACTORY", "jobType": kind}
        return {"namespace": self.namespace, "name": name, "facets": facets(jobType=said)}


def _outcome(step: _Step) -> Json:
    """Run facets of a step's last event."""
    report, made = step.report, step.made
    said: Json = {"op": report.op, "opVersion": made.op_version if made else None, "fingerprint": report.fingerprint,
                  "codeSha256": made.code_sha256 or None if made else None, "committed": step.committed}
    told = {**(made.facts if made else {}), **report.facts}
    said.update({name: told[name] for name in ("passed", "reason", "metrics") if told.get(name) is not None})
    counts, usage, currency = report.counts, report.usage, told.get("currency")
    found: Json = {
        "datasetFactory_step": said,
        "datasetFactory_counts": {"owed": counts.owed, "kept": counts.kept, "rejected": counts.rejected,
                                  "failed": counts.failed, "reasons": dict(counts.reasons)},
        "datasetFactory_usage": {"tokensIn": usage.tokens_in, "tokensOut": usage.tokens_out,
                                 "answersRequested": usage.requested, "answersReused": usage.reused,
                                 "seconds": usage.seconds, "cost": usage.cost if currency else None,
                                 "currency": currency}}
    if report.error is not None:
        found["errorMessage"] = _error(report.error)
    return facets(**found)


def _report(made: Manifest) -> StepReport:
    """What the step of a run without an end would have reported."""
    return StepReport(step=made.step, op=made.op, status="done", ref=made.ref, fingerprint=made.fingerprint,
                      counts=made.counts, usage=made.usage, kind=made.kind)


def _error(message: str) -> Json:
    return {"message": message, "programmingLanguage": "PYTHON"}


def _time(stamp: str) -> datetime:
    found = datetime.fromisoformat(stamp)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _event(kind: str, at: datetime, run: Json, job: Json, inputs: list[Json] | None = None,
           outputs: list[Json] | None = None) -> dict[str, Any]:
    return {"eventType": kind, "eventTime": at.astimezone(UTC).isoformat(timespec="milliseconds"), "run": run,
            "job": job, "inputs": inputs or [], "outputs": outputs or [], "producer": producer(),
            "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"}
