"""Counting words and trigrams of languages, for `filters_language_tables`."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from factory.filters.langmix.charset import SCRIPTS, charset
from factory.filters.langmix.grams import BITS, count_buckets
from factory.filters.langmix.lanes import FOLDED, LANES
from factory.filters.langmix.scan import scan_text

_FLOOR = 2e-6
_OWN_FIELDS = {"text", "prompt", "completion", "problem", "solution", "question", "answer", "output", "instruction"}
_PROFILE = {"zh": "zh-cn"}
_COMMON = 60


def words_of(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(script, lower-cased word) of every word that the measure would count."""
    chars = charset()
    for text in texts:
        data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
        room = len(data) + 1
        start, stop = np.empty(room, np.int32), np.empty(room, np.int32)
        script = np.empty(room, np.uint8)
        n = scan_text(data, 0, len(data), *chars, start, stop, np.empty(room, np.uint64), script,
                      np.empty(room, np.uint8), np.empty(room, np.int32))
        raw = data.tobytes()
        for i in range(n):
            word = raw[start[i]:stop[i]].decode().replace("’", "'")
            yield int(script[i]), "".join(_small(sign) for sign in word)


def _small(sign: str) -> str:
    lower = charset().lower
    return chr(lower[ord(sign)]) if ord(sign) < len(lower) else sign


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, str) and key in _OWN_FIELDS:
                yield one
            elif not isinstance(one, str):
                yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def read_english(path: Path, most: int) -> Iterator[str]:
    """Texts of a JSON or JSON lines file, up to `most` characters."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = (json.loads(line) for line in lines) if "jsonl" in path.name else json.load(lines)
        for row in rows:
            for text in _strings(row):
                most -= len(text)
                if most < 0:
                    return
                yield text


def grams_of(words: Counter[str]) -> Counter[str]:
    """Trigrams of words with their frequencies."""
    grams: Counter[str] = Counter()
    for word, count in words.items():
        padded = f" {word} "
        for at in range(len(padded) - 2):
            grams[padded[at:at + 3]] += count
    return grams


def read_profile(folder: Path, code: str) -> Counter[str]:
    """Trigrams of a langdetect profile, lower-cased; empty where there is none."""
    path = folder / _PROFILE.get(code, code)
    grams: Counter[str] = Counter()
    if path.is_file():
        for gram, count in json.loads(path.read_text())["freq"].items():
            if len(gram) == 3:
                grams["".join(_small(sign) for sign in gram)] += count
    return grams


def read_stopwords(path: Path) -> dict[str, list[str]]:
    """By language: the lists of stopwords-iso, lower-cased as the measure does."""
    lists: dict[str, list[str]] = json.loads(path.read_text())
    return {code: ["".join(_small(sign) for sign in word) for word in words] for code, words in lists.items()}


def to_buckets(sources: list[tuple[float, Counter[str]]]) -> np.ndarray:
    """The mixture of trigram distributions over the hashed rows."""
    sources = [(weight, grams) for weight, grams in sources if grams]
    total, out = sum(weight for weight, _ in sources), np.zeros(1 << BITS)
    for weight, grams in sources:
        mass = sum(grams.values())
        codes = np.array([[ord(sign) for sign in gram] for gram in grams], np.int64)
        count_buckets(codes, np.array([weight / total * n / mass for n in grams.values()]), out)
    return out


def gather(lingua: Path) -> dict[str, dict[str, Counter[str]]]:
    """By language: words of the sentences (`text`) and of the word lists (`lists`), in scripts with lanes."""
    lanes = {code: script for script, codes in LANES.items() for code in codes}
    by_language: dict[tuple[str, str], list[str]] = defaultdict(list)
    with gzip.open(lingua, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            code = row["lang"] if row["lang"] in lanes else FOLDED.get(row["lang"], "")
            if row["lang"] in ("af", "ms", "bs", "nn"):
                continue
            by_language[code, "text" if row["kind"] == "sentences" else "lists"].append(row["text"])
    found: dict[str, dict[str, Counter[str]]] = {}
    for (code, kind), texts in by_language.items():
        if code in lanes:
            words = Counter(word for script, word in words_of(texts) if script == lanes[code] and script < SCRIPTS)
            found.setdefault(code, {})[kind] = words
    return found
