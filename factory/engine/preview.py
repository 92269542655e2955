"""`factory preview`: what a model-asking step would ask, and what comes back. Writes nothing.

Steps above it are run on a few rows in a scratch warehouse that is thrown away, so the rows are real ones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from factory.engine.errors import UsageError
from factory.engine.executors.inline import InlineExecutor
from factory.engine.facts import model_of
from factory.engine.identity import AnswerKeys
from factory.engine.kinds.pump import make_request, rendered, replay_row, rule_columns
from factory.engine.op import Ask, OpContext
from factory.engine.plan import Plan, Step, make_plan
from factory.engine.reading import input_shards, read_rows
from factory.engine.recipe import LoadedRecipe
from factory.engine.run import Driver
from factory.models.open import open_backend
from warehouse import Warehouse


def preview_step(loaded: LoadedRecipe, name: str, rows: int, *, ask: bool) -> list[dict[str, Any]]:
    """The first `rows` requests of a step: {row, slot, messages | prompt, prefill, sampling, answer?}.

    Raises:
        UsageError: the step asks no model.
    """
    if rows < 1:
        raise UsageError(f"--rows {rows}: ask for at least 1")
    plan = make_plan(loaded, limit=rows, until=name)
    step = plan.steps[name]
    if not step.spec.asks_model:
        asking = [other.name for other in make_plan(loaded, limit=rows).steps.values() if other.spec.asks_model]
        raise UsageError(f"step {name!r} asks no model; preview shows {', '.join(asking) or 'nothing in this recipe'}")
    with tempfile.TemporaryDirectory(prefix="factory-preview-") as scratch:
        warehouse = Warehouse(Path(scratch) / "warehouse", create=True)
        above = Plan(loaded, {key: value for key, value in plan.steps.items() if key != name}, plan.limit)
        report = Driver(above, warehouse, InlineExecutor()).run()
        if report.errors:
            raise report.errors[0]
        inputs = [report.manifests[source] for source in step.inputs]
        return _preview(step, warehouse, inputs, rows, ask=ask)


def _preview(step: Step, warehouse: Warehouse, inputs: list[Any], rows: int, *, ask: bool) -> list[dict[str, Any]]:
    dataset = warehouse.dataset(inputs[0].ref)
    shards = input_shards(dataset)
    if not shards:
        raise UsageError(f"step {step.name!r} would ask nothing: {step.inputs[0]} gave no row among the first {rows} "
                         "records")
    context = OpContext(step.name, step.seed, step.identity.get("content"))
    op, model = step.spec.func(), model_of(step, warehouse, inputs)
    assert model is not None
    extra = [column for column in rule_columns(model) if column in dataset.all_columns]
    columns = list(dict.fromkeys([*step.spec.columns(step.params), *extra]))
    batch = read_rows(dataset, shards[0], columns, 0, rows)
    asks: list[Ask] = op.requests(batch, step.params, context)[:rows]
    shown = [_show(item) for item in asks]
    if ask:
        make = AnswerKeys(model.identity, step.seed)  # the run's own keys, so the preview shows the answers of the run
        keys = [make.key(rendered(item), batch["row_key"][item.row], 0, item.slot) for item in asks]
        prompt = getattr(step.params, "prompt", None)
        requests = [make_request(key, item, replay_row(model, batch, item, extra, prompt))
                    for key, item in zip(keys, asks, strict=True)]
        backend = open_backend(model, step.runtime.backend)
        try:
            for done in filter(None, backend.generate(iter(requests))):
                shown[keys.index(done.key)].update(
                    answer=done.text, finish_reason=done.finish_reason, tokens_in=done.tokens_in,
                    tokens_out=done.tokens_out, refused=done.rejected or done.error)
        finally:
            backend.close()
    return shown


def _show(ask: Ask) -> dict[str, Any]:
    request: dict[str, Any] = {"row": ask.row, "slot": ask.slot}
    if ask.messages is not None:
        request["messages"] = [dict(message) for message in ask.messages]
    else:
        request["prompt"] = ask.prompt
    return {**request, "prefill": ask.prefill, "sampling": {
        "temperature": ask.temperature, "top_p": ask.top_p, "top_k": ask.top_k, "max_tokens": ask.max_tokens,
        "stop": list(ask.stop)}}
