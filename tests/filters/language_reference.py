"""The measure written once more, slowly and without its kernels: for texts without anything that is masked."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

from factory.filters.langmix import charset as c
from factory.filters.langmix.lanes import LANES, OWNERS, WIDTH, languages
from factory.filters.langmix.model import load_model

CLIP, SPELLED, NAME, DRIFT, FALL, LOOK_BACK, ALONE, SENTENCE = 48, 42, 16, 6, 100, 64, 8, 96


def class_of(sign: str) -> int:
    chars = c.charset()
    return int(chars.classes[chars.page[ord(sign) >> 8], ord(sign) & 255])


def small(sign: str) -> str:
    lowered = sign.lower()
    if ord(sign) == 0x130:
        return "i"
    return lowered if ord(sign) < 0x2000 and len(lowered) == 1 and ord(lowered) < 0x2000 else sign


KEYWORDS = set(["def", "class", "for", "while", "if", "elif", "else", "return", "import", "from", "print", "try",
                "except", "with", "assert", "const", "let", "var", "int", "void", "public", "function", "raise",
                "yield", "lambda", "pass", "break", "continue", "async", "await", "struct", "static"])


def is_code(line: str) -> bool:
    """Whether a line is code by its signs (code_lines.is_code_line)."""
    body = line.lstrip(" \t")
    indent, first = len(line) - len(body), re.match("[a-z]*", body)[0]
    if re.search(r"[.!?] [A-Z\u00c0-\U0010ffff]", body):
        return False
    if "$" in body or re.search(r"\\\\(?=..)(?:[(\[]|[A-Za-z]{2})", body):
        return False
    words, wide = len(re.findall("[A-Za-z_]{2,}", body)), sum(ord(sign) > 127 for sign in body)
    signs = len(re.findall(r"[={};<>+\[\]&%^]|(?<=[A-Za-z_])\(", body))
    raw = body.encode()
    early = len(re.findall(rb"[={};<>+\[\]&%^]|(?<=[A-Za-z_])\(", raw[:64]))
    if words + wide > 60 or (len(raw) > 64 and not early and first not in KEYWORDS):
        return False
    if signs >= 2 and signs * 2 >= words + wide:
        return True
    colon = [sign for sign in body if ord(sign) > 32][-1:] == [":"]
    if wide or (signs == 0 and not colon and words > 1) or words > 10 + 3 * signs:
        return False
    return (indent >= 2 and signs > 0 and signs * 4 >= words) or first in KEYWORDS


def ends_sentence(text: str, at: int) -> bool:
    """Whether . ! ? at a place ends a sentence (scan._ends_sentence)."""
    after = text[at + 1:at + 2]
    if text[at] not in ".!?":
        return False
    if not after or after in "\"')]*" or ord(after) <= 32:
        return True
    return ("A" <= after <= "Z" or ord(after) >= 0xC0) and at > 0 and not "A" <= text[at - 1] <= "Z"


def words_of(text: str) -> list[dict]:
    """Words with their scripts, flags and sentences."""
    text = "\n".join(" " * len(line) if is_code(line) else line for line in text.split("\n"))
    found, at, sentence, fresh = [], 0, 0, True
    while at < len(text):
        own = class_of(text[at])
        if text[at] in "\n" or own in (c.STOP, c.NEWLINE) or ends_sentence(text, at):
            sentence, fresh, at = sentence + (not fresh), True, at + 1
        elif own == c.DIGIT:
            while at < len(text) and class_of(text[at]) in (c.DIGIT, c.LATIN, c.MARK):
                at += 1
        elif 0 < own < c.SCRIPTS:
            stop = at + 1
            while not c.FIRST_SPACELESS <= own <= c.LAST_SPACELESS and stop < len(text) and (
                    class_of(text[stop]) in (own, c.MARK)
                    or (text[stop] in "'’" and stop + 1 < len(text) and class_of(text[stop + 1]) == own)):
                stop += 1
            word = text[at:stop]
            letters = [sign for sign in word if class_of(sign) == own]
            folded = [small(sign) != sign for sign in letters]
            camel = any(folded[k] and not all(folded[:k]) for k in range(len(folded)))
            after = text[stop:stop + 2]
            kind = 0
            if own == c.LATIN and after:
                if after[0] in "(_0123456789":
                    kind = 1
                elif len(after) == 2 and (after[0] == "@" or (after[0] == "." and "a" <= after[1] <= "z"
                                                              and len(letters) > 1)):
                    kind = 2
            single = len(letters) == 1 and (own == c.GREEK or (own == c.LATIN and text[at].isascii()))
            if not camel and not kind and not single:
                found.append({"start": at, "stop": stop, "script": own, "sentence": sentence,
                              "word": "".join(small("'" if sign == "’" else sign) for sign in word),
                              "flag": (small(text[at]) != text[at]) + 2 * fresh,
                              "bytes": len(word.encode())})
            fresh, at = False, stop
            while kind == 2 and at < len(text) and 32 < ord(text[at]) < 127 and text[at] not in ",\"'":
                at += 1
            while kind == 1 and at < len(text) and class_of(text[at]) in (c.DIGIT, c.LATIN, c.MARK):
                at += 1
        else:
            at += 1
    return found


def scores(words: list[dict]) -> list[np.ndarray | None]:
    """The row of every word of a script with lanes, from the stored tables."""
    from factory.filters.langmix.grams import bucket

    table = stored_rows()
    grams, rows = load_model().grams, []
    for word in words:
        if word["script"] > c.LAST_LANE:
            rows.append(None)
            continue
        row = table.get(word["word"])
        word["known"] = row is not None
        if row is None:
            codes = [32, *map(ord, word["word"]), 32]
            total = sum(grams[bucket(*codes[k:k + 3])].astype(np.int64) for k in range(len(codes) - 2))
            best = total[:len(LANES[word["script"]])].max()
            row = np.array([max(math.floor((int(one) - int(best)) * 33 / 10), -127) for one in total])
        rows.append(row)
    return rows


_TABLE: dict[str, np.ndarray] = {}
_PARTICLES: set[str] = set()


def stored_rows() -> dict[str, np.ndarray]:
    """Rows by word, through the order in which the model holds them."""
    from factory.filters.langmix.model import _FILE, _by_frequency

    if not _TABLE:
        with np.load(_FILE) as stored:
            names = stored["words"].tobytes().decode().split("\n")[:-1]
            order, common = _by_frequency(stored), stored["common"]
        for place, at in enumerate(order.tolist()):
            _TABLE[names[at]] = load_model().rows[place].astype(np.int64)
            if common[at] == 2:
                _PARTICLES.add(names[at])
    return _TABLE


def clip_of(words: list[dict], i: int, stop: int) -> int:
    """Most that a word may say."""
    word = words[i]
    if word["flag"] == 1:
        return NAME
    if word["known"] and word["word"] in _PARTICLES and any(one["flag"] == 1 for one in words[i + 1:min(i + 3, stop)]):
        return NAME
    return CLIP if word["known"] else SPELLED


def sentences_of(words: list[dict], rows: list, own: int, reference: int) -> list[tuple[int, int, int]]:
    """(first word, last word, lane): short sentences that another lane explains far better."""
    found = []
    for number in sorted({word["sentence"] for word in words}):
        inside = [i for i, word in enumerate(words) if word["sentence"] == number]
        mates = [i for i in inside if words[i]["script"] == own]
        odd = sum(rows[i][reference] < -DRIFT and words[i]["flag"] != 1 and words[i]["bytes"] >= 3 for i in mates)
        if odd < 2 or odd * 3 < len(mates) or len(mates) > 12:
            continue
        total, said = np.zeros(len(LANES[own]), np.int64), set()
        for i in mates:
            if words[i]["word"] not in said:
                clip = clip_of(words, i, inside[-1] + 1)
                total += np.clip(rows[i][:len(total)] - rows[i][reference], -clip, clip)
            said.add(words[i]["word"])
        if any(words[i]["known"] for i in mates) and total.max() >= SENTENCE:
            found.append((mates[0], mates[-1], int(total.argmax())))
    return found


def runs_of(words: list[dict], rows: list, own: int, reference: int, low: int) -> list[tuple[int, int, int, int]]:
    """(first word, last word, lane, peak): Page's test over the words of one script."""
    lanes, found, recent = len(LANES[own]), [], [0] * 4
    sums, first, peak, last = [0] * WIDTH, [0] * WIDTH, [0] * WIDTH, [0] * WIDTH
    odds = [k for k, word in enumerate(words)
            if word["script"] == own and word["flag"] != 1 and rows[k][reference] < -DRIFT]
    i, idle = 0, True
    while i < len(words):
        word, row = words[i], rows[i]
        quiet = word["flag"] == 1 or (word["script"] == own and row[reference] >= -DRIFT)
        if idle:
            following = [k for k in odds if k > i]
            quiet = quiet or not following or following[0] - i > ALONE
        if word["script"] != own or (idle and quiet):
            i += 1
            continue
        clip = clip_of(words, i, len(words))
        if word["word"] in recent:
            clip = 0
        else:
            recent = [word["word"], *recent[:3]]
        for lane in range(lanes):
            total = max(sums[lane] + min(max(int(row[lane] - row[reference]), -clip), clip) - DRIFT, 0)
            if sums[lane] == 0 and total > 0:
                first[lane], peak[lane] = i, 0
            if total > peak[lane]:
                peak[lane], last[lane] = total, i
            sums[lane] = total
        best = max(range(lanes), key=lambda lane: (peak[lane], -lane))
        idle = max(sums) == 0
        if peak[best] >= low and sums[best] <= max(0, peak[best] - FALL):
            found.append((first[best], last[best], best, peak[best]))
            i = max(last[best], i - LOOK_BACK)
            sums, peak, idle = [0] * WIDTH, [0] * WIDTH, True
        i += 1
    best = max(range(lanes), key=lambda lane: (peak[lane], -lane))
    return [*found, (first[best], last[best], best, peak[best])] if peak[best] >= low else found


def measure_text(text: str, target: str, high: int) -> dict:
    """Counts of a text whose target has lanes or owns its script, without a second opinion on doubtful runs."""
    words, known = words_of(text), languages()
    rows = scores(words)
    labels: list[str] = [OWNERS.get(word["script"], "") for word in words]
    for own, codes in LANES.items():
        if not any(word["script"] == own for word in words):
            continue
        if target in codes:
            reference = codes.index(target)
        elif own == c.LATIN:
            reference = 0
        else:
            total = sum(np.maximum(row, -48) for word, row in zip(words, rows, strict=False) if word["script"] == own)
            reference = int(np.argmax(total[:len(codes)]))
        for i, word in enumerate(words):
            labels[i] = codes[reference] if word["script"] == own else labels[i]
        found = [run[:3] for run in runs_of(words, rows, own, reference, high)]
        for begin, end, lane in [*sentences_of(words, rows, own, reference), *found]:
            for i in range(begin, end + 1):
                labels[i] = codes[lane] if words[i]["script"] == own else labels[i]
    for number in {word["sentence"] for word in words}:
        inside = [i for i, word in enumerate(words) if word["sentence"] == number]
        kana = sum(words[i]["script"] == c.KANA for i in inside)
        han = [i for i in inside if words[i]["script"] == c.HAN]
        if (kana and kana * 8 >= kana + len(han)) or (target == "ja" and not kana and len(han) < 10):
            for i in han:
                labels[i] = "ja"
    assert all(label in known for label in labels)
    return {"words": len(words), "good": sum(label == target for label in labels),
            "switches": sum(a != b for a, b in itertools.pairwise(labels)),
            "labels": labels, "sentences": len({word["sentence"] for word in words})}
