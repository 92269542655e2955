r"""Reading multiple-choice text: the options of a question, and what a statement chooses among them.

**One spelling first.** `plain` undoes what does not matter: full-width characters, Markdown emphasis, LaTeX text
commands and spacing. All rules below see only that.

**Options** are numbered from 0 and named by letters, A to J. They come as a list, or are read from the question: the
last run of marks A, B, … (or 1, 2, …), each once and in order, at the beginnings of lines or within one.

**A statement** is a short text that should hold a choice and nothing else: the inside of a box, what follows "the
answer is". It chooses by letters (`A`, `(a)`, `B. text`, `AC`, `A and C`), by the text of one option, or by a number:
where the question numbers its options, or as "option 2" where no option is a number. A letter beside the text of
another option contradicts itself, and so do "A or B" and "A? B?". The words "a", "A" and "I" before another word are
words, "A = 5" is no choice, and neither is "(A) is wrong".
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"

_COMMAND = re.compile(r"\\(?:text(?:bf|rm|it|sf)?|math(?:rm|bf|it|sf|bb)|mbox|boldsymbol|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|\\(?:left|right|displaystyle)(?![A-Za-z])|\\[()\[\]]|[$~]")
_EMPHASIS = re.compile(r"\*+|`+|(?<!\w)_+|_+(?!\w)")
_QUOTED = re.compile(r"(?<!\w)[\"'“‘]\s?(\(?[A-Ja-j]\)?|answer)[.,]?\s?[\"'”’](?!\w)", re.IGNORECASE)
_LINE_MARK = r"(?m:^[ \t]*(?:[-•][ \t]*)?)[(\[]?({label})\s?[)\].:、](?!{after})[ \t]*"
_INLINE_MARK = r"(?:^|(?<=[\s,;?。？]))(?:\(({label})\)|({label})[).:、](?=\s))[ \t]*"
_ONE = r"(?:\(\s*[A-Ja-j]\s*\)|\[\s*[A-Ja-j]\s*\]|\{\s*[A-Ja-j]\s*\}|[A-Ja-j])"
_OF_ITS_OWN = rf"(?!\s*{_ONE}\s+(?:is|was|has|does|can|cannot|would)\b)"
_JOIN = rf"\s*(?:,\s*(?:and|or)\b|,{_OF_ITS_OWN}|;(?=\s*{_ONE}\s*(?:[,;.\n]|$))|/|&|\+|、|和|与|及|或|\b(?:and|or)\b)"
_JOIN += r"\s*(?:(?:option|choice)s?\s+)?"
_RUN = re.compile(rf"(?:(?:options?|choices?|letters?|answers?|选项)\s*:?\s*)?(?P<run>\(?[A-J]{{2,10}}\)?(?![A-Za-z])|"
                  rf"{_ONE}(?:{_JOIN}{_ONE}(?![\w'’]|\.\w))*)(?![\w'’])(?P<mark>\s?[)\].:、]?)", re.IGNORECASE)
_NUMBER = re.compile(r"(?:((?:option|choice|选项)\s*)|answer\s*)?[(\[]?(\d{1,2})[)\]]?[.:、]?", re.IGNORECASE)
_HEDGE = re.compile(r"\bor\b|或", re.IGNORECASE)
_GOES_ON = re.compile(r"\s*(?:$|[\n.,;:!?。，；)\]}—–-]|(?:because|since|as|for|which|due|given|is|so|but|if)\b|"
                      r"[\u3400-\u9fff])", re.IGNORECASE)
_DENIED = re.compile(
    r"(?P<mark>[\s,:.;)–—-]*)(?P<via>(?:this|that|it|which)\s+)?(?P<by>(?:(?:is|was|seems|looks|must be|would be"
    r"|has to be)\s+(?:\w+ly\s+)?"
    r"(?:not|never|no|wrong|incorrect|false|untrue|impossible|out|excluded|eliminated|ruled)\b"
    r"|(?:is|was|does|ca|could|would)n['’]t\b|cannot\b|can not\b|does not\b|fails\b|no\b|(?:wrong|incorrect)\b)"
    r"|错|不[对是正])", re.IGNORECASE)
_FALSE = re.compile(r"\b(?:wrong|incorrect|false|untrue)$", re.IGNORECASE)
_BARE = r"[(\[]?([A-J])(?=\s*(?:$|[\n?.,;:|)\]!/–—-]|(?:or|and|maybe)\b|[A-J](?![\w'’])))(?![\w'’])"
_HEDGED = re.compile(
    rf"(?:^\s+|[?|:)\]–—-]\s*|\b(?i:maybe|or|possibly|perhaps)\s+(?:(?i:option|choice)\s+)?){_BARE}"
    r"|^[\s)\]]*[(\[]([A-J])[)\]]|\n\W{0,9}([A-J])\W{0,9}(?=\n|$)")
_TURNED = re.compile(
    r"\b(?i:wait|actually|scratch that|correction|on second thoughts?|i mean|no\s*[,.!:])(?![\w])"
    rf"[^\n]*?(?<![\w'’]){_BARE}")
_TURNED_LATER = re.compile(rf"\n\W{{0,9}}([A-J])\W{{0,9}}(?=\n|$)|\n\s{{0,9}}(?:{_TURNED.pattern})")
_ANOTHER = re.compile(r"[(\[][A-J][)\]]|(?<!\w)[A-J][.):]\s")
_NUMERIC = re.compile(r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b", re.IGNORECASE)
_TEXT_NOISE = re.compile(r"[\s\"'“”‘’{}]+")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a question; `texts` is empty where they are not known, and then any letter may be chosen.
    `numbered`: the question marks them 1, 2, …"""

    texts: tuple[str, ...] = ()
    numbered: bool = False

    @property
    def count(self) -> int:
        return len(self.texts) or len(LETTERS)

    def named(self, text: str) -> list[int]:
        """The options whose text this is."""
        wanted = _folded(text)
        return [index for index, option in enumerate(self.texts) if wanted and _folded(option) == wanted]

    @property
    def by_number(self) -> bool:
        """Whether "option 2" may stand for an option: its number cannot be meant as the text of one."""
        return bool(self.texts) and (self.numbered or not any(_NUMERIC.search(text) for text in self.texts))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a statement chooses: options by index; `clear` is False where it contradicts itself."""

    options: frozenset[int]
    clear: bool = True

    @property
    def letters(self) -> str:
        return ", ".join(LETTERS[index] for index in sorted(self.options))


def plain(text: str) -> str:
    """The text in the one spelling that all rules see."""
    text = unicodedata.normalize("NFKC", text)
    for _ in range(3):  # commands may stand in one another
        text = _COMMAND.sub(r"\1", text)
    return _QUOTED.sub(r"\1", _EMPHASIS.sub("", _SPACING.sub(" ", text)))


def _folded(text: str) -> str:
    return _TEXT_NOISE.sub(" ", text).strip(" .。,;").casefold()


def given_options(value: object) -> Options | None:
    """Options from a column: a list of texts, or JSON of one (also as an object by letter). None: it is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, dict):
        by_label = {str(label).strip("(). ").upper(): text for label, text in value.items()}
        if set(by_label) != set(LETTERS[: len(by_label)]):
            return None
        value = [by_label[letter] for letter in sorted(by_label)]
    while isinstance(value, list) and value and value[-1] is None:  # a table's objects all have the same fields
        value = value[:-1]
    if not isinstance(value, (list, tuple)) or not 2 <= len(value) <= len(LETTERS):
        return None
    texts = tuple(plain(str(text)).strip() for text in value)
    # a list may bring its letters along: "A. Paris"
    labelled = [re.fullmatch(rf"\(?{letter}[).:、]\s*(.+)", text, re.DOTALL)
                for letter, text in zip(LETTERS, texts, strict=False)]
    return Options(tuple(match[1] for match in labelled if match) if all(labelled) else texts)


def options_of(question: str) -> Options | None:
    """The options that a question lists; None when it lists none."""
    text = plain(question)
    for label, numbered in (("[A-J]", False), ("[a-j]", False), ("[1-9]|10", True)):
        for pattern in (_LINE_MARK, _INLINE_MARK):
            if numbered and pattern is _INLINE_MARK:
                continue  # numbers in prose are rarely marks
            found = _chain(text, re.compile(pattern.format(label=label, after=r"\d" if numbered else r"\)")))
            if found is not None:
                return Options(found, numbered)
    return None


def _chain(text: str, mark: re.Pattern[str]) -> tuple[str, ...] | None:
    """The last run of consecutive marks that begins at the first label, as the texts between them."""
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for match in mark.finditer(text):
        label = next(group for group in match.groups() if group)
        place = int(label) - 1 if label.isdigit() else LETTERS.index(label.upper())
        run = [match] if place == 0 else [*run, match] if place == len(run) and run else []
        best = run if len(run) >= 2 else best
    if len(best) < 2:
        return None
    ends = [match.start() for match in best[1:]] + [len(text)]
    texts = [text[match.end():end].strip() for match, end in zip(best, ends, strict=True)]
    texts[-1] = texts[-1].split("\n\n", 1)[0].strip() if "\n" in texts[-1] else texts[-1]
    return tuple(" ".join(each.split()).rstrip(",;") for each in texts) if all(texts) else None


def read_statement(text: str, options: Options, *, whole: bool) -> Chosen | None:
    """What a statement (in the plain spelling) chooses, or None. `whole`: it must be a choice from end to end; else
    prose may follow the choice."""
    text = text.strip()
    alone = text.strip(" .。!()[]{}:")
    named = options.named(text) or options.named(alone)
    if len(named) == 1 and not (len(alone) == 1 and alone.upper() in LETTERS):
        number = _by_number(alone, options)
        both = frozenset(named) | (number.options if number else frozenset())
        return Chosen(both, clear=len(both) == 1)  # a number may be one option's place and another one's text
    number = _by_number(text, options)
    if number is not None:
        return number
    match = _RUN.match(text)
    if match is None:
        return None
    run, rest = match["run"], text[match.end():]
    chosen = _letters(run, alone=not rest.strip(" .。!"))
    if not chosen or max(chosen) >= options.count or rest.lstrip().startswith("="):
        return None
    beside = rest.strip(" \n\t-–—").split("\n", 1)[0]
    others = options.named(beside) if beside.strip(" .。") else []
    if others:
        return Chosen(chosen | set(others), clear=chosen == set(others))
    own = _folded(options.texts[min(chosen)]) if options.texts and len(chosen) == 1 else ""
    begins = bool(own) and re.match(rf"{re.escape(own)}(?!\w)", _folded(beside)) is not None
    marked = bool(match["mark"].strip()) or run[0] in "([{"
    if whole:
        fits = not beside.strip(" .。!") or begins or (
            marked and "\n" not in rest.strip() and not _ANOTHER.search(rest))
    else:
        sure = len(chosen) > 1 or (run.isupper() and run not in ("A", "I"))
        fits = marked or sure or _GOES_ON.match(rest) is not None
    if not fits or (not begins and denied(rest, whole)):
        return None
    if begins:
        rest = re.sub(re.escape(options.texts[min(chosen)]), "", rest, count=1, flags=re.IGNORECASE)
    clear = _HEDGE.search(run) is None and not rest.lstrip(" )").startswith("?")
    return Chosen(chosen, clear=clear and not names_another(rest[:500], chosen, options))


def denied(rest: str, whole: bool) -> bool:
    """Whether what follows a choice says that it is none."""
    match = _DENIED.match(rest)
    if match is None or whole:
        return match is not None
    return _FALSE.search(match["by"]) is not None if match["via"] else not match["mark"].strip()


def names_another(rest: str, chosen: frozenset[int], options: Options) -> bool:
    """Whether what follows a choice holds another beside it: "A? B?", "A, maybe B", "A. Wait, no. It is B"."""
    return _differs((_HEDGED, _TURNED), rest, chosen, options)


def turns_later(lines: str, chosen: frozenset[int], options: Options) -> bool:
    """Whether lines below a choice are another, or begin by taking it back."""
    return _differs((_TURNED_LATER,), lines, chosen, options)


def _differs(patterns: tuple[re.Pattern[str], ...], text: str, chosen: frozenset[int], options: Options) -> bool:
    letters = (next(filter(None, match.groups())) for pattern in patterns for match in pattern.finditer(text))
    return any(LETTERS.index(letter) not in chosen and LETTERS.index(letter) < options.count for letter in letters)


def _letters(run: str, *, alone: bool) -> frozenset[int] | None:
    """The options that a run of letters names: in brackets, joined, or written together in order."""
    if len(word := run.strip("()")) > 1 and word.isalpha() and word.isascii():
        letters = [LETTERS.find(letter) for letter in word]
        if -1 in letters or len(set(letters)) < len(letters) or not (alone or letters == sorted(letters)):
            return None
        return frozenset(letters)
    bare = _HEDGE.sub(" ", re.sub(r"\band\b|\boptions?\b|\bchoices?\b", " ", run, flags=re.IGNORECASE))
    return frozenset(LETTERS.index(letter.upper()) for letter in re.findall(r"[A-Ja-j]", bare))


def _by_number(text: str, options: Options) -> Chosen | None:
    match = _NUMBER.fullmatch(text.strip().rstrip("。"))
    if match is None or not (options.numbered or (match[1] and options.by_number)):
        return None
    return Chosen(frozenset({int(match[2]) - 1})) if 1 <= int(match[2]) <= options.count else None
