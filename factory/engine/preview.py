"""`factory preview`: what a model-asking step would ask, what comes back, and what the steps after it would say of it.
Nothing is written.

The steps above it are run on a few records in a scratch warehouse that is thrown away, so the rows are real ones; train
steps are not run, their checkpoints come from the user's warehouse. Answer keys, and so seeds, are the run's own: the
preview shows the answers of the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import FactoryError, ModelError, UsageError
from factory.engine.executors.inline import InlineExecutor
from factory.engine.facts import checkpoint_finder
from factory.engine.foretell import choices, judge, judging, told
from factory.engine.identity import AnswerKeys
from factory.engine.kinds.asking import ReplayRows, answer_keys, make_request, rule_columns
from factory.engine.kinds.heard import add_verdicts
from factory.engine.kinds.score_pump import with_errors
from factory.engine.op import Ask, Kind, OpContext
from factory.engine.plan import Plan, Step, make_plan
from factory.engine.reading import input_shards, read_rows
from factory.engine.recipe import LoadedRecipe
from factory.engine.resolve import previous_version
from factory.engine.run import Driver
from factory.models.base import Completion, Request
from factory.models.open import open_backend
from factory.models.sending import sent
from factory.models.spec import ModelSpec, resolve
from warehouse import Dataset, Warehouse


def preview_step(loaded: LoadedRecipe, name: str, rows: int, *, ask: bool,
                 warehouse: Warehouse | None = None) -> list[dict[str, Any]]:
    """The first `rows` requests of a step.

    Args:
        ask: also ask the model, and judge its answers.
        warehouse: where checkpoints are looked up.

    Returns:
        For each: `row`, `slot`, `messages` or `prompt`, `prefill`, `sampling`, `seed`, `model`, `backend`; as it would
        leave, `rendered` with `tokens` and the (start, end) places of control tokens in `control`, or `url` and `body`;
        `answer`, `finish_reason`, `tokens_in`, `tokens_out`, `refused`; `verdicts` and `choices` (`foretell`). Of a
        score: what it asks of the first `rows` rows, and its own verdict on the row.

    Raises:
        UsageError: the step asks no model, or there would be nothing to ask.
        ModelError: the model, or a checkpoint that is needed, is not there.
    """
    if rows < 1:
        raise UsageError(f"--rows {rows}: ask for at least 1")
    with tempfile.TemporaryDirectory(prefix="factory-preview-") as scratch:
        finder = checkpoint_finder(warehouse, Path(scratch))
        plan, after = _plans(loaded, name, rows, finder)
        step = plan.steps[name]
        if not step.spec.asks_model:
            asking = [other.name for other in (after or plan).steps.values() if other.spec.asks_model]
            raise UsageError(f"step {name!r} asks no model; preview shows {', '.join(asking) or 'none of this recipe'}")
        steps = {other: _with_checkpoint(plan.steps[other], plan, warehouse, finder)
                 for other in [*_above(plan, name), name]}
        step = steps.pop(name)
        made = Warehouse(Path(scratch) / "warehouse", create=True)
        report = Driver(Plan(loaded, steps, plan.limit), made, InlineExecutor()).run()
        if report.errors:
            raise report.errors[0]
        heard = {other: made.dataset(report.manifests[other].ref) for other in step.decl.heard}
        dataset = made.dataset(report.manifests[step.inputs[0]].ref)
        return _Preview(step, after, dataset, rows, heard).show(ask=ask)


def _plans(loaded: LoadedRecipe, name: str, rows: int, finder: Any) -> tuple[Plan, Plan | None]:
    """The plan up to the step, and that of the whole recipe, if it can be made."""
    plan = make_plan(loaded, limit=rows, until=name, checkpoints=finder)
    try:
        return plan, make_plan(loaded, limit=rows, checkpoints=finder)
    except FactoryError:
        return plan, None  # a later step's mistake is `plan`'s to tell


def _with_checkpoint(step: Step, plan: Plan, warehouse: Warehouse | None, finder: Any) -> Step:
    """The step with the newest checkpoint of its train step as a model of its own."""
    if step.model_step is None:
        return step
    train = plan.steps[step.model_step]
    found = previous_version(train, warehouse) if warehouse is not None else None
    if found is None or warehouse is None or not warehouse.has_checkpoint(found.facts["checkpoint"]):
        place = f"the warehouse {warehouse.root} holds none" if warehouse is not None else "there is no warehouse yet"
        raise ModelError(f"step {step.name!r} asks the checkpoint that {train.name!r} trains, and {place}: run the "
                         f"recipe with --until {train.name} first, or name a --warehouse that has it")
    model = resolve(ModelSpec(checkpoint=found.facts["checkpoint"]), Path("."), finder)
    return replace(step, model=model, model_step=None, inputs=step.inputs[:-1])


def _above(plan: Plan, name: str) -> list[str]:
    """The steps that make this step's rows, in plan order; train steps make none."""
    needed: set[str] = set()
    waiting = [name]
    while waiting:
        step = plan.steps[waiting.pop()]
        made_of = step.inputs[:-1] if step.model_step is not None else step.inputs
        waiting += [other for other in made_of if other not in needed]
        needed.update(made_of)
    return [other for other in plan.steps if other in needed]


class _Preview:
    """The first requests of one step over its input."""

    def __init__(self, step: Step, after: Plan | None, dataset: Dataset, rows: int, heard: Mapping[str, Dataset]):
        shards = input_shards(dataset)
        if not shards:
            raise UsageError(f"step {step.name!r} would ask nothing: {step.inputs[0]} gave no row among the first "
                             f"{rows} records. Look at more of them: -n {rows * 10}")
        assert step.model is not None
        self.step, self.model, self.after = step, step.model, after
        self.op, self.context = step.spec.func(), OpContext(step.name, step.seed, step.identity.get("content"))
        self.scores = step.kind is Kind.SCORE
        self.judges = judging(after, step.name) if after is not None and not self.scores else []
        wanted = [*step.spec.columns(step.params), *rule_columns(step.model),
                  *(column for judge in self.judges for column in judge.spec.columns(judge.params))]
        columns = [column for column in dict.fromkeys(wanted) if column in dataset.all_columns]
        self.batch = add_verdicts(read_rows(dataset, shards[0], columns, 0, rows), shards[0], heard)
        asks: Sequence[Ask] = self.op.requests(self.batch, step.params, self.context)
        self.asks = list(asks if self.scores else asks[:rows])
        if self.scores and not self.asks:
            raise UsageError(f"step {step.name!r} asks nothing about the first {self.batch.height} rows of "
                             f"{step.inputs[0]}. Look at more records: -n {rows * 10}")

    def show(self, *, ask: bool) -> list[dict[str, Any]]:
        make = AnswerKeys(self.model.identity, self.step.seed)
        keys = answer_keys(make, self.asks, self.batch["row_key"].to_list(), [0] * self.batch.height)
        told = ReplayRows(self.model, self.batch, getattr(self.step.params, "prompt", None))
        requests = [make_request(key, item, told.row(item)) for key, item in zip(keys, self.asks, strict=True)]
        shown = self._questions(requests)
        if ask:
            self._answer(requests, shown)
        return shown

    def _questions(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        backend, leaving = sent(self.model, self.step.runtime.backend, requests)
        shown = []
        for asked, request, form in zip(self.asks, requests, leaving, strict=True):
            item = {**_question(asked), "seed": request.seed, "model": self.model.name, "backend": backend}
            if form.pieces:
                item |= {"rendered": "".join(text for text, _ in form.pieces), "tokens": form.tokens,
                         "control": _places(form.pieces)}
            if form.body is not None:
                item |= {"url": form.url, "body": form.body}
            shown.append({**item, "refused": form.refused})
        return shown

    def _answer(self, requests: Sequence[Request], shown: list[dict[str, Any]]) -> None:
        backend = open_backend(self.model, self.step.runtime.backend)
        try:
            wanted = {request.key: request for request in requests}  # equal rows have one answer
            found = {done.key: done for done in filter(None, backend.generate(iter(wanted.values())))}
        finally:
            backend.close()
        answers = [found[request.key] for request in requests]
        for item, done in zip(shown, answers, strict=True):
            item |= {"answer": done.text, "finish_reason": done.finish_reason, "tokens_in": done.tokens_in,
                     "tokens_out": done.tokens_out, "refused": done.rejected or done.error}
        if self.scores:
            self._show_scores(shown, answers)
            return
        good = [index for index, done in enumerate(answers) if done.rejected is None and done.error is None]
        if good and self.after is not None:
            self._judge([shown[index] for index in good], [self.asks[index] for index in good],
                        [answers[index] for index in good])

    def _show_scores(self, shown: list[dict[str, Any]], answers: Sequence[Completion]) -> None:
        """The step's own verdict, beside each question about the row."""
        try:
            made = self.op.collect(self.batch, self.asks, answers, self.step.params, self.context)
        except FactoryError as error:
            said = [{"step": self.step.name, "op": self.step.spec.name, "failed": str(error)}] * self.batch.height
        else:
            said = told(self.step, with_errors(made, self.asks, list(answers)))
        for item, asked in zip(shown, self.asks, strict=True):
            item |= {"verdicts": [said[asked.row]], "choices": []}

    def _judge(self, shown: list[dict[str, Any]], asks: list[Ask], answers: list[Completion]) -> None:
        assert self.after is not None
        made: pl.DataFrame = self.op.collect(self.batch, asks, answers, self.step.params, self.context)
        parents = self.batch[[item.row for item in asks]].drop("row_id", "row_key")
        rows = parents.drop([name for name in made.columns if name in parents.columns]).hstack(made.get_columns())
        rows = rows.with_columns(row_id=pl.int_range(rows.height, dtype=pl.Int64),
                                 row_key=pl.Series([bytes.fromhex(done.key[:32]) for done in answers]))
        verdicts = judge(self.judges, rows)
        for item, said, chosen in zip(shown, verdicts, choices(self.after, self.step.name, verdicts), strict=True):
            item |= {"verdicts": said, "choices": chosen}


def _question(ask: Ask) -> dict[str, Any]:
    request: dict[str, Any] = {"row": ask.row, "slot": ask.slot}
    if ask.messages is not None:
        request["messages"] = [dict(message) for message in ask.messages]
    else:
        request["prompt"] = ask.prompt
    return {**request, "prefill": ask.prefill, "sampling": {
        "temperature": ask.temperature, "top_p": ask.top_p, "top_k": ask.top_k, "max_tokens": ask.max_tokens,
        "stop": list(ask.stop)}}


def _places(pieces: Sequence[tuple[str, bool]]) -> list[tuple[int, int]]:
    found, at = [], 0
    for text, control in pieces:
        if control:
            found.append((at, at + len(text)))
        at += len(text)
    return found
