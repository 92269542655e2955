r"""`verify.choice`: does a response choose the right option of a multiple-choice question?

Only the answer part counts (after `</think>`, inside `<answer>` where there is one). There the first of these that is
present says what was chosen (see `factory.verifiers.choice_text` for how a statement is read):

1. the answer part itself, where it is a choice and nothing else, or as a whole the text of one option;
2. `\boxed{…}`, every one of them;
3. "the answer is …", "Answer: …", `####`, "答案是…", "故选…", every one of them;
4. "option C is correct", "I choose C", "(C) is the right answer", every one of them;
5. the last line, or else the first, where it is a choice; lines that merely repeat the options are none.

"I choose" and "it is" (of 4) give way to a last line which is a choice. Negated statements are none.

The same choice said twice is one. Different choices together are right only if they are, as a set, the reference;
otherwise they contradict one another and the response is `incorrect`. Letters need no options; texts and numbers do:
name their column with `options`, or with `question` the text that lists them.

The reference is a letter, several letters, the text of an option, or with `gold: index0` or `index1` its number counted
from 0 or 1. One that is not among the options makes the verdict `undecided`; so does a bare number while `gold` is
`auto` (unless the question itself numbers its options), for nothing tells from where it counts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from factory.engine.op import Kind, OpContext, Params, Trial, op
from factory.engine.text import split_response
from factory.verifiers.choice_text import (
    LETTERS,
    Chosen,
    Options,
    denied,
    given_options,
    options_of,
    plain,
    read_statement,
    turns_later,
)
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

Gold = Literal["auto", "index0", "index1"]

LONGEST = 200_000
"""Of a longer answer part only the end is read."""
MOST_FINALS = 200
"""Of more places that say what the answer is only the last count."""

_BRACE = re.compile(r"\\+(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_BETWEEN_BOXES = re.compile(r"\s*(?:,|;|&|and|和|、)?\s*")
_STRONG = re.compile(
    r"(?:\b(?:(?:correct|right|final) answers?(?:\s+(?:options?|choices?|letters?)\b)?"
    r"|answers?(?:\s+(?:option|choice|letter)\b)?"  # "answer choices:" lists them
    r"|correct (?:options?|choices?)|right (?:option|choice)|best (?:option|choice)|final choice)"
    r"(?:,?\s+(?:to|for|here|then|therefore|thus|among|from)\b[^.\n?]{0,60}?)?\s*(?:\(s\)\s*)?"
    r"(?:\b(?:is|are|would be|should be|must be)\b|:|=|->|→)\s*:?\s*|\banswer\s+(?=[(\[][A-Ja-j][)\]])|####\s*"
    r"|(?:答案|正确选项|正確選項|答)\s*(?:是|为|為|应为|应该是|选|選|:)\s*:?\s*"
    r"|(?<![不未没非])(?:选|選)(?:择|擇)?(?![项項])\s*:?\s*)"
    r"(?:(?:indeed|therefore|thus|clearly|simply)\s+)?", re.IGNORECASE)
_WEAK = re.compile(
    r"(?:\b(?:choose|select|pick|go with|going with)\s+(?:(?:option|choice|answer)\s+)?|\bit(?:['’]s| is)\s+"
    r"|\b(?:think|believe|say|guess)\s+(?=(?:option|choice)\b|\([A-J]\))"
    r"|\b(?:so|therefore|hence|thus),?\s+(?=(?:option|choice)\b|\([A-J]\)|(?-i:[A-J])[.!]?\s*(?:\n|$)))", re.IGNORECASE)
_JUDGED = re.compile(
    r"(?:\b(?:option|choice|answer)\s+\(?([A-Ja-j])\)?|\(([A-Ja-j])\)|(?<![\w'’])(?-i:([A-J])))\s*"
    r"(?:is|must be|has to be)\s+(?:indeed\s+)?(?:the\s+)?(?:only\s+)?(?:correct|right|best|answer)\b"
    r"(?!\s*(?:\w+\s*)?\?)"
    r"|选项\s*([A-J])\s*(?:是)?(?:正确|对)", re.IGNORECASE)
_NEGATED = re.compile(
    r"(?:(?:\bnot|n['’]t|\bif|\bwhether|\bunless|\bnever|不|如果|若)\s*(?:\w+\s+){0,2}"
    r"|\b(?:false|wrong|incorrect|untrue|unlikely|impossible|refuse|hesitate)\s+(?:that|to)\s+(?:\w+\s+){0,3}"
    r"|\b(?:false|wrong|incorrect|other|least|worst)\s+(?:(?!(?:so|and|but|the|hence|thus|therefore|because)\b)\w+\s+)?)$",
    re.IGNORECASE)

_BARE_LINE = re.compile(r"\W*[A-Ja-j]\W*")


class ChoiceParams(Params):
    """`response` and `answer` name the columns of the response and the reference; `options` that of the options (a
    list, or JSON of one) and `question` that of a text which lists them, where there is one; `gold` says how a number
    as the reference counts."""

    response: str = "response"
    answer: str = "answer"
    options: str | None = None
    question: str | None = None
    gold: Gold = "auto"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.response, self.answer, self.options, self.question) if name is not None)


def choice_trials(params: ChoiceParams) -> list[Trial]:
    """Every letter as its own reference in three spellings, and beside the reference of its neighbour."""
    texts = ["one half", "all of it", "none of it", "it depends"]
    listed = "How much?\n" + "\n".join(f"{LETTERS[i]}. {text}" for i, text in enumerate(texts))
    trials = []
    for index, letter in enumerate("ABCD"):
        said = (letter, f"<think>({LETTERS[3 - index]})?</think>The answer is ({letter}).",
                rf"\boxed{{\text{{{letter}}}}}")
        gold = {"auto": letter, "index0": str(index), "index1": str(index + 1)}[params.gold]
        other = {"auto": LETTERS[(index + 1) % 4], "index0": str((index + 1) % 4),
                 "index1": str((index + 1) % 4 + 1)}[params.gold]
        sources = ((params.options, texts), (params.question, listed))
        row: dict[str, Any] = {name: value for name, value in sources if name is not None}
        for response in said:
            trials.append(Trial({**row, params.answer: gold, params.response: response}, "correct"))
            trials.append(Trial({**row, params.answer: other, params.response: response}, "incorrect"))
    return trials


# Version 2: denied, hedged or listed letters choose nothing, nor do numbers where the question numbers no options.
@op("verify.choice", version=2, kind=Kind.SCORE, params=ChoiceParams, columns=lambda params: params.columns,
    out=VERDICT_OUT, code=("factory.verifiers.choice_text",), trials=choice_trials)
def verify_choice(batch: pl.DataFrame, params: ChoiceParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the response chooses the reference option, however it is spelled.

    Adds `extracted`, the letters that were chosen. `reason_code` is one of `chosen`, `wrong_choice`, `no_answer`,
    `contradicting_answers`, or of a reference that cannot be used `gold_unparseable`, `gold_not_an_option`,
    `gold_ambiguous`, `gold_no_options` (the options cannot be read).
    """
    verdicts = []
    for row in batch.select(*dict.fromkeys(params.columns)).iter_rows(named=True):
        options = _options(row, params)
        gold = row[params.answer]
        verdicts.append(options if isinstance(options, Verdict) else check_choice(
            row[params.response], gold if gold is None else str(gold), options, gold=params.gold))
    return frame(verdicts)


def _options(row: dict[str, Any], params: ChoiceParams) -> Options | Verdict:
    """The options of a row; where a column should give them and does not, nothing can be judged."""
    if params.options is None and params.question is None:
        return Options()
    found = given_options(row[params.options]) if params.options is not None else None
    if found is None and params.question is not None:
        found = options_of(row[params.question] or "")
    return found or Verdict("undecided", "gold_no_options", "the options of the question cannot be read")


def check_choice(response: str | None, reference: str | None,
                 options: Options | Sequence[str] | Mapping[str, str] | None = None, *, gold: Gold = "auto") -> Verdict:
    """The verdict on one response; see `verify_choice` for the reason codes. `options` are texts in order, or by
    letter, or JSON of either."""
    known = options if isinstance(options, Options) else given_options(options) if options else Options()
    if known is None:
        return Verdict("undecided", "gold_no_options", f"options must be 2 to {len(LETTERS)} texts")
    wanted = read_gold(reference, known, gold)
    if isinstance(wanted, Verdict):
        return wanted
    finals = find_choices(response or "", known)
    if not finals:
        return Verdict("incorrect", "no_answer", "the response chooses no option", None, 0.0)
    said = Chosen(frozenset().union(*(final.options for final in finals)))
    if said.options == wanted.options and all(final.clear for final in finals):
        return Verdict("correct", "chosen", "the response chooses the reference", said.letters, 1.0)
    if len({final.options for final in finals}) > 1 or not all(final.clear for final in finals):
        return Verdict("incorrect", "contradicting_answers", f"the response chooses {said.letters} in one place or "
                       "another", said.letters, 0.0)
    return Verdict("incorrect", "wrong_choice", f"the response chooses {said.letters}, the reference is "
                   f"{wanted.letters}", said.letters, 0.0)


def read_gold(reference: str | None, options: Options, gold: Gold = "auto") -> Chosen | Verdict:
    """The reference as options, or why it cannot be used."""
    text = plain(reference or "").strip()
    shown = repr(text if len(text) <= 60 else text[:57] + "…")
    if not text:
        return Verdict("undecided", "gold_unparseable", "the reference is blank")
    if gold != "auto":
        index = int(text) - int(gold[-1]) if re.fullmatch(r"\d{1,2}", text) else -1
        if not 0 <= index < options.count:
            return Verdict("undecided", "gold_not_an_option", f"the reference {shown} is no number of an option")
        return Chosen(frozenset({index}))
    named = options.named(text)
    if len(named) > 1:
        return Verdict("undecided", "gold_ambiguous", f"the reference {shown} is the text of {len(named)} options")
    if re.fullmatch(r"\d{1,2}", text) and not options.numbered and not named:
        return Verdict("undecided", "gold_ambiguous", f"the reference {shown} counts from 0 or from 1: say which with "
                       "`gold: index0` or `gold: index1`")
    boxed = _boxes(text)
    found = read_statement(boxed[0] if len(boxed) == 1 else text, options, whole=True)
    if found is None or not found.clear:
        code = "gold_not_an_option" if options.texts else "gold_unparseable"
        return Verdict("undecided", code, f"the reference {shown} is no option of the question")
    return found


def find_choices(response: str, options: Options) -> list[Chosen]:
    """What a response finally chooses, by the first rule of the module docstring that finds anything."""
    part = split_response(response).answer
    if part is None or not part.strip():
        return []
    boxed = _boxes(part[-LONGEST:])
    text = plain(part[-LONGEST:]).strip()
    alone = read_statement(text, options, whole=True) if len(text) < 2000 and not boxed else None
    if alone is not None:
        return [alone]
    found = [read_statement(plain(box), options, whole=True) for box in boxed]
    if not any(found):
        found = _after(_STRONG, text, options)
    if not any(found):
        last = _line_choice(text, options) if _BARE_LINE.fullmatch(text.rsplit("\n", 1)[-1]) else []
        found = [*(last or _after(_WEAK, text, options)),
                 *(read_statement(next(filter(None, match.groups())), options, whole=True)
                   for match in deque(_JUDGED.finditer(text), MOST_FINALS)
                   if not _NEGATED.search(text, max(0, match.start() - 40), match.start()))]
    kept = [one for one in found if one is not None]
    return kept or _line_choice(text, options)


def _after(mark: re.Pattern[str], text: str, options: Options) -> list[Chosen | None]:
    found = []
    for match in deque(mark.finditer(text), MOST_FINALS):
        rest = text[match.end():match.end() + 500].lstrip("\n ")
        line = rest.split("\n", 1)[0]
        if _NEGATED.search(text, max(0, match.start() - 40), match.start()):
            continue
        first = re.split(r"(?<=\w)[.。;](?:\s|$)", line, maxsplit=1)[0]
        one = read_statement(line, options, whole=False)
        if one is None and first != line and not denied(line[len(first):], whole=False):
            one = read_statement(first, options, whole=True)
        if one is not None and turns_later(rest[len(line):], one.options, options):
            one = Chosen(one.options, clear=False)
        found.append(one)
    return found


def _line_choice(text: str, options: Options) -> list[Chosen]:
    """The last line, or the first, where it is a choice. Several lines that choose differently repeat the options."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return []
    read = [read_statement(line, options, whole=True) for line in (lines[-1:] if len(lines) == 1 else
                                                                   lines if len(lines) <= 400 else lines[-400:])]
    distinct = {one.options for one in read if one is not None}
    last, first = read[-1], read[0]
    if last is not None and _BARE_LINE.fullmatch(lines[-1]):
        bare = {one.options for line, one in zip(lines[-len(read):], read, strict=True)
                if one is not None and _BARE_LINE.fullmatch(line)}
        return [last] if len(bare) == 1 else []  # "A", "B", "C" below one another are a list
    if last is not None and len(distinct) == 1:
        return [last]
    return [first] if first is not None and len(distinct) == 1 else []


def _boxes(text: str) -> list[str]:
    """What stands in each outermost box that is closed, neighbours joined by "," or "and" in one."""
    spans: list[tuple[int, int, int, int]] = []
    stack: list[tuple[int, int, bool]] = []
    for token in _BRACE.finditer(text):
        mark = token.group()
        if mark == "}" and stack:
            start, inner, is_box = stack.pop()
            if is_box:
                while spans and spans[-1][0] > start:
                    spans.pop()
                spans.append((start, inner, token.start(), token.end()))
        elif mark == "{" or len(mark) > 2:
            stack.append((token.start(), token.end(), mark != "{"))
    found: list[str] = []
    for number, (start, inner, end, _) in enumerate(spans):
        between = text[spans[number - 1][3]:start] if number else ""
        if between.strip() and _BETWEEN_BOXES.fullmatch(between):
            found[-1] = f"{found[-1]}, {text[inner:end]}"
        else:
            found.append(text[inner:end])
    return found
