"""The labelled set of filter.language: clean traces, and the same kinds of traces with foreign text planted in them.

Hosts are real English traces of maths and code (ZeroEval, ToRA, NeMo-Skills, TheoremQA; those with six Han characters
or more are left out: they are mixed by nature) and Chinese ones put together of problems (CMATH), sentences with terms
and formulas, code and news. Planted are sentences of NTREX-128 in 25 languages (rows from 1,000 on, which no table and
no threshold has seen): one between two sentences (`sentence`), one within a sentence (`inside`), two to five as a
paragraph of their own (`paragraph`); the held-out half of `filters_language_short.txt`, two to eight words each, after
a sentence (`short`); and single words of NTREX (`word`), which are no mixing and stand for themselves. A host stands in
a thinking or in an answer, by turns.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from text_corpora_sources import read_records

NTREX = {"es": "spa", "fr": "fra", "de": "deu", "it": "ita", "pt": "por", "nl": "nld", "pl": "pol", "sv": "swe",
         "tr": "tur", "vi": "vie", "id": "ind", "zh": "zho-CN", "ja": "jpn", "ko": "kor", "ru": "rus", "uk": "ukr",
         "bg": "bul", "ar": "arb", "fa": "fas", "ur": "urd", "hi": "hin", "en": "eng-US", "cs": "ces", "ro": "ron",
         "fi": "fin"}
FIRST_ROW = 1000
TERMS = ("binary search", "BFS", "hash map", "Python", "int", "RSA", "depth first search", "O(n log n)", "Fermat",
         "LCM",
         "GCD", "Cauchy-Schwarz", "Dijkstra", "Euler", "brute force", "dynamic programming")
MIXED = ("sentence", "inside", "paragraph", "short")
_FORMULA = re.compile(r"\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|```.*?```|`[^`\n]*`", re.DOTALL)


class Case(NamedTuple):
    """A response, its target language, and what was planted: `kind` (clean, word or one of MIXED) and `language`."""

    response: str
    target: str
    kind: str
    language: str
    host: str


def read_short(held_out: bool) -> dict[str, list[str]]:
    """By language: every second sentence of the list of short ones."""
    found: dict[str, list[str]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for line in (Path(__file__).parent / "filters_language_short.txt").read_text("utf-8").splitlines():
        code, tab, sentence = line.partition("\t")
        if tab:
            if bool(seen[code] % 2) == held_out:
                found[code].append(sentence)
            seen[code] += 1
    return found


def read_sentences(data: Path) -> dict[str, list[str]]:
    """Sentences of NTREX by language, of four words (ten characters) or more."""
    codes = {long: short for short, long in NTREX.items()}
    found: dict[str, list[str]] = defaultdict(list)
    for record in read_records(data / "langid" / "ntrex128.jsonl.gz"):
        code = codes.get(record["lang"])
        if code and record["row"] >= FIRST_ROW:
            text = record["text"]
            if len(text) >= 10 if code in ("zh", "ja") else len(text.split()) >= 4:
                found[code].append(text)
    return found


def english_hosts(data: Path) -> dict[str, list[str]]:
    """Real traces by source."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in ("zeroeval_sample.jsonl.gz", "tora_gsm8k.jsonl", "nemo_skills_outputs.jsonl",
    "theoremqa_outputs.jsonl"):
        for record in read_records(data / "traces" / name):
            text = "\n\n".join(str(record.get(key) or "") for key in ("thinking", "output")).strip()
            if record["source"].startswith("zeroeval"):
                said = re.search(r'"reasoning"\s*:\s*"(.*?)",?\s*"answer"', text, re.DOTALL)
                text = said[1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\") if said else text
            if len(text) >= 200 and not re.search("[\u4e00-\u9fff].*" * 6, text):
                found[record["source"]].append(text[:30_000])
    return found


def chinese_hosts(data: Path, news: list[str], rng: random.Random, count: int) -> dict[str, list[str]]:
    """Chinese traces, put together."""
    problems = [str(record.get("question") or record.get("problem") or record.get("prompt"))
                for record in read_records(data / "competition" / "dsmath_cmath_test.jsonl")]
    code = [record["canonical_solution"] for record in read_records(data / "code" / "HumanEval.jsonl.gz")]

    def part() -> str:
        kind = rng.random()
        if kind < 0.55:
            return rng.choice(problems)
        if kind < 0.7:
            return rng.choice(news)
        if kind < 0.8:
            one, other = rng.choice(TERMS), rng.choice(TERMS)
            return f"我们使用 {one} 来解决，{other} 的复杂度是 $O(n^2)$，所以 x = {rng.randint(1, 99)}。"
        if kind < 0.9:
            return f"因此 $\\frac{{a}}{{b}} = {rng.randint(1, 9)}$，\"{rng.choice(TERMS)}\" 就是答案。"
        return "```python\n" + rng.choice(code) + "\n```"

    return {"chinese": ["\n".join(part() for _ in range(rng.randint(5, 25))) for _ in range(count)]}


def plant(host: str, kind: str, sentences: list[str], rng: random.Random, spaced: bool) -> str | None:
    """The host with something planted, never within a formula or code; None where there is no place."""
    masked = _FORMULA.sub(lambda match: " " * len(match[0]), host)
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)|[。？！]", masked)]
    if kind == "paragraph":
        said = " ".join(rng.choice(sentences) for _ in range(rng.randint(2, 5)))
        places = [match.end() for match in re.finditer(r"[.。]\n+", masked)] or [len(host)]
        at = rng.choice(places)
        return f"{host[:at]}\n{said}\n\n{host[at:]}"
    said = rng.choice(sentences)
    if kind == "word":
        words = [word for word in said.split() if word.isalpha() and word.islower()] if spaced else [said[:2]]
        said = rng.choice(words) if words else ""
    within = kind in ("inside", "word")
    places = ([match.start() for match in re.finditer(r"(?<=[a-z]) (?=[a-z])|(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])",
                                                      masked)] if within else ends)
    if not places or not said:
        return None
    at = rng.choice(places)
    return f"{host[:at]} {said} {host[at:]}"


def _placed(text: str, number: int) -> str:
    return f"<think>{text}</think>\n42" if number % 2 else f"<think>\n</think>\n{text}"


def labelled_set(data: Path, per_language: int, clean: int, seed: int = 11) -> Iterator[Case]:
    """Cases of every kind and language, `per_language` each (a third in Chinese hosts), and `clean` hosts a source."""
    rng = random.Random(seed)
    news, short = read_sentences(data), read_short(held_out=True)
    every = {"en": english_hosts(data), "zh": chinese_hosts(data, news["zh"], rng, clean)}
    number = 0
    for target, hosts in every.items():
        for source, texts in hosts.items():
            for text in texts if len(texts) <= clean else rng.sample(texts, clean):
                yield Case(_placed(text, number := number + 1), target, "clean", target, source)
        sources = sorted(hosts)
        for kind in (*MIXED, "word"):
            for code, sentences in (short if kind == "short" else news).items():
                for _ in range(0 if code == target else per_language if target == "en" else per_language // 3):
                    source = rng.choice(sources)
                    text = plant(rng.choice(hosts[source]), kind, sentences, rng, code not in ("zh", "ja"))
                    if text is not None:
                        yield Case(_placed(text, number := number + 1), target, kind, code, source)
