"""filter.language on texts whose languages are known."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.errors import DataError, OpError
from factory.engine.op import SCORE_SCHEMA, OpContext
from factory.filters.language import LanguageParams, language
from factory.filters.masking import find_fences, mask

SENTENCES = Path(__file__).parents[2].parent / "shared" / "data" / "langid" / "lingua_testdata.jsonl.gz"
EN = "So we first compute the total number of apples in the basket. Then we divide the result by the number of boys. "
DE = "Zuerst berechnen wir die gesamte Zahl der Äpfel im Korb. Dann teilen wir das Ergebnis durch die Zahl der Jungen. "
ZH = "首先我们计算篮子里苹果的总数。然后我们把结果除以孩子的人数。"


def score(response: str | None, prompt: Any = "How many apples does every child in the village get?",
          **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response], "prompt": [prompt]}, schema_overrides={"response": pl.String})
    return language(batch, LanguageParams(**params), OpContext()).row(0, named=True)


def test_one_language_passes_with_full_consistency() -> None:
    row = score(f"<think>{EN}</think>{EN}")
    assert (row["passed"], row["consistency"], row["language"], row["target"]) == (True, 1.0, "en", "en")
    assert (row["switches"], row["foreign_run"], row["reason_code"]) == (0, None, None)
    assert row["score"] == row["consistency"]


@pytest.mark.parametrize(("foreign", "code"), [(DE, "de"), (ZH, "zh")])
def test_mixed_thinking_is_rejected_with_the_stretch_and_its_offset(foreign: str, code: str) -> None:
    response = f"<think>{EN}{foreign}{EN}</think>{EN}"
    row = score(response)
    assert (row["passed"], row["reason_code"], row["language"]) == (False, "mixed_language", "en")
    assert row["foreign_run"].strip() == foreign.strip().rstrip("。.")
    assert f"{code} at {response.index(foreign)}:" in row["reason"]
    assert row["switches"] == 2
    assert row["consistency_answer"] == 1.0
    assert 0.2 < row["consistency"] < 0.75


def test_share_counts_words_and_han_characters() -> None:
    row = score("<think>We now have three words here and four more words.\n因此答案</think>1", target="en")
    assert row["words"] == 14
    assert row["consistency_thinking"] == pytest.approx(10 / 14)


def test_answer_stands_in_where_there_is_no_thinking() -> None:
    assert score(EN + DE)["consistency"] == score(EN + DE)["consistency_answer"] < 0.9
    assert score(EN)["consistency_thinking"] is None
    only_thinking = score(f"<think>{EN}")
    assert (only_thinking["consistency"], only_thinking["consistency_answer"]) == (1.0, None)


def test_target_follows_the_prompt_and_can_be_fixed() -> None:
    assert score(f"<think>{DE}</think>4", prompt=ZH)["consistency"] == 0.0
    asked = "Wie viele Äpfel bekommt jedes Kind in unserem Dorf?"
    assert score(f"<think>{DE}</think>4", prompt=asked)["consistency"] == 1.0
    assert score(f"<think>{ZH}</think>4", target="zh-CN")["target"] == "zh"
    messages = [{"role": "system", "content": DE}, {"role": "user", "content": EN}]
    assert score(EN, prompt=messages)["target"] == "en"


@pytest.mark.parametrize("prompt", [None, "", "$1+1$?", "x = 2", "ok"])
def test_prompt_too_short_to_tell_falls_back_on_the_response(prompt: str | None) -> None:
    row = score(f"<think>{DE}</think>4", prompt=prompt)
    assert (row["target"], row["consistency"]) == ("de", 1.0)


@pytest.mark.parametrize("text", [
    "", "7", "<think></think>", "$$x^2 + y^2 = z^2$$", "1 + 1 = 2", "\0", "\u200b\u200b", "🙂🙂",
])
def test_no_words_is_consistent(text: str) -> None:
    row = score(text)
    assert (row["passed"], row["consistency"], row["words"]) == (True, 1.0, 0)


def test_formulas_code_urls_and_tags_are_no_words() -> None:
    noise = r"$\text{Geschwindigkeit}$ \[\mathrm{Zeit}\] `der_und_die = das` https://beispiel.de/wir-sind-hier <wir>"
    fence = "\n```python\nwir = berechnen(die, gesamte, Anzahl)\n```\n"
    row = score(f"<think>{EN}{noise}{fence}{EN}</think>{EN}")
    assert (row["consistency"], row["words"]) == (1.0, score(f"<think>{EN}{EN}</think>{EN}")["words"])


def test_null_text_is_undecided_and_other_types_are_refused() -> None:
    row = score(None)
    assert (row["passed"], row["reason_code"], row["consistency"]) == (None, "no_text", None)
    with pytest.raises(DataError, match="response"):
        language(pl.DataFrame({"response": [1]}), LanguageParams(target="en"), OpContext())


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ValidationError, match="language code"):
        LanguageParams(target="english")
    with pytest.raises(OpError, match="'qq'"):
        score(EN, target="qq")


HOSTILE = ["\\(" * 20_000, "$x " * 20_000, "\\begin{a}" * 10_000, "`a``" * 20_000, "<a " * 20_000, "a" * 100_000,
           "中" * 50_000, "\n" * 100_000, "\0" * 50_000, "مرحبا " * 5000, "\u202e" + EN, "a\u200bb " * 9000, EN * 1000]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_rows_get_a_verdict(text: str) -> None:
    assert score(text)["passed"] in (True, False)


@given(st.lists(st.one_of(st.text(max_size=200), st.text("$\\([])`~<>a \n{}", max_size=80)), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_every_text_gets_one_row_of_the_schema(texts: list[str]) -> None:
    out = language(pl.DataFrame({"response": texts, "prompt": texts[::-1]}), LanguageParams(), OpContext())
    assert out.height == len(texts)
    assert list(out.columns)[:5] == list(SCORE_SCHEMA)
    assert out["consistency"].is_between(0, 1).all()
    assert out["reason"].str.len_chars().max() <= 120
    for text in texts:
        assert len(mask(text)) == len(text)
        assert all(text[fence.start] in "`~" for fence in find_fences(text))


@pytest.mark.skipif(not SENTENCES.exists(), reason="needs lingua_testdata.jsonl.gz in the shared data folder")
@pytest.mark.parametrize("target", ["en", "de", "zh", "ru"])
def test_mixing_is_found_in_real_sentences(target: str) -> None:
    codes = ("en", "zh", "de", "fr", "es", "ru", "ja", "ko", "ar", "it", "pt", "nl")
    known: dict[str, list[str]] = {code: [] for code in codes}
    with gzip.open(SENTENCES, "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["kind"] == "sentences" and len(known.get(record["lang"], range(300))) < 300:
                known[record["lang"]].append(record["text"])
    rng = random.Random(5)
    responses = []
    for at in range(120):
        sentences = rng.choices(known[target], k=6)
        if at % 2:
            other = rng.choice([code for code in known if code != target])
            sentences[2:2] = rng.choices(known[other], k=3)
        responses.append("<think>" + rng.choice([" ", "\n"]).join(sentences) + "</think>42")
    out = language(pl.DataFrame({"response": responses}), LanguageParams(target=target), OpContext())
    # Three European sentences among six Chinese ones weigh little, since a Chinese sentence has a word per character.
    flagged = out["consistency"] < 0.97
    hits, wrong = int(flagged[1::2].sum()), int(flagged[::2].sum())
    assert hits >= 57, f"{hits} of 60 mixed texts found"
    assert wrong <= 3, f"{wrong} of 60 pure texts flagged"
