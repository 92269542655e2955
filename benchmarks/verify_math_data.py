r"""The labelled set of `verify_math.py`: (response, reference, whether it is right), and where each label comes from.

- `pairs`: triples of 17 graders' own test suites, those on which no suite disagrees (`consensus`).
- `pairs-policy`: the other triples of these suites: one grader's convention; shown, not in the headline.
- `tora`: ToRA's tool-integrated GSM8K outputs, `correct` of its grader.
- `nemo`: MATH generations of NeMo-Skills, `correct` of its grader where it is set.
- `gsm8k`: solutions of four fine-tuned models, `is_correct` of the GSM8K authors.
- `zeroeval`: JSON answers of some 45 models to GSM8K and MATH-L5; the label is computed here from the `answer` field of
  the JSON that ends the response: it and the reference are both integers, and equal or not. Where the answer stands
  is thus not tested by it, only whether that field is found.
- `solutions`: human solutions of MATH with their own answer (right), and with a mutated reference (wrong).
- `forms`: references of MATH, OlympiadBench, DeepMath and CMATH said in another form (right: `\frac` as a/b or decimal,
  spaces, delimiters, units, `\text`, order of a set, a name before the value) in one of many sentences, English or
  Chinese, and mutated ones in the same sentences (wrong: a digit, a sign, an operator, swapped or missing elements,
  another bracket, another base).
- `cheats`: answers written to pass as more than they say (`verify_math_cheats.py`), all wrong; half is held out.

Labels that were looked at and found wrong are in `CORRECTED`, with the reason. A pair is *held out* by a hash of its
reference (three of ten): its disagreements were not looked at while rules were written. Three leaks are known: all of
`pairs` was read beforehand, and the throughput part, whose disagreements with plain Math-Verify were read, shares
responses with `tora`, `nemo`, `gsm8k` and `zeroeval`; all of `cheats` was
read while rules were written. `solutions` and `forms` have none.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from verify_math_cheats import cheats

DATA = Path(__file__).parents[1].parent / "shared" / "data"
CORRECTED: dict[tuple[str, str], tuple[bool | None, str]] = {
    ("nemo", "123"): (True, "1320 km for 1320 kilometres asked: the grader kept the unit"),
    ("nemo", "126"): (True, "(x+y)^2=81 where the value of (x+y)^2 was asked: the grader kept the left side"),
    ("nemo", "134"): (True, "states S = … = 13 without a box: the grader saw boxes only"),
    ("nemo", "141"): (True, "states the value as its last formula without a box: the grader saw boxes only"),
    ("nemo", "206"): (True, "boxes 1, then echoes an instruction with an empty box, which the grader took"),
    ("nemo", "216"): (True, "ends with the right formula without a box: the grader saw boxes only"),
    ("nemo", "240"): (True, "boxes 5, then echoes an instruction with an empty box, which the grader took"),
}
"""(source, key) of a pair -> what is right (None: nobody can know, left out), and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    source: str
    key: str
    response: str
    gold: str
    right: bool

    @property
    def held_out(self) -> bool:
        if self.source == "cheats":  # few references, many answers: told apart by the answer
            return hashlib.sha256(self.response.encode()).digest()[0] % 2 == 1
        return hashlib.sha256(self.gold.encode("utf-8", "surrogatepass")).digest()[0] % 10 < 3


def rows(name: str) -> list[dict[str, Any]]:
    """The records of a JSON-lines file below the shared data."""
    path = DATA / name
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def labelled() -> list[Pair]:
    """All labelled pairs, corrected."""
    pairs = []
    for pair in (*_suites(), *_tora(), *_nemo(), *_gsm8k(), *_zeroeval(), *_solutions(), *_forms(), *_cheats()):
        right, _ = CORRECTED.get((pair.source, pair.key), (pair.right, ""))
        if right is not None:
            pairs.append(Pair(pair.source, pair.key, pair.response, pair.gold, right))
    return pairs


def throughput_pairs() -> list[tuple[str, str]]:
    """At least 3 000 distinct real (response, reference) pairs, in the mix of docs/results.md."""
    found: dict[tuple[str, str], None] = {}
    zero = rows("traces/zeroeval_sample.jsonl.gz")
    solutions = [(row[who]["solution"], row["ground_truth"].rsplit("A:", 1)[-1].strip())
                 for row in rows("gsm8k/example_model_solutions.jsonl") for who in ("6b_finetuning",
                 "175b_verification")]
    parts = [
        ([(row["output"], row["gold"]) for row in rows("traces/nemo_skills_outputs.jsonl")], 250),
        ([(row["output"], row["gold"]) for row in rows("traces/theoremqa_outputs.jsonl")], 700),
        ([(row["output"], row["gold"]) for row in rows("traces/tora_gsm8k.jsonl")], 900),
        ([(row["output"], row["gold"]) for row in zero if row["source"] == "zeroeval-math-l5"], 650),
        ([(row["output"], row["gold"].lstrip("# ")) for row in zero if row["source"] == "zeroeval-gsm"], 450),
        (solutions, 400),
    ]
    for part, count in parts:
        distinct = list(dict.fromkeys(part))
        random.Random(0).shuffle(distinct)
        found.update(dict.fromkeys(distinct[:count]))
    return list(found)


def _suites() -> Iterator[Pair]:
    for index, row in enumerate(rows("math_pairs/dev.jsonl")):
        source = "pairs" if row.get("consensus") else "pairs-policy"
        yield Pair(source, str(index), row["prediction"], row["gold"], row["expected"])


def _tora() -> Iterator[Pair]:
    for row in rows("traces/tora_gsm8k.jsonl"):
        yield Pair("tora", row["id"], row["output"], row["gold"], row["correct"])


def _nemo() -> Iterator[Pair]:
    for index, row in enumerate(rows("traces/nemo_skills_outputs.jsonl")):
        if row["correct"] is not None:
            yield Pair("nemo", str(index), row["output"], row["gold"], row["correct"])


def _gsm8k() -> Iterator[Pair]:
    for index, row in enumerate(rows("gsm8k/example_model_solutions.jsonl")):
        gold = row["ground_truth"].rsplit("A:", 1)[-1].strip()
        for who in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            yield Pair("gsm8k", f"{index}/{who}", row[who]["solution"], gold, row[who]["is_correct"])


def _zeroeval() -> Iterator[Pair]:
    found = [row for row in rows("traces/zeroeval_sample.jsonl.gz") if row["source"] != "zeroeval-crux"]
    random.Random(1).shuffle(found)
    for row in found[:5000]:
        said = re.search(r'\{[^{}]*"answer"\s*:\s*"?(-?[\d,]+)"?\s*\}\s*(?:```)?\s*$', row["output"], re.DOTALL)
        gold = row["gold"].lstrip("# ").replace(",", "")
        if said and re.fullmatch(r"-?\d+", gold) and said[1].strip(","):
            yield Pair("zeroeval", row["id"], row["output"], gold, int(said[1].replace(",", "")) == int(gold))


def _solutions() -> Iterator[Pair]:
    found = rows("math/math_test.jsonl")
    random.Random(2).shuffle(found)
    for index, row in enumerate(found[:1200]):
        gold = row.get("answer") or _last_box(row["solution"])
        if not gold:
            continue
        yield Pair("solutions", f"{index}/own", row["solution"], gold, True)
        other = mutated(gold, random.Random(index))
        if other:
            yield Pair("solutions", f"{index}/mutated", row["solution"], other, False)


def _forms() -> Iterator[Pair]:
    golds = [row["answer"] for row in rows("math/math500.jsonl")]
    golds += [row["ground_truth"] for row in rows("competition/roll_math_deepmath_deal.jsonl")]
    golds += [row["final_answer"][0].strip("$") for row in rows("competition/olympiadbench.jsonl")
              if row["final_answer"] and not row["unit"]]
    golds = list(dict.fromkeys(golds))
    random.Random(3).shuffle(golds)
    chinese = list(dict.fromkeys(row["golden"] for row in rows("competition/dsmath_cmath_test.jsonl")))
    for index, gold in enumerate(golds[:1400] + chinese[:150]):
        dice = random.Random(index)
        sentence = dice.choice(SENTENCES if index < 1400 else CHINESE)
        yield Pair("forms", f"{index}/same", sentence.replace("X",
        rewritten(gold, dice) if index < 1400 else gold), gold, True)
        other = mutated(gold, dice)
        if other:
            yield Pair("forms", f"{index}/mutated", sentence.replace("X", other), gold, False)


def _cheats() -> Iterator[Pair]:
    for index, (response, gold) in enumerate(cheats()):
        yield Pair("cheats", str(index), response, gold, False)


def _last_box(text: str) -> str:
    at = text.rfind(r"\boxed{")
    depth, start = 0, at + len(r"\boxed{")
    for index in range(start, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth < 0:
            return text[start:index] if at >= 0 else ""
    return ""


SENTENCES = (
    r"So we get \boxed{X}.", r"<think>Let me see: \boxed{0}?</think>The result is $\boxed{X}$.",
    r"<think>Wait, 7.</think>\[\boxed{X}\]", "<think>hm</think><answer>$X$</answer>", "Adding up.\n#### $X$",
    "Therefore the final answer is $X$.", "The answer is: $X$. I hope it is correct.", "**Answer:** $X$",
    r"The final answer is \(X\)", "Final Answer: $X$", r"Hence \[ X \]",
    r"This gives $X$, so the answer is $\boxed{X}$.",
    r"It is \boxed{X}. To repeat: \boxed{X}", '{"reasoning": "easy", "answer": "X"}',
)
CHINESE = ("因此一共有X个。", "所以答案是X。", "答案为：X", r"综上，结果等于\boxed{X}", "答：一共X。",
           "<think>大概1？</think>故答案为X。",
           "最后得到 $X$。", "因此小明有X元")


def rewritten(gold: str, dice: random.Random) -> str:
    """The same answer in another form."""
    changes = [change for change in _FORMS if change(gold, dice) != gold]
    for change in dice.sample(changes, min(2, len(changes))):
        gold = change(gold, dice)
    return gold


def _as_ratio(gold: str, _: random.Random) -> str:
    found = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", gold)
    return f"{found[1]}{found[2]}/{found[3]}" if found else gold


def _as_decimal(gold: str, _: random.Random) -> str:
    found = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", gold)
    if not found or int(found[3]) == 0:
        return gold
    value = Fraction(int(found[2]), int(found[3]))
    rest = value.denominator
    while rest % 2 == 0 or rest % 5 == 0:
        rest //= 2 if rest % 2 == 0 else 5
    return f"{found[1]}{float(value)!r}" if rest == 1 and value.denominator < 10**4 else gold


def _thousands(gold: str, _: random.Random) -> str:
    return f"{int(gold):,}" if re.fullmatch(r"-?\d{4,}", gold) else gold


def _with_unit(gold: str, dice: random.Random) -> str:
    unit = dice.choice((r"\text{ cm}", r"\text{ units}", r"\,\text{meters}", r"\text{ apples}"))
    return gold + unit if re.fullmatch(r"-?\d+", gold) else gold


def _named(gold: str, dice: random.Random) -> str:
    return f"{dice.choice('xnkS')} = {gold}" if re.fullmatch(r"-?\d+|\\frac\{\d+\}\{\d+\}", gold) else gold


def _turned(gold: str, _: random.Random) -> str:
    found = re.fullmatch(r"\\\{(-?\d+(?:, ?-?\d+)+)\\\}|(-?\d+(?:, -?\d+)+)", gold)
    inner = (found[1] or found[2]) if found else ""
    return gold.replace(inner, ", ".join(reversed(re.split(r", ?", inner)))) if inner else gold


_FORMS: tuple[Callable[[str, random.Random], str], ...] = (
    _as_ratio, _as_decimal, _thousands, _with_unit, _named, _turned,
    lambda gold, _: gold.replace(r"\frac", r"\dfrac") if r"\dfrac" not in gold else gold.replace(r"\dfrac", r"\frac"),
    lambda gold, _: re.sub(r"\\[dt]?frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold),
    lambda gold, _: gold.replace("(", r"\left(").replace(")", r"\right)") if r"\left" not in gold else gold,
    lambda gold, _: re.sub(r"(?<=[\w}])([+\-=,])(?=[\w\\])",
    r" \1 ", gold) if not re.search(r"\\text|\\!|\d,\d{3}", gold) else gold,
    lambda gold, _: gold.replace("-", "−") if re.fullmatch(r"-\d+", gold) else gold,
    lambda gold, _: rf"\text{{{gold}}}" if re.fullmatch(r"[A-Za-z]{4,}|[A-E]", gold) else gold,
)


def mutated(gold: str, dice: random.Random) -> str | None:
    """Another answer that looks like this one; None where no change is sure to make it another."""
    ways = [way for way in (_digit, _sign, _swapped, _missing, _bracket, _operator)
            if way(gold, dice) not in (None, gold)]
    return dice.choice(ways)(gold, dice) if ways else None


def _digit(gold: str, dice: random.Random) -> str | None:
    # Not in a command, an exponent of ten or a matrix' separators: only where a number is a number.
    places = [found for found in re.finditer(r"(?<![\w{_^.\\])\d+(?![\w.^])|(?<=frac\{)\d+(?=\})"
                                                r"|(?<=\d\d_)\d(?!\d)|(?<=\d\d_\{)\d+(?=\})", gold)]
    if not places:
        return None
    place = dice.choice(places)
    return f"{gold[:place.start()]}{int(place[0]) + dice.choice((1, 2, 10))}{gold[place.end():]}"


def _sign(gold: str, _: random.Random) -> str | None:
    if not re.fullmatch(r"-?(?:\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})", gold) or not re.search(r"[1-9]", gold):
        return None
    return gold[1:] if gold.startswith("-") else f"-{gold}"


def _swapped(gold: str, _: random.Random) -> str | None:
    found = re.fullmatch(r"\((-?\d+), ?(-?\d+)\)", gold)
    return f"({found[2]},{found[1]})" if found and found[1] != found[2] else None


def _missing(gold: str, _: random.Random) -> str | None:
    found = re.fullmatch(r"(-?\d+), ?(-?\d+(?:, ?-?\d+)*)", gold)
    return found[2] if found and found[1] not in re.split(r", ?", found[2]) else None


def _bracket(gold: str, _: random.Random) -> str | None:
    if re.fullmatch(r"\[-?\d+, ?-?\d+\)|\(-?\d+, ?-?\d+\]", gold):
        return f"[{gold[1:-1]}]"
    return None


def _operator(gold: str, _: random.Random) -> str | None:
    found = re.search(r"(?<=[\w})])\s*([+-])\s*(?=[1-9a-z\\])", gold)
    if not found or any(part in gold for part in (r"\pm", "=", "text", "|")):
        return None
    if "{" in gold[:found.start()].split("^")[-1]:
        return None
    return gold[:found.start(1)] + ("-" if found[1] == "+" else "+") + gold[found.end(1):]
