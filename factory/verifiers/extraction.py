r"""Where the final answer of a response stands, as text.

Only the answer part counts (after `</think>`, inside `<answer>` where there is one); what the thinking part says is
never an answer. There the first of these that is present wins:

1. the field `"answer"` of a JSON object that ends the text;
2. all `\boxed{…}`: an equal one that is repeated counts once, different ones are several *finals*; so are several
   `<answer>` blocks, and what rules 1, 3 and 4 find behind the last box;
3. what follows the last `####` (the mark of GSM8K);
4. what follows the last "answer is", "answer:", 答案是, 答案为, 故选, 因此…为, up to the end of its sentence;
5. the last line, if it is bare mathematics (a leading "A:" is dropped): so a text that is nothing but an answer is one;
6. the last formula between delimiters, or the last number, in the last lines that have one;
   In rules 4 and 6 the words beside a number count: "not 5", "more than 5", "5 to 6" are handed on with them,
   "minus 5" is -5, "5. No, 6." is 6;
7. nothing: the end of the answer part is handed on as prose, for the verifier to look into.

Every scan takes time in proportion to the text, whatever a model wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from factory.engine.text import split_response
from factory.verifiers.spelling import tidy, unwrap

TAIL = 4000
"""Without a box, the answer is looked for in this many last characters of the answer part."""
LAST_LINES = 6
MOST_BOXES = 200

BOUND = re.compile(
    r"(?:(?:is|are|was|can|could|do|does|should|would|will|must)?\s*(?:n['’]?t|not)\b|cannot\b|can['’]t\b|never\b"
    r"|(?:strictly\s+)?(?:less|more|greater|fewer|smaller|larger|bigger|higher|lower)\s+than\b|at\s+(?:least|most)\b"
    r"|no\s+(?:less|more|fewer|greater)\s+than\b|(?:over|under|above|below|between|neither|anything|any|maybe|perhaps"
    r"|possibly|except|up\s+to|unlikely)\b|不|大于|小于|多于|少于|超过|低于|高于|(?:至少|至多|最多|最少)(?=是?\s*[\d$\\])|除了|可能|[并绝]?非(?=\d)"
    r"|(?:all|anything)\s+but\b|other\s+than\b|(?:the\s+)?(?:half|twice|double|triple|thrice|square|cube|factorial"
    r"|opposite|reciprocal)(?:\s+root)?\s+(?:of\s+)?(?=[-$\\\d.]))", re.IGNORECASE)
"""How a text begins that bounds or denies the value it goes on with."""
_TOKEN = re.compile(r"(?<!\\)\\+(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_JOIN = re.compile(r"(?:[\s,;.$&，；、或和与]|\\[,;()\[\] ]|\\quad|\\text\{\s*(?:and|or)\s*\}"
                   r"|\b(?:and|or|thus|but)\b)*")
_BEHIND_BOX = re.compile(r"_\s*(?:\d|\{\s*\d{1,2}\s*\})|\s*\\?%|(?:\\[,; ]|\s)*\\text\{\s*(?:cents?|dozen|hundred"
                         r"|thousand|[mb]illion|percent)\s*\}")
_JSON_FIELD = re.compile(r'"(?:final[_ ])?answer"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d[\d.,eE+-]*|\[[^\[\]{}]*\]|true|false)'
                         r"\s*,?\s*"
                         r"(?:\}\s*)*(?:```\s*)?$", re.IGNORECASE | re.DOTALL)
_MARKER = re.compile(
    r"(?:\banswers?\s*\*{0,2}\s*(?:is|are|was|(?:would|should|must|will) be|[:：=]"
    r"|(?=(?:isn|wasn|aren|can|could|do|does|should|would|will|must)(?:['’]t|not|\s+not)\b))"
    r"|(?:答案|结果|选项)\s*\*{0,2}\s*(?:应该|应当|应)?\s*(?:是|为|等于|[:：=]|(?=不(?:是|为|等于|选|可能)))|答\s*[:：]|故选|应选"
    r"|【(?:答案|解答)】|(?<!不)选择?\s*[:：]?\s*(?=\(?[A-J](?![A-Za-z]))"
    r"|\b(?:correct|right|best)\s+(?:option|choice)\s+is"
    r"|(?:因此|所以|综上|故|于是|从而)[^。\n]{0,100}(?<!不)(?<!不会)(?<!不能)(?<!可能)(?<!并非)(?:为|是|等于))"
    r"\s*\*{0,2}\s*[:：]?\s*\*{0,2}\s*", re.IGNORECASE)
_NEGATIVE = re.compile(r"^(?:(?:negative|minus)\s+|负\s*)(?=\\?[\d.])", re.IGNORECASE)
_NEGATIVE_FORMULA = re.compile(r"^(?:(?:negative|minus)\s+|负\s*)(?=(?:\$|\\\()\s*[\d.\\])", re.IGNORECASE)
_DENIED = re.compile(r"^(?:not|isn['’]t)\s[^.\n]{1,60}?,?\s+but\s+(?:rather\s+)?(?=[^\s])", re.IGNORECASE)
_SEVERAL = re.compile(r"\b(?:and|or|either|maybe|perhaps|possibly)\b|或|和|也可能", re.IGNORECASE)
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
_LABEL = re.compile(r"^(?:[A-Z]:\s*(?=[-+$\d\\])|(?i:option)\s+(?=\(?[A-J]\b)|[✅✔☑🎉👉➡→⇒•\ufe0f\s]+)")
_FINAL = re.compile(r"[A-J]|[^a-z]*\d[^a-z]*(?:\s?[a-z]{1,10}){0,2}|.*\\(?:frac|sqrt|pi|d?frac|text).*", re.DOTALL)
_OUT_OF = re.compile(r"\bout of\s+\$?$")
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z*]|\s*$)|[。；]|[，,](?=\s*(?:which|because|since|so|as|not)\b)"
                           r"|(?:(?<=\d)|(?<=\b[A-J]))\s+(?=\(?(?:because|since|so|as)\b)")
_DENIES = re.compile(r"(?:(?:\bnot|n['’]t|\bnever)\s+(?:(?:equal\s+to|exactly|be)\s+)?|\b(?:less|more|greater|fewer"
                     r"|smaller|larger)\s+than\s+|\b(?:half|twice|double|triple|square|cube|factorial)\s+(?:of\s+)?"
                     r"|\bunlikely\s+|\bcannot\s+(?:be|equal)\s+|\banything\s+but\s+|\bexceeds\s+|不(?:止|到)\s*"
                     r"|(?:[A-Za-z](?:_\w)?\s*)?(?:[<>≤≥≠]|!=)\s*|不(?:会|可能|应该?|能|一定)?(?:是|为|等于)\s*|[并绝]?非\s*|大于\s*|小于\s*|多于\s*|少于\s*"
                     r"|低于\s*|高于\s*|超过\s*|不足\s*)$", re.IGNORECASE)
_TURNED = re.compile(r"\s*((?:or|squared|cubed|factorial|percent|plus|minus|maybe|k|hundred|thousand|[mb]illion"
                     r"|trillion|dozen)\b|(?:more|less|fewer)\s+than\b|times\s+(?=\$?[\d\\])|to\s+(?=\$?\d))",
                     re.IGNORECASE)
_SCALED = re.compile(r"\s*((?:k|hundred|thousand|[mb]illion|trillion|dozen|squared|cubed)\b)", re.IGNORECASE)
_CORRECTION = re.compile(r"[.。;；\s]+(?:no|wait|actually|sorry|oops|correction|不对|等等)\b[\s,:!.，]*"
                         r"(?:(?:it|that|this|the\s+(?:right\s+)?answer)(?:['’]s|\s+(?:is|should\s+be))\s+)?(?=[-\d$(\\]|[A-J]\b)",
                         re.IGNORECASE)
_STRUCK = re.compile(r"(?<![~\\$\w}])~~(?![~\s])[^~\n$\\]{1,200}(?<!\s)~~(?!~)")
_SIGNED = re.compile(r"(?:(?:\b(?:is|are|be|was|equals|gives|gets?|result)|=)\s+(?:minus|negative)\s+|[是为得]负\s*)$",
                     re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:[-–—~～]|到|至)\s*\$?(\d[\d.,]*)")


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
    if not answer:
        return None
    blocks = response[split_response(response).answer_at:].split("<answer>")[:MOST_BOXES]
    inner = [block.split("</answer>", 1)[0].strip() for block in blocks if "</answer>" in block]
    found = [locate(block) for block in inner if block]
    return _together(found) if len(found) > 1 else locate(answer)


def _together(found: list[Taken]) -> Taken:
    """Several finals; one that is said again counts once."""
    distinct = list({tidy(one.text): one for one in found}.values())
    if len(distinct) == 1:
        return distinct[0]
    texts = [text for one in distinct for text in one.finals or (one.text,)]
    return Taken(", ".join(texts), True, tuple(texts))


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
    text = _STRUCK.sub("", _SPECIAL.sub("", text))
    tail = text[-TAIL:].strip()
    field = _json_field(tail)
    spans = _box_spans(text)
    boxes = [Taken(_box_text(text, span), True) for span in spans[-MOST_BOXES:]]
    if field is not None:
        return _together([*boxes, field]) if len(boxes) == 1 and r"\boxed" not in field.text else field
    if boxes:
        return _together([*boxes, *_said_after(text[spans[-1][3]:][-TAIL:])])
    _, hashes, after = tail.rpartition("####")
    if hashes and after.strip():
        line, _, rest = after.strip().partition("\n")
        return _together([_from_marked(line), *_said_after(rest)])
    marked = _after_marker(tail)
    if marked:
        return _from_marked(marked)
    last = _clean(_LABEL.sub("", tail.rsplit("\n", 1)[-1].strip()))
    return last if last.bare else _from_last_lines(tail)


def _said_after(rest: str) -> list[Taken]:
    """A further final behind a box or `####`: after a mark, and nothing but a value."""
    _, hashes, after = rest.rpartition("####")
    marked = after.strip().split("\n", 1)[0] if hashes else _after_marker(rest.strip())
    found = _from_marked(marked) if marked and len(marked) < 200 else None
    if found is None or not found.bare or found.prose or not found.text or not _FINAL.fullmatch(found.text):
        return []
    return [found]


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
    parts = [_box_text(text, span) for span in reversed(group)]
    return ", ".join(dict.fromkeys(parts))


def _box_text(text: str, span: tuple[int, int, int, int]) -> str:
    """What a box holds, with a base, a scale or a per cent sign right behind it."""
    behind = _BEHIND_BOX.match(text, span[3])
    return text[span[1]:span[2]].strip() + (behind[0] if behind else "")


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
    marked = _NEGATIVE.sub("-", _DENIED.sub("", marked))
    if _NEGATIVE_FORMULA.match(marked):
        found = _from_marked(_NEGATIVE_FORMULA.sub("", marked))
        return replace(found, text=f"-{found.text}") if found.bare else found
    end = _SENTENCE_END.search(marked)
    if BOUND.match(marked):
        return Taken(_clean(marked[:end.start()] if end else marked).text, True)
    corrected = _CORRECTION.match(marked, end.start()) if end and len(marked) - end.end() < 60 else None
    if corrected:
        return _from_marked(marked[corrected.end():])
    formula = _FORMULA.match(marked)
    if formula:
        parts, at = [_inner(formula)], formula.end()
        while (more := _FORMULA.search(marked, at)) and _JOIN.fullmatch(marked, at, more.start()):
            parts.append(_inner(more))
            at = more.end()
        rest = marked[at:].strip(" .*$")
        turned = _TURNED.match(rest) if len(parts) == 1 and rest else None
        further = _RANGE.match(rest) if len(parts) == 1 and rest else None
        if turned or further:
            return Taken(f"{parts[0]} {turned[1] if turned else f'to {further[1]}' if further else ''}", True)
        if len(parts) == 1 and rest and rest[0] in "=<>+-/^(,":
            return Taken(f"answer is {marked[:400]}", False)
        return Taken(", ".join(parts), True)
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
        return _picked(sentence.text, formulas[0].span(), _inner(formulas[0]), marked)
    numbers = list(_NUMBER.finditer(sentence.text))
    if not formulas and len(numbers) == 1 and "\\" not in sentence.text:
        return _picked(sentence.text, numbers[0].span(), numbers[0][1], marked)
    listed = len(numbers) > 1 and len(sentence.text) < 60 and _SEVERAL.search(sentence.text)
    return Taken(sentence.text, True) if listed and not formulas else Taken(f"answer is {marked[:400]}", False)


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
        numbers = [found for found in _NUMBER.finditer(line, end) if not _OUT_OF.search(line, 0, found.start())]
        if numbers and "\\" not in line[end:].replace("\\%", "").replace("\\$", ""):
            said = [found for found in numbers if not _DENIES.search(line, max(found.start() - 60, 0), found.start())]
            last = (said or numbers)[-1]
            return _picked(line, last.span(), last[1].rstrip(","), line)
        if formulas:
            return _picked(line, formulas[-1].span(), _inner(formulas[-1]), line)
        if "\\" in line and len(line) > 300:
            return Taken("", True)
        if "\\" in line or re.search(r"\d", line):
            return Taken(line, False)
    return Taken(lines[-1] if lines else tail, False)


def _picked(text: str, span: tuple[int, int], value: str, prose: str) -> Taken:
    """A number or a formula picked from prose, with the words beside it that deny it, turn it or make it a range."""
    before = text[max(span[0] - 60, 0):span[0]]
    denied, further, turned = _DENIES.search(before), _RANGE.match(text, span[1]), _SCALED.match(text, span[1])
    if denied:
        return Taken(denied[0] + value, True)
    if further:
        return Taken(f"{value} to {further[1]}", True)
    value = f"-{value}" if _SIGNED.search(before) and re.match(r"[\d.\\]", value) else value
    times = "thousand" if turned and turned[1] in "kK" else turned[1] if turned else ""
    return Taken(f"{value} {times}".strip(), True, prose=prose)


def find_numbers(text: str) -> list[str]:
    """The numbers in a sentence, as they stand there."""
    return [found[1].rstrip(",") for found in _NUMBER.finditer(text)]


def _inner(found: re.Match[str]) -> str:
    return unwrap(next(group for group in found.groups() if group is not None))
