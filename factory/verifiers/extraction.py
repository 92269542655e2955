r"""Where the final answer of a response stands, as text.

Only the answer part counts (after `</think>`, inside `<answer>` where there is one); what the thinking part says is
never an answer. There the first of these that is present wins:

1. the last `\boxed{…}`, with neighbours that are joined to it by commas, `and` or `or` (several answers, one set);
2. what follows the last `####` (the mark of GSM8K);
3. what follows the last "answer is", "answer:" or "answer =", up to the end of its line;
4. the last line, if it is bare mathematics (a leading "A:" is dropped);
5. nothing: the end of the answer part is handed on as prose, for the verifier to look into.

Every scan takes time in proportion to the text, whatever a model wrote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from factory.engine.text import split_response

TAIL = 4000
"""Without a box, the answer is looked for in this many last characters of the answer part."""

_TOKEN = re.compile(r"\\+(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_JOIN = re.compile(r"(?:[\s,;.$&]|\\[,;()\[\] ]|\\quad|\\text\{\s*(?:and|or)\s*\}|\b(?:and|or|thus|but)\b)*")
_MARKER = re.compile(r"\banswer\s*(?:\*\*)?\s*(?:is|are|:|=)\s*(?:\*\*)?\s*:?", re.IGNORECASE)
_COMMAND = re.compile(r"\\[A-Za-z]+\s*")
_WORD = re.compile(r"[A-Za-z]{3,}")
_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "mod", "max", "min", "gcd",
                        "lcm"})
_MATHS = re.compile(r"[0-9]|[A-Za-z]|\\")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_CURRENCY = re.compile(r"\\\$|^\$(?=[\d.,]+$)")
_LABEL = re.compile(r"^[A-Z]:\s*(?=[-+$\d\\])")


@dataclass(frozen=True, slots=True)
class Taken:
    """An answer as it was found. `bare` says that `text` is the answer and nothing else; otherwise it is prose or
    delimited LaTeX in which the answer stands."""

    text: str
    bare: bool


def take_answer(response: str) -> Taken | None:
    """The final answer of a response; None when the response has no answer part or it is blank."""
    answer = split_response(response).answer
    return locate(answer) if answer is not None and answer.strip() else None


def locate(text: str) -> Taken:
    """Apply the rules of the module docstring to an answer part (or to a reference answer)."""
    boxed = last_boxed(text)
    if boxed is not None:
        return Taken(boxed, True)
    tail = text[-TAIL:].strip()
    _, hashes, after = tail.rpartition("####")
    if hashes and after.strip():
        return _clean(after.strip().split("\n", 1)[0])
    marked = _after_marker(tail)
    if marked:
        found = _clean(marked)
        return found if found.bare or _DELIMITED.search(marked) else Taken(f"answer is {marked}", False)
    last = _clean(_LABEL.sub("", tail.rsplit("\n", 1)[-1].strip()))
    return last if last.bare else Taken(tail, False)


def last_boxed(text: str) -> str | None:
    r"""Contents of the last outermost `\boxed{…}` that is closed and not blank, joined by ", " with its neighbours."""
    spans: list[tuple[int, int, int, int]] = []
    stack: list[tuple[int, int, bool]] = []
    open_boxes = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == "\\" and len(mark) == 2:
            continue
        if mark == "}":
            if not stack:
                continue
            start, inner, is_box = stack.pop()
            open_boxes -= is_box
            if is_box:
                # An inner box is replaced by the one around it once that closes; an outer one left open never does.
                while spans and spans[-1][0] > start:
                    spans.pop()
                if text[inner:token.start()].strip():
                    spans.append((start, inner, token.start(), token.end()))
        else:
            is_box = mark != "{"
            open_boxes += is_box
            stack.append((token.start(), token.end(), is_box))
    if not spans:
        return None
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not _JOIN.fullmatch(text, span[3], group[-1][0]):
            break
        group.append(span)
    parts = [text[inner:end].strip() for _, inner, end, _ in reversed(group)]
    # The same box twice in a row is one answer said twice, not a set.
    return ", ".join(dict.fromkeys(parts))


def is_bare(text: str) -> bool:
    """Whether a line is mathematics and nothing else: no LaTeX delimiters, no words but function names."""
    if not text or len(text) > 400 or "\n" in text or _DELIMITED.search(text) or not _MATHS.search(text):
        return False
    rest = re.sub(r"\\(?:text|mathrm|textbf|operatorname|begin|end)\s*\{[^{}]*\}", " ", text)
    return all(word.lower() in _FUNCTIONS for word in _WORD.findall(_COMMAND.sub(" ", rest)))


def _clean(text: str) -> Taken:
    stripped = text.strip().strip("*_ \t").rstrip(".。").rstrip("*_ \t")
    stripped = _CURRENCY.sub("", stripped).strip()
    return Taken(stripped, is_bare(stripped))


def _after_marker(tail: str) -> str:
    """The rest of the line after the last marker, or the next line where the marker ends its own."""
    for match in reversed(list(_MARKER.finditer(tail))):
        rest = tail[match.end():].lstrip()
        if rest[:2] in ("$$", "\\["):
            return rest
        line = rest.split("\n", 1)[0].strip()
        if line.strip("*_. "):
            return line
    return ""
