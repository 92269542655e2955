"""What verify.gym must judge rightly before it is used: items of some of reasoning-gym's tasks (only what their scorers
read), a wrong answer to each and the score that its scorer gives it. One task accepts many answers, one gives part of
the score to what is nearly right; the others compare."""

from __future__ import annotations

from typing import Any

GYM_TRIALS: tuple[tuple[str, dict[str, Any], str, float], ...] = (
    ("gcd", {"question": "Find the greatest common divisor of 84 and 36.", "answer": "12",
             "metadata": {"source_dataset": "gcd", "numbers": [84, 36], "result": 12}}, "6", 0.0),
    ("chain_sum", {"question": "State the final answer to: 17 + 48 - 9 =", "answer": "56",
                   "metadata": {"source_dataset": "chain_sum", "num_terms": 3, "num_digits": 2}}, "74", 0.0),
    ("leg_counting", {"question": "How many legs have 3 spiders and 2 dogs?", "answer": "32",
                      "metadata": {"source_dataset": "leg_counting", "animals": {"spider": 3, "dog": 2}}}, "40", 0.0),
    ("countdown", {"question": "Use 2, 3, 5 and 8 to make 34.", "answer": "8*3 + 5*2",
                   "metadata": {"source_dataset": "countdown", "numbers": [8, 3, 5, 2], "target": 34}}, "8*3 + 5 + 2",
     0.05),
    ("fraction_simplification", {
        "question": "Simplify 84/126.", "answer": "2/3",
        "metadata": {"source_dataset": "fraction_simplification", "numerator": 84, "denominator": 126,
                     "simplified_numerator": 2, "simplified_denominator": 3, "style": "plain"}}, "42/126", 0.1),
)
