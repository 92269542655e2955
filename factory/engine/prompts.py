r"""Prompt templates: one text file each, from columns of a row to what a model is asked.

A template is cut into sections by lines that hold a marker alone: `[prompt]` (one plain string, for base models), or a
chat of `[system]` (optional, first), `[user]` and `[assistant]` in turns, ending with `[user]`; after either an
optional `[prefill]`, the words an answer must begin with. A section is the text between its marker and the next one,
without the last line break.

`{prompt}` is replaced by the prompt column, and `{name}` by column `name` for the names that are asked for; every
other brace stays (`\boxed{}`, `\frac{a}{b}`), there are no format specifiers, and a row's text is never scanned again.
The text of a template is identity; its name and place are not.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.errors import OpError
from factory.engine.op import Params, PlanContext

_FOLDER = Path(__file__).parents[1] / "generators" / "templates"
_MARKER = re.compile(r"^\[(prompt|system|user|assistant|prefill)\]$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: either `prompt` or `messages` (role, text) is set."""

    prompt: str | None
    messages: tuple[tuple[str, str], ...]
    prefill: str

    def with_overrides(self, system: str | None, prefill: str | None) -> Template:
        """The template with another system message or prefill, where given.

        Raises:
            OpError: a system message for a plain prompt, which has no place for one.
        """
        messages = self.messages
        if system is not None:
            if self.prompt is not None:
                raise OpError("this template makes one plain prompt, which has no system message: drop `system`, or "
                              "use a chat template such as plain")
            messages = (("system", system), *(pair for pair in messages if pair[0] != "system"))
        return Template(self.prompt, messages, self.prefill if prefill is None else prefill)

    def uses(self, name: str) -> bool:
        """Whether `{name}` occurs in any section."""
        texts = (self.prompt or "", self.prefill, *(text for _, text in self.messages))
        return any(f"{{{name}}}" in text for text in texts)


def builtin_names() -> list[str]:
    """Names of the templates that come with the factory."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


def read_template(name: str, base_dir: Path) -> str:
    """The text of a built-in template, or of a file (a path that ends in .txt, relative to `base_dir`).

    Raises:
        OpError: there is no such template.
    """
    if name.endswith(".txt"):
        path = base_dir / name
    elif name in builtin_names():
        path = _FOLDER / f"{name}.txt"
    else:
        near = difflib.get_close_matches(name, builtin_names(), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(builtin_names())}."
        raise OpError(f"unknown template {name!r}: {hint} A template of your own is a path that ends in .txt")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OpError(f"template {name!r} cannot be read: expected a UTF-8 text file at {path} ({error})") from error


@lru_cache(maxsize=64)
def parse(text: str) -> Template:
    """Read a template's sections.

    Raises:
        OpError: text before the first marker, or sections that make no prompt.
    """
    found = list(_MARKER.finditer(text))
    if not found or text[: found[0].start()].strip():
        raise OpError("a template begins with a line [prompt], [system] or [user]: put the marker on the first line")
    sections: list[tuple[str, str]] = []
    for index, marker in enumerate(found):
        end = found[index + 1].start() if index + 1 < len(found) else len(text)
        sections.append((marker[1], text[marker.end() + 1: end].removesuffix("\n")))
    prefill = sections.pop()[1] if sections[-1][0] == "prefill" else ""
    roles = [role for role, _ in sections]
    if roles == ["prompt"]:
        return Template(sections[0][1], (), prefill)
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if len(turns) % 2 == 0 or turns != [("user", "assistant")[index % 2] for index in range(len(turns))]:
        shown = " ".join(f"[{role}]" for role in roles) or "neither"
        raise OpError("a template is one [prompt], or an optional [system] and turns of [user] and [assistant] that "
                      f"end with [user]; a [prefill] may come last. Found {shown}")
    return Template(None, tuple(sections), prefill)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace `{name}` for each given name, in one pass: replaced text is not looked at again."""
    return fill_spans(text, values)[0]


def fill_spans(text: str, values: Mapping[str, str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The filled text, and the (start, end) places in it that values fill."""
    if not values:
        return text, ()
    pieces = _splitter(tuple(values)).split(text)  # texts at even places, names between them
    spans, at = [], 0
    for index, piece in enumerate(pieces):
        if index % 2:
            pieces[index] = value = values[piece]
            spans.append((at, at + len(value)))
            at += len(value)
        else:
            at += len(piece)
    return "".join(pieces), tuple(spans)


@lru_cache(maxsize=64)
def _splitter(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\{{({'|'.join(map(re.escape, names))})\}}")


def check_columns(template: Template, columns: Sequence[str]) -> None:
    """Refuse a template that does not use what it was promised: nearly always a misspelt name.

    Raises:
        OpError: it uses neither {prompt} nor a column, or leaves one of `columns` unused.
    """
    unused = [name for name in columns if not template.uses(name)]
    if unused:
        raise OpError(f"the template never uses {{{unused[0]}}}, which `columns` promises: write it in the template, "
                      "or drop it from `columns`")
    if not columns and not template.uses("prompt"):
        raise OpError("the template uses no column: write {prompt} where the row's prompt belongs, or name other "
                      "columns in `columns`")


def column_text(value: Any) -> str:
    """How a column's value reads in a prompt: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


class Asking(Params):
    """How rows become questions: `template` is plain, r1_zero, r1 or a path ending in .txt; `prompt` names the column
    behind `{prompt}`; `columns` are further columns that the template uses; `system` and `prefill` replace the
    template's own."""

    template: str = "plain"
    prompt: str = "prompt"
    columns: tuple[str, ...] = ()
    system: str | None = None
    prefill: str | None = None

    def parsed(self, text: str) -> Template:
        """The template of that text with these overrides."""
        return parse(text).with_overrides(self.system, self.prefill)


@dataclass(frozen=True, slots=True)
class Question:
    """What one row asks: `prompt` (one plain string) or `messages` is set; the answer must begin with `prefill`.
    `spans` are the places of `prompt` that the row fills."""

    prompt: str | None
    messages: tuple[dict[str, str], ...] | None
    prefill: str
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def content(self) -> str | list[dict[str, str]]:
        """The prompt, or the messages as a list: what a trainer's table holds."""
        return self.prompt if self.prompt is not None else list(self.messages or ())


def template_identity(params: Asking, plan: PlanContext) -> dict[str, str]:
    """The template's text, which enters a fingerprint. Raises OpError for a template that does not fit."""
    text = read_template(params.template, plan.base_dir)
    check_columns(params.parsed(text), params.columns)
    return {"template": text}


def questions(rows: pl.DataFrame, params: Asking, text: str) -> list[Question]:
    """One question per row, in order; a row whose column is null asks nothing (neither prompt nor messages)."""
    template = params.parsed(text)
    names = {"prompt": params.prompt, **{name: name for name in params.columns}}
    used = {name: rows[column].to_list() for name, column in names.items() if template.uses(name)}
    return [_question(template, {name: column[row] for name, column in used.items()}) for row in range(rows.height)]


def _question(template: Template, row: Mapping[str, Any]) -> Question:
    if None in row.values():
        return Question(None, None, template.prefill)
    values = {name: column_text(value) for name, value in row.items()}
    prefill = fill(template.prefill, values)
    if template.prompt is not None:
        prompt, spans = fill_spans(template.prompt, values)
        return Question(prompt, None, prefill, spans)
    messages = tuple({"role": role, "content": fill(part, values)} for role, part in template.messages)
    return Question(None, messages, prefill)
