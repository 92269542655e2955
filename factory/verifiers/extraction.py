r"""Where the final answer of a response stands, as text.

Only the answer part counts (after `</think>`, inside `<answer>` where there is one); what the thinking part says is
never an answer. There the first of these that is present wins:

1. the field `"answer"` of a JSON object that ends the text;
2. all `\boxed{…}`: an equal one that is repeated counts once, different ones are several *finals*;
3. what follows the last `####` (the mark of GSM8K);
4. what follows the last "answer is", "answer:", 答案是, 答案为, 故选, 因此…为, up to the end of its sentence;
5. the last line, if it is bare mathematics (a leading "A:" is dropped): so a text that is nothing but an answer is one;
6. the last formula between delimiters, or the last number, in the last lines that have one;
7. nothing: the end of the answer part is handed on as prose, for the verifier to look into.

Every scan takes time in proportion to the text, whatever a model wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from factory.engine.text import split_response
from factory.verifiers.spelling import tidy, unwrap

TAIL = 4000
"""Without a box, the answer is looked for in this many last characters of the answer part."""
LAST_LINES = 6
MOST_BOXES = 200

_TOKEN = re.compile(r"(?<!\\)\\+(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_JOIN = re.compile(r"(?:[\s,;.$&]|\\[,;()\[\] ]|\\quad|\\text\{\s*(?:and|or)\s*\}|\b(?:and|or|thus|but)\b)*")
_JSON_FIELD = re.compile(r'"(?:final[_ ])?answer"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d[\d.,eE+-]*|\[[^\[\]{}]*\]|true|false)'
                         r"\s*,?\s*"
                         r"(?:\}\s*)*(?:```\s*)?$", re.IGNORECASE | re.DOTALL)
_MARKER = re.compile(
    r"(?:\banswers?\s*\*{0,2}\s*(?:is|are|was|(?:would|should|must|will) be|[:：=])"
    r"|(?:答案|结果)\s*\*{0,2}\s*(?:应该|应当|应)?\s*(?:是|为|等于|[:：=])|答\s*[:：]|故选|应选"
    r"|(?:因此|所以|综上|故|于是|从而)[^。\n]{0,100}(?:为|是|等于))"
    r"\s*\*{0,2}\s*[:：]?\s*\*{0,2}\s*", re.IGNORECASE)
_COMMAND = re.compile(r"\\[A-Za-z]+\s*")
_WORD = re.compile(r"[A-Za-z]{3,}")
_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "mod", "max", "min", "gcd",
                        "lcm"})
_MATHS = re.compile(r"[0-9]|[A-Za-z]|\\")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_FORMULA = re.compile(r"\$\$(.{1,2000}?)\$\$|(?<!\\)\$([^$\n]{1,1000}?)(?<!\\)\$|\\\((.{1,1000}?)\\\)"
                      r"|\\\[(.{1,2000}?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_^.,/\\{-])(?:\\?\$\s*)?"
                     r"([-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*\\?%|\s*percent(?:age)?\b)?)(?![\d^])")
_OBJECT = re.compile(r"[A-Za-z]|[A-Z]{2,8}'?|\\(?:triangle|angle|overline)\s*\{?[A-Z]+\}?")  # names, not answers
_SPECIAL = re.compile(r"(?:\s|</s>|<\|[a-z_]{1,20}\|>|<eos>|```)+$")
_LISTED = re.compile(r"(?:\$[^$\n]+\$|\\\([^\n]{1,500}?\\\)|[\s,;.]|and|or)+")
_OPEN_FORMULA = re.compile(r"\$[^$\d\s.]|\\\(|\\\[")
_LISTING = re.compile(r"(?<![A-Za-z])(?:and|or)(?![a-z])")
_IS = re.compile(r".*(?:\b(?:is|are|equals)\b|(?<![<>!])=|为|是|等于)\s*(?=[^\s=])")
_CURRENCY = re.compile(r"\\\$|^\$(?=[\d.,]+$)")
_LABEL = re.compile(r"^[A-Z]:\s*(?=[-+$\d\\])")
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z*]|\s*$)|[。；]|[，,](?=\s*(?:which|because|since|so)\b)"
                           r"|(?<=\d)\s+(?=(?:because|since|so)\b)")


@dataclass(frozen=True, slots=True)
class Taken:
    """An answer as it was found. `bare` says that `text` is the answer and nothing else; otherwise it is prose or
    delimited LaTeX in which the answer stands. `finals` are the different boxed values where there are several (`text`
    is then all of them); `prose` is the sentence from which rule 6 picked a number or a formula."""

    text: str
    bare: bool
    finals: tuple[str, ...] = ()
    prose: str = ""


def take_answer(response: str) -> Taken | None:
    """The final answer of a response; None when the response has no answer part or it is blank."""
    answer = answer_part(response)
    return locate(answer) if answer else None


def answer_part(response: str) -> str:
    """What counts of a response, stripped; "" where there is nothing."""
    return (split_response(response).answer or "").strip()


def take_gold(gold: str) -> Taken:
    """The reference answer within its text: its last box or boxes, what follows `####` or a marker in a text of several
    lines, or all of it."""
    boxed = last_boxed(gold)
    if boxed is not None:
        return Taken(boxed, True)
    text = gold.strip()
    if "####" in text or "\n" in text or _MARKER.search(text[-TAIL:]):
        found = locate(text)
        if found.bare and not found.prose:
            return found
    return Taken(text, is_bare(text))


def locate(text: str) -> Taken:
    """Apply the rules of the module docstring to an answer part."""
    text = _SPECIAL.sub("", text)
    tail = text[-TAIL:].strip()
    field = _json_field(tail)
    if field is not None:
        return field
    boxes = all_boxed(text)
    if boxes:
        # The same answer said twice is one answer.
        distinct = list({tidy(box): box for box in boxes[-MOST_BOXES:]}.values())
        return Taken(", ".join(distinct), True, tuple(distinct) if len(distinct) > 1 else ())
    _, hashes, after = tail.rpartition("####")
    if hashes and after.strip():
        return _from_marked(after.strip().split("\n", 1)[0])
    marked = _after_marker(tail)
    if marked:
        return _from_marked(marked)
    last = _clean(_LABEL.sub("", tail.rsplit("\n", 1)[-1].strip()))
    return last if last.bare else _from_last_lines(tail)


def all_boxed(text: str) -> list[str]:
    r"""Contents of all outermost `\boxed{…}` that are closed and not blank, in order."""
    return [text[inner:end].strip() for _, inner, end, _ in _box_spans(text)]


def last_boxed(text: str) -> str | None:
    r"""Contents of the last outermost `\boxed{…}` that is closed and not blank, joined by ", " with its neighbours."""
    spans = _box_spans(text)
    if not spans:
        return None
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not _JOIN.fullmatch(text, span[3], group[-1][0]):
            break
        group.append(span)
    parts = [text[inner:end].strip() for _, inner, end, _ in reversed(group)]
    return ", ".join(dict.fromkeys(parts))


def _box_spans(text: str) -> list[tuple[int, int, int, int]]:
    """Where boxes begin, their contents begin and end, and they end."""
    spans: list[tuple[int, int, int, int]] = []
    stack: list[tuple[int, int, bool]] = []
    if "\\boxed" not in text and "\\fbox" not in text:
        return spans
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == "\\" and len(mark) == 2:
            continue
        if mark == "}":
            if not stack:
                continue
            start, inner, is_box = stack.pop()
            if is_box:
                # An inner box is replaced by the one around it once that closes; an outer one left open never does.
                while spans and spans[-1][0] > start:
                    spans.pop()
                if text[inner:token.start()].strip():
                    spans.append((start, inner, token.start(), token.end()))
        else:
            stack.append((token.start(), token.end(), mark != "{"))
    return spans


def is_bare(text: str) -> bool:
    """Whether a line is mathematics and nothing else: no LaTeX delimiters, no words but function names."""
    if not text or len(text) > 400 or "\n" in text or _DELIMITED.search(text) or not _MATHS.search(text):
        return False
    rest = re.sub(r"\\(?:text|mathrm|textbf|operatorname|begin|end)\s*\{[^{}]*\}", " ", text)
    words = _WORD.findall(_LISTING.sub(" ", _COMMAND.sub(" ", rest)))
    return all(word.lower() in _FUNCTIONS for word in words) and not re.search(r"[\u3400-\u9fff]{2}", rest)


def _json_field(tail: str) -> Taken | None:
    start = tail.lower().rfind('answer"')
    found = _JSON_FIELD.search(tail, max(start - 8, 0)) if start >= 0 else None
    if found is None:
        return None
    raw = found[1]
    if raw.startswith('"'):
        try:
            # Backslashes of LaTeX are often not escaped; then the text between the quotes is meant as it stands.
            raw = json.loads(raw) if "\\\\" in raw or "\\" not in raw else raw[1:-1]
        except ValueError:
            raw = raw[1:-1]
    inner = all_boxed(raw)
    cleaned = _clean(raw)
    return Taken(", ".join(inner), True) if inner else Taken(cleaned.text, True) if cleaned.text else None


def _clean(text: str) -> Taken:
    stripped = text.strip().strip("*_ \t").rstrip(".。").rstrip("*_ \t")
    stripped = _CURRENCY.sub("", stripped).strip()
    return Taken(stripped, is_bare(stripped))


def _after_marker(tail: str) -> str:
    """The rest of the line after the last marker, or the next line where the marker ends its own."""
    found = list(_MARKER.finditer(tail))
    for index in range(len(found) - 1, -1, -1):
        rest = tail[found[index].end():].lstrip()
        if rest[:2] in ("$$", "\\["):
            return rest
        line = rest.split("\n", 1)[0].strip()
        before = tail[max(found[index].start() - 5, 0):found[index].start()].lower()
        if not line.strip("*_. ") or before == "this ":  # "This answer is correct." is none
            continue
        if index and "\n" not in rest and not line.endswith((".", "。")):
            before = tail[found[index - 1].end():found[index].start()].split("\n", 1)[0].strip()
            if before.startswith(line):  # the text breaks off while it says the answer again
                return before
        return line
    return ""


def _from_marked(marked: str) -> Taken:
    """The answer at the start of what follows a marker."""
    formula = _FORMULA.match(marked)
    if formula:
        parts, at = [_inner(formula)], formula.end()
        while (more := _FORMULA.search(marked, at)) and _JOIN.fullmatch(marked, at, more.start()):
            parts.append(_inner(more))
            at = more.end()
        rest = marked[at:].strip(" .*$")
        if len(parts) == 1 and rest and rest[0] in "=<>+-/^(,":
            return Taken(f"answer is {marked[:400]}", False)
        return Taken(", ".join(parts), True)
    end = _SENTENCE_END.search(marked)
    sentence = _clean(marked[:end.start()] if end else marked)
    if sentence.bare or (sentence.text and not re.search(r"[\d\\$]", sentence.text) and len(sentence.text) < 200):
        return Taken(sentence.text, True)
    unit = _NUMBER.match(marked)
    if unit and not _NUMBER.search(sentence.text, unit.end()) and not _DELIMITED.search(sentence.text):
        return Taken(sentence.text if len(sentence.text.split()) <= 4 else unit[1], True, prose=marked)
    said = _IS.match(sentence.text)
    if said and said.end() < len(sentence.text):
        return _from_marked(sentence.text[said.end():])
    formulas = [found for found in _FORMULA.finditer(sentence.text) if not _OBJECT.fullmatch(_inner(found))]
    if len(formulas) == 1:
        return Taken(_inner(formulas[0]), True, prose=marked)
    numbers = [found[1] for found in _NUMBER.finditer(sentence.text)]
    if not formulas and len(numbers) == 1 and "\\" not in sentence.text:
        return Taken(numbers[0], True, prose=marked)
    return Taken(f"answer is {marked[:400]}", False)


def _from_last_lines(tail: str) -> Taken:
    """Rule 6: the last formula or number, if one of the last lines has any."""
    display = _FORMULA.search(tail, max(len(tail) - 2100, 0)) if tail.endswith(("$$", "\\]", "$$.", "\\].")) else None
    last_display = None
    while display:
        last_display, display = display, _FORMULA.search(tail, display.end())
    if last_display and last_display.end() >= len(tail) - 1:
        return Taken(_inner(last_display), True, prose=tail[-1000:])
    lines = [line.strip() for line in tail.split("\n") if line.strip()]
    for line in reversed(lines[-LAST_LINES:]):
        line = line[-1000:]
        if _OPEN_FORMULA.search(_FORMULA.sub("", line)):
            return Taken("", True)  # breaks off within a formula: nothing was answered
        whole = _from_marked(line) if _FORMULA.match(line) else None
        if whole is not None and whole.bare and _LISTED.fullmatch(line):
            return whole
        formulas = [found for found in _FORMULA.finditer(line) if not _OBJECT.fullmatch(_inner(found))]
        end = formulas[-1].end() if formulas else 0
        numbers = list(_NUMBER.finditer(line, end))
        if numbers and "\\" not in line[end:].replace("\\%", "").replace("\\$", ""):
            return Taken(numbers[-1][1].rstrip(","), True, prose=line)
        if formulas:
            return Taken(_inner(formulas[-1]), True, prose=line)
        if "\\" in line and len(line) > 300:
            return Taken("", True)
        if "\\" in line or re.search(r"\d", line):
            return Taken(line, False)
    return Taken(lines[-1] if lines else tail, False)


def find_numbers(text: str) -> list[str]:
    """The numbers in a sentence, as they stand there."""
    return [found[1].rstrip(",") for found in _NUMBER.finditer(text)]


def _inner(found: re.Match[str]) -> str:
    return unwrap(next(group for group in found.groups() if group is not None))
