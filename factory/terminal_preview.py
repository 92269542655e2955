"""What `factory preview` prints: each request as it leaves, the answer, and what the steps after it would say.

A prompt is shown as the model gets it. Control tokens are coloured, so that one which a row merely spells can be told
from one that a template meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.text import Text

from factory.lines import clean, console, entry, heading, one_line, print_json

_CONTROL_STYLE = "bold cyan"
_COLOURS = {True: "green", False: "red", None: "yellow"}
_WORDS = {True: "passed", False: "refused", None: "undecided"}
_MEASURE = 60
_FEW = 3


def show_preview(shown: list[dict[str, Any]], as_json: bool) -> None:
    """Requests as the model gets them, answers, verdicts."""
    if as_json:
        print_json(shown)
        return
    asked: Any = None
    for number, item in enumerate(shown, 1):
        if number > 1:
            console.print()
        heading(f"request {number} of {len(shown)}: row {item['row'] + 1}, sample {item['slot'] + 1}")
        entry(_settings(item), lead="asks  ", lead_style="dim")
        prompt = item.get("rendered") or item.get("messages") or item.get("prompt"), item.get("prefill")
        _show_prompt(item, again=asked is not None and prompt == asked and not item.get("body"))
        asked = prompt
        if item.get("refused"):
            entry(item["refused"], lead="not answered  ", lead_style="bold red")
        elif "answer" in item:
            _show_answer(item)
        if item.get("verdicts"):
            entry("judged", style="bold")
        for verdict in item.get("verdicts", []):
            _show_verdict(verdict, max(len(found["step"]) for found in item["verdicts"]))
        for choice in item.get("choices", []):
            _show_choice(choice)


def _settings(item: Mapping[str, Any]) -> str:
    sampling = item["sampling"]
    parts = [f"{item['model']} ({item['backend']})", f"temperature {sampling['temperature']:g}"]
    parts += [f"top_p {sampling['top_p']:g}"] if sampling["top_p"] < 1 else []
    parts += [f"top_k {sampling['top_k']}"] if sampling["top_k"] else []
    parts += [f"max_tokens {sampling['max_tokens']:,}"]
    parts += [f"stop {one_line(sampling['stop'])}"] if sampling["stop"] else []
    return " · ".join([*parts, f"seed {item['seed']}"])


def _show_prompt(item: Mapping[str, Any], *, again: bool) -> None:
    tokens = f" ({item['tokens']:,} tokens)" if item.get("tokens") is not None else ""
    if again:
        entry(f"as above{tokens}", lead="prompt  ", lead_style="bold")
    elif item.get("body") is not None:
        entry(f"POST {item['url']}", style="bold")
        _show_text(json.dumps(item["body"], indent=2, ensure_ascii=False))
    elif "rendered" in item:
        entry(f"prompt{tokens}, control tokens in colour" if item["control"] else f"prompt{tokens}", style="bold")
        _show_text(item["rendered"], item["control"])
    elif "messages" in item:
        for message in item["messages"]:
            entry(message["role"], style="bold")
            _show_text(message["content"])
        if item["prefill"]:
            entry("the answer begins with", style="bold")
            _show_text(item["prefill"])
    else:
        entry("prompt", style="bold")
        _show_text((item["prompt"] or "") + item["prefill"])


def _show_answer(item: Mapping[str, Any]) -> None:
    cut = "" if item["finish_reason"] == "stop" else f", cut: {item['finish_reason']}"
    entry(f"answer ({item['tokens_out']:,} tokens{cut})", style="bold yellow" if cut else "bold")
    # What it had to begin with is part of the text that is stored.
    text = item["prefill"] + item["answer"]
    _show_text(text or "(nothing)", [(0, len(item["prefill"]))] if item["prefill"] else [], "dim")


def _show_text(text: str, places: Sequence[Sequence[int]] = (), style: str = _CONTROL_STYLE) -> None:
    """A text, indented, as it stands; the given places in another style."""
    shown, at = Text(), 0
    for start, end in places:
        shown.append(clean(text[at:start]))
        shown.append(clean(text[start:end]), style)
        at = end
    shown.append(clean(text[at:]))
    if console.is_terminal:
        console.print(Padding(shown, (0, 0, 0, 2)))
        return
    for line in shown.plain.split("\n"):
        console.print(Text(f"  {line}".rstrip()), soft_wrap=True)


def _show_verdict(verdict: Mapping[str, Any], width: int) -> None:
    name = verdict["step"].ljust(width)
    if "failed" in verdict:
        entry(verdict["failed"], lead=f"{name}  failed     ", lead_style="red", indent=2)
        return
    passed = verdict["passed"]
    said = [verdict["reason"] or verdict["reason_code"]] if passed is not True else []
    if verdict["score"] is not None:
        said.append(f"score {verdict['score']:.4g}")
    measured = {key: value for key, value in verdict["measured"].items() if value is not None}
    said += [f"{key} {_short(value)}" for key, value in measured.items() if value or isinstance(value, str)]
    none = [key for key, value in measured.items() if not value and not isinstance(value, str)]
    said += [f"{key} {_short(measured[key])}" for key in none] if len(none) < _FEW else [f"{len(none)} others are 0"]
    entry(" · ".join(part for part in said if part), lead=f"{name}  {_WORDS[passed]:9}  ", lead_style=_COLOURS[passed],
          indent=2)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else one_line(value, _MEASURE)


def _show_choice(choice: Mapping[str, Any]) -> None:
    reasons = ", ".join(reason["code"] for reason in choice["refused"])
    waits = f"; {', '.join(choice['open'])}: told only by all rows together" if choice["open"] else ""
    if reasons:
        entry(f"refuses it: {reasons}", lead=f"  {choice['step']} ", lead_style="bold red")
    else:
        entry(f"would let it pass{waits}", lead=f"  {choice['step']} ", lead_style="bold green")
