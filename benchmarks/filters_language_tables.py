"""Make `factory/filters/langmix/tables.npz`: word frequencies and trigram scores of every language of filter.language.

    python benchmarks/filters_language_tables.py LINGUA PROFILES STOPWORDS ENGLISH… --most 24000000 --out tables.npz

- LINGUA: the JSON lines of lingua-py's test data (fields text, lang, kind); github.com/pemistahl/lingua-py at 754ce21,
  Apache-2.0; its sentences are from the Wortschatz Leipzig corpora, CC BY 4.0.
- PROFILES: the folder `langdetect/profiles` of langdetect 1.0.9 on PyPI, Apache-2.0; trigram counts of Wikipedia
  abstracts.
- STOPWORDS: `stopwords-iso.json` of stopwordsiso 0.7.1 on PyPI, MIT.
- ENGLISH: JSON or JSON lines whose texts are English. The shipped tables were made with P3/T0's training prompts
  (bigscience/P3, Apache-2.0), GSM8K's train split and MATH (both MIT), up to 24 million characters of each.

Only counts are kept, no text. The tables in the package are named in its NOTICE.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from filters_language_words import (
    _COMMON,
    _FLOOR,
    gather,
    grams_of,
    read_english,
    read_profile,
    read_stopwords,
    to_buckets,
    words_of,
)

from factory.filters.langmix.lanes import LANES, WIDTH

LEAST_ENGLISH, MOST_ENGLISH = 4, 45000
STOPWORD = 2e-5
"""Share of a stopword that the sentences do not hold."""

NEUTRAL = frozenset(["mod", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh",
                     "tanh", "log", "ln", "exp", "lim", "max", "min", "gcd", "lcm", "det", "dim", "ker", "arg",
                     "deg", "sup", "inf", "cm", "mm", "km", "kg", "mg", "ms", "ns", "hz", "khz", "mhz", "ghz", "kw",
                     "kwh", "mw", "pa", "kpa", "rad", "mol", "atm", "mph", "kmh", "rpm", "ml", "cl", "lb", "lbs",
                     "oz", "ft", "yd", "mv", "kv", "bfs", "dfs", "lca", "al", "hoc", "facto", "versa", "priori",
                     "posteriori", "vitro", "situ", "erat", "quod", "demonstrandum", "ergo", "ipso", "int", "str",
                     "len", "dict", "def", "elif", "bool", "char", "args", "kwargs", "utf", "json", "html", "http",
                     "php", "sql", "api", "url", "nan", "null", "none", "abc", "abcd", "xyz"])
"""Signs of mathematics, units, names of code and borrowed phrases: they speak for no language."""

PARTICLES = frozenset(["de", "la", "le", "du", "des", "van", "von", "di", "da", "do", "dos", "del", "della",
                       "dello", "el", "al", "bin", "ibn", "bint", "y", "las", "los", "san", "santa", "st", "ten",
                       "ter", "af", "av"])
"""Words that stand in names."""


def shares_of(lists: dict[str, dict[str, Counter[str]]], stopwords: dict[str, list[str]],
              english: Counter[str]) -> dict[str, dict[str, float]]:
    """Share of every kept word by language: those seen twice or in a list; English also from its own text."""
    shares: dict[str, dict[str, float]] = {}
    for code, kinds in lists.items():
        text, extra = kinds.get("text", Counter()), kinds.get("lists", Counter())
        total = sum(text.values()) or 1
        kept = {word: count / total for word, count in text.items() if count >= 2 and len(word) < 25}
        for word, count in extra.items():
            if count >= 2 and len(word) < 25:
                kept.setdefault(word, 1e-6)
        for word in stopwords.get(code, []):
            if 1 < len(word) < 25 and all(sign.isalpha() or sign == "'" for sign in word):
                kept.setdefault(word, STOPWORD)
        if code == "en":
            mass = sum(english.values())
            for word, count in english.most_common(MOST_ENGLISH):
                if count >= LEAST_ENGLISH:
                    kept[word] = max(kept.get(word, 0.0), count / mass)
        shares[code] = kept
    return shares


def main() -> None:
    """See `train`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lingua", type=Path)
    parser.add_argument("profiles", type=Path)
    parser.add_argument("stopwords", type=Path)
    parser.add_argument("english", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=9_000_000)
    args = parser.parse_args()
    lists = gather(args.lingua)
    english = Counter(word for path in args.english for script, word in words_of(read_english(path, args.most))
                      if script == 1)
    shares = shares_of(lists, read_stopwords(args.stopwords), english)
    grams = np.zeros((1 << 15, WIDTH), np.float64)
    seen: dict[str, list[tuple[int, float]]] = {}
    common: set[str] = set()
    for codes in LANES.values():
        for lane, code in enumerate(codes):
            own = lists[code]["text"] if code in lists else Counter()
            sources = [(1.0, grams_of(own + lists[code].get("lists", Counter()))) if code in lists else (0.0,
            Counter()),
                       (1.0, read_profile(args.profiles, code))]
            if code == "en":
                sources.append((1.0, grams_of(english)))
            p = to_buckets(sources)
            grams[:, lane] = np.maximum(grams[:, lane], np.log(p + _FLOOR) - np.log(_FLOOR))
            common.update(word for word, _ in own.most_common(_COMMON) if len(word) > 1)
            for word, share in shares.get(code, {}).items():
                seen.setdefault(word, []).append((lane, share))
    write(args.out, seen, common, grams)


def write(out: Path, seen: dict[str, list[tuple[int, float]]], common: set[str], grams: np.ndarray) -> None:
    """Words in order, so that they compress; shares in eighths of a power of two."""
    for word in NEUTRAL:
        seen[word] = [(255, 1.0)]
    words = sorted(seen)
    text = np.frombuffer("".join(f"{word}\n" for word in words).encode(), np.uint8)
    indptr = np.cumsum([0, *(len(seen[word]) for word in words)]).astype(np.int32)
    lane = np.array([lane for word in words for lane, _ in sorted(seen[word])], np.uint8)
    share = np.array([share for word in words for _, share in sorted(seen[word])])
    np.savez_compressed(out, words=text, indptr=indptr, lane=lane,
                        share=np.rint(-8 * np.log2(share)).clip(0, 255).astype(np.uint8),
                        common=np.array([2 if word in PARTICLES else word in common for word in words], np.uint8),
                        grams=np.rint(grams * 2).astype(np.uint8))
    print(f"{len(words)} words, {len(lane)} entries, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
