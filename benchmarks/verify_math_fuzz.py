"""Hostile answers for `verify_math.py`: mutated real ones, LaTeX soup, and the known bombs."""

from __future__ import annotations

import random
from collections.abc import Iterator

TOKENS = (
    r"\frac{", r"\dfrac", r"\sqrt{", r"\sqrt[3]{", r"\boxed{", r"\text{", r"\begin{pmatrix}", r"\end{pmatrix}",
    r"\left(",
    r"\right)", r"\{", r"\}", r"\pm", r"\infty", r"\pi", r"\cup", r"\sum_{", r"\int_0^", r"\lim_{x\to", r"\binom{",
    r"\log_", r"\sin", r"\overline{", r"\%", r"\$", r"\\", "{", "}", "(", ")", "[", "]", "^", "_", "&", "|", "!", "=",
    "<", ">",
    "+", "-", "*", "/", ",", ";", ":", ".", " ", "$", "$$", "0", "1", "2", "10", "99", "12345678901234567890", "x",
    "y", "n",
    "e", "i", "and", "or", "is", "apples", "answer is", "答案是", "为", "％", "٣", "\x00", "\udcff", "\ufffe", "\u200b",
    "\n",
    "```", "<think>", "</think>", "<answer>", "####", "e9999", "10^{", "factorial", "lambda", "__import__",
)
BOMBS = (
    "10^{10^{10}}", "9^{9^{9^9}}", "2^{2^{2^{2^{2^2}}}}", "100000000!", "10^10^10", "((((10!)!)!)!)",
    r"\binom{10^9}{5*10^8}",
    "{" * 100_000, "}" * 100_000, "{" * 50_000 + "}" * 50_000, r"\boxed{" * 20_000, "(" * 50_000, "$" * 50_000,
    r"\frac{1}{" * 1000 + "1" + "}" * 1000, r"\sqrt{" * 500 + "2" + "}" * 500, "answer is " * 20_000, "1" * 20_000,
    "因此" * 20_000, "**" * 30_000, "1," * 2000, "x^" * 500 + "2", "-" * 5000 + "1", "\x00" * 1000, "\\" * 20_000,
    r"\sum_{k=1}^{10^{9}} \frac{1}{k}", r"\prod_{k=1}^{99999} k", "1e999999999", "0." + "0" * 5000 + "1", "|" * 3000,
)


def fuzzed(answers: list[str], golds: list[str], count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`count` (response, reference) pairs."""
    dice = random.Random(seed)
    for index in range(count):
        gold = dice.choice(golds)
        kind = index % 10
        if index < len(BOMBS) * 4:
            bomb = BOMBS[index % len(BOMBS)]
            shapes = ((bomb, "42"), (rf"\boxed{{{bomb}}}", "42"), (r"\boxed{42}", bomb), (f"The answer is {bomb}.",
            "x+1"))
            yield shapes[index // len(BOMBS)]
        elif kind < 4:
            yield _spoilt(dice.choice(answers), dice), gold
        elif kind < 7:
            yield rf"\boxed{{{_spoilt(gold, dice)}}}", gold
        elif kind < 9:
            yield rf"So \boxed{{{_soup(dice)}}}" if dice.random() < 0.7 else _soup(dice), gold
        else:
            yield rf"\boxed{{{gold}}}", _spoilt(gold, dice) if dice.random() < 0.5 else _soup(dice)


def _soup(dice: random.Random) -> str:
    return "".join(dice.choice(TOKENS) for _ in range(dice.randint(1, 14)))


def _spoilt(text: str, dice: random.Random) -> str:
    """A text with one to four things done to it: deleted, doubled, moved, replaced, or a token thrown in."""
    text = text[-1500:]
    for _ in range(dice.randint(1, 4)):
        start = dice.randint(0, len(text))
        end = min(len(text), start + dice.randint(0, 8))
        piece = text[start:end]
        text = text[:start] + dice.choice(("", piece * 2, piece[::-1], dice.choice(TOKENS), piece + dice.choice(TOKENS),
                                           chr(dice.randint(0, 0x2FFF)))) + text[end:]
    return text
