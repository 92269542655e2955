"""gate.checkpoint: may the next steps start from this checkpoint?

Three questions, in order: does it load; does its chat template render, and do the reasoning tags survive its tokenizer
(a template or tokenizer that drops `<think>` ruins every later dataset silently); has it not regressed, measured by
evaluations that were made before the gate.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from factory.engine.errors import DataError, MissingExtraError
from factory.engine.op import GateResult, Job, Kind, OpContext, Params, op
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.models.quiet import quietly
from factory.models.spec import pretrained

_PROBE = f"{THINK_OPEN} 2 + 2 = 4. {THINK_CLOSE} {ANSWER_OPEN} 4 {ANSWER_CLOSE}"


class CheckpointGateParams(Params):
    """`from` names the evaluation of the checkpoint, then those it is compared with. `metric` of the first may lie at
    most `tolerance` below the best of the others and must be at least `least`. `chat` asks for a chat template."""

    metric: str = "accuracy"
    tolerance: float = Field(default=0.02, ge=0)
    least: float = 0.0
    chat: bool = True


@op("gate.checkpoint", version=1, kind=Kind.GATE, params=CheckpointGateParams)
def gate_checkpoint(job: Job, params: CheckpointGateParams, ctx: OpContext) -> GateResult:
    """Stop the recipe unless a checkpoint loads, renders and has not regressed.

    `model` is the checkpoint. Later steps are skipped when it fails, and the run ends with exit code 3.

    Raises:
        DataError: an input is no evaluation, or lacks the metric.
        MissingExtraError: torch or transformers is not installed.
    """
    figures = {name: _figure(job, name, params.metric) for name in job.inputs}
    first, *others = figures
    if job.model is not None:
        judged = job.notes[first]["checkpoint"]
        if judged is not None and judged != job.model.name:
            raise DataError(f"gate.checkpoint: {first} judges {judged}, and the gate's model is {job.model.name}: name "
                            "the evaluation of the model first in `from`")
        fault = _fault(job.model, params.chat)
        if fault is not None:
            return GateResult(False, fault, figures)
    value = figures[first]
    if value < params.least:
        return GateResult(False, f"{params.metric} of {first} is {value:.3f}, at least {params.least:g} was wanted",
                          figures)
    best = max(others, key=lambda name: figures[name], default=None)
    if best is not None and value < figures[best] - params.tolerance:
        return GateResult(False, f"{params.metric} fell from {figures[best]:.3f} ({best}) to {value:.3f} ({first}); "
                                 f"{params.tolerance:g} is tolerated", figures)
    against = f", {best} had {figures[best]:.3f}" if best is not None else ""
    sound = "loads, renders, " if job.model is not None else ""
    return GateResult(True, f"{sound}{params.metric} {value:.3f}{against}", figures)


def _figure(job: Job, name: str, metric: str) -> float:
    known = job.notes[name]["metrics"]
    if job.notes[name]["kind"] != "report" or metric not in known:
        raise DataError(f"gate.checkpoint: {name} ({job.notes[name]['op']}) has no figure {metric!r}; it has "
                        f"{', '.join(known) or 'none'}. Name `evaluate` steps in `from`")
    return float(known[metric])


def _fault(model: Any, chat: bool) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error

    source, options = pretrained(model.kind, model.location, model.spec.revision)
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            AutoModelForCausalLM.from_pretrained(source, **options)
    except Exception as error:  # each format's reader has its own errors, and whatever they say, it does not load
        return f"{model.name} does not load: {(str(error) or type(error).__name__).splitlines()[0]}"
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    back: Any = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if back.replace(" ", "") != _PROBE.replace(" ", ""):
        return f"{model.name}: its tokenizer turns {_PROBE!r} into {back!r}"
    if not chat:
        return None
    template = model.spec.chat_template or tokenizer.chat_template
    if not template:
        return f"{model.name} has no chat template: give the model a `chat_template`, or set `chat: false`"
    turns = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, chat_template=template)
    except Exception as error:  # templates raise whatever their code meets
        return f"{model.name}: its chat template does not render: {error}"
    return None if _PROBE in text else f"{model.name}: its chat template changes {_PROBE!r}: {text!r}"
