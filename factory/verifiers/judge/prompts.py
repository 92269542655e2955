"""What a judge is asked: a template, three texts, and fences that no text can close.

A text under evaluation is data. It reaches the model as the content of a chat message, where control tokens cannot
arise, and between two lines that carry a mark. The mark is derived from the texts themselves and is not found in any of
them, so a response can neither foresee it nor close its fence. It is the same for equal texts: no chance is in it.

The templates are in our own words, after the shapes that are published: the judge of DeepSeek-R1 (R1 paper, Listing 4)
and its pairwise judge (section B.2, after Arena-Hard); `answers` compares final answers only, as Open R1 does. Another
wording may end with a [prefill], which is part of every reply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.engine.errors import OpError
from factory.engine.op import PlanContext
from factory.engine.prompts import fill, parse, read_template

_FOLDER = Path(__file__).parent / "templates"
Messages = tuple[dict[str, str], ...]


def prompt_identity(builtin: str, own: str | None, uses: Sequence[str], plan: PlanContext) -> dict[str, str]:
    """The text of the template `own` (a path ending in .txt) or of the built-in one; it enters the fingerprint.

    Raises:
        OpError: no such file, a plain prompt, or a template that leaves one of `uses` out.
    """
    if own is not None and not own.endswith(".txt"):
        raise OpError(f"template {own!r}: expected a path that ends in .txt; the built-in wording is chosen by leaving "
                      "`template` out")
    text = read_template(own, plan.base_dir) if own is not None else (_FOLDER / f"{builtin}.txt").read_text("utf-8")
    template = parse(text)
    if template.prompt is not None:
        raise OpError("a judge's template is a chat: begin with [system] or [user]")
    missing = [name for name in (*uses, "mark") if not template.uses(name)]
    if missing:
        raise OpError(f"the judge's template never uses {{{missing[0]}}}: it needs "
                      f"{', '.join(f'{{{name}}}' for name in uses)}, and {{mark}} in the lines around each of them")
    return {"template": text}


def prefill_of(text: str) -> str:
    """The words that every reply has to begin with, for judges too small to keep to a form: `{"analysis": "The`."""
    return parse(text).prefill


def render(text: str, values: Mapping[str, str]) -> Messages:
    """The messages of a template with these texts in their fences."""
    filled = {**values, "mark": mark_of(*values.values())}
    return tuple({"role": role, "content": fill(part, filled)} for role, part in parse(text).messages)


def mark_of(*texts: str) -> str:
    """Twelve hexadecimal digits that follow from the texts and occur in none of them, whatever case they are in."""
    lowered = [text.lower() for text in texts]
    digest = hashlib.sha256("\x1f".join(f"{len(text)}:{text}" for text in texts).encode("utf-8", "surrogatepass"))
    while any(digest.hexdigest()[:12] in text for text in lowered):
        digest.update(b"again")
    return digest.hexdigest()[:12]
