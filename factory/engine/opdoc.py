"""What `factory ls --ops` tells: every op a recipe can name, its params and a step to start from, read off the code."""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic import BaseModel

from factory.engine.op import CompositeSpec, Kind, OpSpec, all_composites, all_ops

_EXAMPLES = {
    Kind.SOURCE: "problems: {{op: {op}{params}}}",
    Kind.EXPAND: "samples: {{op: {op}, from: problems{model}{params}}}",
    Kind.SELECT: "chosen: {{op: {op}, from: samples, where: [correct]{params}}}",
    Kind.TRAIN: "trained: {{op: {op}, from: chosen, model: base{params}}}",
    Kind.GATE: "gate: {{op: {op}, from: chosen{params}}}",
    Kind.PUBLISH: "published: {{op: {op}, from: chosen{params}}}",
}
_PLAIN_EXAMPLE = "{name}: {{op: {op}, from: samples{model}{params}}}"


def describe_ops() -> list[dict[str, Any]]:
    """Ops and composite ops by name: `op`, `kind`, `version`, `help` (one line), `doc`, `params`, `example`."""
    listed = [_describe(spec) for spec in all_ops()] + [_describe_composite(spec) for spec in all_composites()]
    return sorted(listed, key=lambda item: str(item["op"]))


def _describe(spec: OpSpec) -> dict[str, Any]:
    template = _EXAMPLES.get(spec.kind, _PLAIN_EXAMPLE)
    return {**_common(spec.name, spec.func, spec.params), "kind": spec.kind.value, "version": spec.version,
            "example": _example(template, spec.name, spec.params, _beside(spec))}


def _beside(spec: OpSpec) -> str:
    """The fields that an example needs beside `from` and `params`."""
    compares = spec.compares and not spec.measures_both
    return ((", model: policy" if spec.asks_model else "") + (", against: held_out" if compares else "")
            + (", verdicts: [rules, judge]" if spec.hears else ""))


def _describe_composite(spec: CompositeSpec) -> dict[str, Any]:
    return {**_common(spec.name, spec.expand, spec.params), "kind": "composite", "version": None,
            "example": _example(_PLAIN_EXAMPLE, spec.name, spec.params, ", model: policy" if spec.asks_model else "")}


def _common(name: str, func: Any, params: type[BaseModel]) -> dict[str, Any]:
    paragraphs = [part for part in (inspect.getdoc(func) or "").split("\n\n")
                  if not part.lstrip().startswith(("Returns:", "Args:", "Raises:"))]
    text = [" ".join(part.split()) for part in (*paragraphs, params.__doc__ or "")]
    return {"op": name, "help": text[0], "doc": "\n".join(part for part in text if part),
            "params": [_param(key, field) for key, field in params.model_fields.items()]}


def _param(key: str, field: Any) -> dict[str, Any]:
    name = field.alias or key
    if field.is_required():
        return {"name": name, "required": True, "default": None, "text": "required"}
    default = field.get_default(call_default_factory=True)
    default = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    shown = json.dumps(default, ensure_ascii=False, default=str)
    return {"name": name, "required": False, "default": default, "text": f"default {shown}" + (
        f"; {field.description}" if field.description else "")}


def _example(template: str, op: str, params: type[BaseModel], model: str) -> str:
    needed = [field.alias or key for key, field in params.model_fields.items() if field.is_required()]
    given = ", params: {" + ", ".join(f"{name}: …" for name in needed) + "}" if needed else ""
    return template.format(name=op.rpartition(".")[2], op=op, model=model, params=given)
