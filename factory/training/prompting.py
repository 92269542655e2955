"""Rendering rows for a trainer with the same prompt templates that ask models, so that what is trained is what will be
asked."""

from __future__ import annotations

from typing import Any

import polars as pl

from factory.engine.op import PlanContext
from factory.engine.prompts import Template, check_columns, column_text, fill, parse, read_template
from factory.training.settings import Asking


def template_identity(params: Asking, plan: PlanContext) -> dict[str, str]:
    """The template's text: what enters a fingerprint. Raises OpError for a template that does not fit."""
    text = read_template(params.template, plan.base_dir)
    check_columns(parse(text).with_overrides(params.system, params.prefill), params.columns)
    return {"template": text}


def rendered(rows: pl.DataFrame, params: Asking, text: str) -> tuple[list[Any], list[str]]:
    """(prompts, prefills): each prompt is one plain string, or a list of {role, content}.

    Rows must have the columns that the template uses, without nulls.
    """
    template: Template = parse(text).with_overrides(params.system, params.prefill)
    names = {"prompt": params.prompt, **{name: name for name in params.columns}}
    used = {name: rows[column].to_list() for name, column in names.items() if template.uses(name)}
    prompts: list[Any] = []
    prefills: list[str] = []
    for row in range(rows.height):
        values = {name: column_text(column[row]) for name, column in used.items()}
        prefills.append(fill(template.prefill, values))
        if template.prompt is not None:
            prompts.append(fill(template.prompt, values))
        else:
            prompts.append([{"role": role, "content": fill(part, values)} for role, part in template.messages])
    return prompts, prefills

