"""Sums without any dependency: problem i of a seed, without making the others.

All expressions of `terms` numbers from 0 to 10^digits − 1 with `operators` between them are numbered 0 … N − 1. The
seed picks a permutation of these numbers (a four-round Feistel network over the next power of four, walked until the
value falls below N: "cycle walking", Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, §4). So the
first `count` problems of a seed are distinct, in a fixed order, and each can be made alone. Products bind first.
"""

from __future__ import annotations

import hashlib
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Operator = Literal["+", "-", "*"]
Digits = Annotated[int, Field(ge=1, le=18)]
_ROUNDS = 4


class ArithmeticConfig(BaseModel):
    """`terms`: numbers in an expression; `digits`: most digits of a number, or one figure for each (`[1, 2]`);
    `operators`: those to choose from, or one list for each gap between numbers (`[[+, -], [*]]`: only sums in which
    the product must come first); `form`: the question, with `{expression}` where the expression goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: int = Field(2, ge=2, le=16)
    digits: Digits | tuple[Digits, ...] = 1
    operators: tuple[Operator, ...] | tuple[tuple[Operator, ...], ...] = Field(("+", "-", "*"), min_length=1)
    form: str = "What is {expression}?"

    @field_validator("digits")
    @classmethod
    def _check_digits(cls, value: int | tuple[int, ...], info: ValidationInfo) -> int | tuple[int, ...]:
        terms = info.data.get("terms", 2)
        if isinstance(value, tuple) and len(value) != terms:
            raise ValueError(f"gives {len(value)} figures for {terms} terms")
        return value

    @property
    def sizes(self) -> list[int]:
        """How many values each number can take."""
        digits = self.digits if isinstance(self.digits, tuple) else (self.digits,) * self.terms
        return [10**count for count in digits]

    @field_validator("operators")
    @classmethod
    def _check_operators(cls, value: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        gaps = value if isinstance(value[0], tuple) else (value,)
        if any(not gap or len(set(gap)) < len(gap) for gap in gaps):
            raise ValueError("names no operator for a gap, or one twice")
        wanted = info.data.get("terms", 2) - 1
        if isinstance(value[0], tuple) and len(gaps) != wanted:
            raise ValueError(f"has {len(gaps)} lists for {wanted} gaps")
        return value

    @property
    def gaps(self) -> list[tuple[str, ...]]:
        """The operators of each gap."""
        if isinstance(self.operators[0], tuple):
            return [tuple(gap) for gap in self.operators]
        return [tuple(map(str, self.operators))] * (self.terms - 1)

    @field_validator("form")
    @classmethod
    def _has_place(cls, value: str) -> str:
        if "{expression}" not in value:
            raise ValueError("lacks {expression}, the place of the expression")
        return value

    @property
    def distinct(self) -> int:
        """How many different problems there are."""
        return prod(self.sizes) * prod(map(len, self.gaps))


def make_item(config: ArithmeticConfig, seed: int, index: int) -> dict[str, Any]:
    """Problem `index` of a seed: `question`, `answer` (decimal digits) and `metadata`. `index` is below
    `config.distinct`."""
    numbers, operators = _decode(config, _permute(index, config.distinct, seed))
    expression = " ".join(str(part) for pair in zip(numbers, [*operators, ""], strict=True) for part in pair).strip()
    return {"question": config.form.replace("{expression}", expression), "answer": str(_evaluate(numbers, operators)),
            "metadata": {"expression": expression, "index": index, "seed": seed,
                         "difficulty": {"digits": config.digits, "terms": config.terms}}}


def _decode(config: ArithmeticConfig, code: int) -> tuple[list[int], list[str]]:
    numbers: list[int] = []
    operators: list[str] = []
    for size in config.sizes:
        code, number = divmod(code, size)
        numbers.append(number)
    for gap in config.gaps:
        code, which = divmod(code, len(gap))
        operators.append(gap[which])
    return numbers, operators


def _evaluate(numbers: list[int], operators: list[str]) -> int:
    total, sign, factors = 0, 1, [numbers[0]]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "*":
            factors.append(number)
            continue
        total += sign * prod(factors)
        sign, factors = (1 if operator == "+" else -1), [number]
    return total + sign * prod(factors)


def _permute(index: int, size: int, seed: int) -> int:
    half = max(1, -(-(size - 1).bit_length() // 2))
    mask = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & mask
        for turn in range(_ROUNDS):
            text = f"{seed}:{turn}:{right}".encode()
            left, right = right, left ^ (int.from_bytes(hashlib.shake_256(text).digest(half // 8 + 1)) & mask)
        value = left << half | right
        if value < size:
            return value
