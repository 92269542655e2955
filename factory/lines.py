"""Plain lines for a terminal: tables and entries that wrap at words with a hanging indent, and never inside a name.

In a pipe nothing is wrapped or coloured, so a line stays a line. Control characters in data are shown, not sent: a
model's answer must not be able to move the cursor.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

console = Console(highlight=False)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_NARROW = 20
"""A last column with less room than this goes below its row, as does one whose longest name would not fit."""


def clean(text: str) -> str:
    """Control characters as escapes a reader can see; tabs and line ends stay."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text.replace("\r\n", "\n"))


def size(count: float) -> str:
    """Bytes as people say them: 12 B, 3.4 MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def one_line(value: Any, most: int = 0) -> str:
    """A value on one line, as JSON where it is a structure, cut after `most` characters."""
    if isinstance(value, bytes):
        return value.hex()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=plain)
    text = " ".join(clean(text).split())
    return f"{text[:most]}… ({len(text):,} characters)" if most and len(text) > most else text


def counted(reasons: Mapping[str, int], most: int = 6) -> str:
    """Reasons with their counts, the most frequent first."""
    shown = [f"{name} {count:,}" for name, count in list(reasons.items())[:most]]
    more = len(reasons) - most
    return ", ".join(shown) + (f", … {more} more" if more > 0 else "")


def plain(value: Any) -> Any:
    """What JSON has no form for."""
    return value.hex() if isinstance(value, bytes) else str(value)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=plain))


def entry(text: str, *, lead: str = "", lead_style: str = "", style: str = "", indent: int = 0) -> None:
    """Text after a lead, wrapped at words; lines that follow stand below the text, not below the lead."""
    lead = " " * indent + lead
    room = console.width - len(lead) if console.is_terminal else 0
    if room and len(text) > room and (room < _NARROW or room < _longest(text) <= console.width - indent - 4):
        console.print(Text(lead.rstrip(), lead_style), soft_wrap=True)
        lead, room = " " * (indent + 4), console.width - indent - 4
    lines = [piece for line in clean(text).split("\n") for piece in _wrapped(line, room)]
    for number, line in enumerate(lines):
        head = Text(lead, lead_style) if number == 0 else Text(" " * len(lead))
        whole = head + Text(line, style)
        whole.rstrip()
        console.print(whole, soft_wrap=True)


def _longest(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _wrapped(line: str, room: int) -> list[str]:
    if not room or len(line) <= room:
        return [line]
    return textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False, drop_whitespace=True) or [""]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str] = (),
          styles: Sequence[str] = (), indent: int = 0) -> None:
    """Columns as wide as their content; only the last one wraps. `styles` colours the last cell of each row."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header) - 1)]

    def lead(row: Sequence[str]) -> str:
        cells = [cell.rjust(width) if name in numbers else cell.ljust(width)
                 for name, cell, width in zip(header, row, widths, strict=False)]
        return "".join(f"{cell}  " for cell in cells)

    if any(header):
        entry(header[-1], lead=lead(header), lead_style="dim", style="dim", indent=indent)
    for number, row in enumerate(rows):
        entry(row[-1], lead=lead(row), style=styles[number] if styles else "", indent=indent)


def fields(pairs: Sequence[tuple[str, str]], indent: int = 0) -> None:
    """Names and values, the values aligned; empty ones are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        entry(value, lead=name.ljust(width) + "  ", lead_style="dim", indent=indent)


def complain(message: str, kind: str = "error") -> None:
    """One block on standard error, wrapped at words in a terminal."""
    text = clean(f"{kind}: {message}")
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join("\n  ".join(_wrapped(line, width - 2)) for line in text.split("\n"))
    print(text, file=sys.stderr)


def heading(text: str) -> None:
    """A line that parts one record from the next."""
    entry(text, lead="── ", lead_style="dim", style="dim")
