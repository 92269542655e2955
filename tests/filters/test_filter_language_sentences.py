"""filter.language on what a model slips into a trace: short sentences, wherever they stand, and what only looks so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factory
from factory.engine.op import OpContext
from factory.filters.language import LanguageParams, consistency, language

EN = "So we first compute the total number of apples. Then we divide the result by the number of boys."
ZH = "首先我们计算篮子里苹果的总数。然后我们把结果除以孩子的人数。"
SHORT = [("es", "Por lo tanto, la respuesta es cinco."), ("fr", "Donc la réponse est cinq."),
         ("de", "Das ist die Antwort."), ("it", "Quindi la risposta è cinque."), ("pt", "Acho que está certo."),
         ("nl", "Dus het antwoord is vijf."),
         ("pl", "Więc odpowiedź to pięć."), ("vi", "Vậy đáp án là năm."), ("ru", "Поэтому ответ 5."),
         ("zh", "所以答案是五。"), ("ja", "そのため答えは5です。"), ("ko", "그래서 답은 5입니다."),
         ("ar", "هذا غير صحيح."), ("hi", "यह सही नहीं है।"),
         ("fr", "C'est vrai."), ("de", "Also ist das falsch.")]
PLACES = ["<think>{en} {x} {en}</think>5", "<think>{en}\n- {x}\n- {en}</think>5", "<think>{x}\n{en}</think>5",
          "<think>{en}\n> {x}</think>5", "<think>{en}</think>{x}", "<think>{en} So done.{x}Then on.</think>5",
          "<think>{en}\n```python\nprint(1)\n\nNow. {x} {en}</think>5",
          "<think>{en}\nx^2 = 3x + 10. {x} So y = 4.</think>5"]


def rows(responses: list[str], **params: Any) -> list[dict[str, Any]]:
    batch = pl.DataFrame({"response": responses})
    return language(batch, LanguageParams(**{"target": "en", **params}), OpContext()).to_dicts()


@pytest.mark.parametrize("place", PLACES)
def test_short_sentences_are_found_with_their_place(place: str) -> None:
    responses = [place.format(en=EN, x=sentence) for _, sentence in SHORT]
    missed = []
    for response, (code, sentence), row in zip(responses, SHORT, rows(responses), strict=True):
        if row["passed"] or row["reason_code"] != "mixed_language" or row["foreign_run_language"] != code:
            missed.append(sentence)
            continue
        run = response[row["foreign_run_at"]:row["foreign_run_end"]]
        assert run == row["foreign_run"]
        assert run[:-1] in sentence or sentence[:4] in run
    assert missed == []


def test_short_english_in_chinese_is_found() -> None:
    said = ["So the answer is five.", "Wait, that is not right.", "Let me check this again."]
    found = rows([f"<think>{ZH}{one}{ZH}</think>5" for one in said], target="zh")
    assert [row["passed"] for row in found] == [False] * 3


@pytest.mark.parametrize("text", [
    "The German word 'Schadenfreude' and the Spanish word \"gato\" are quoted. Quod erat demonstrandum.",
    "He met José García at the Universidad de Chile in São Paulo. They ate spaghetti alle vongole.",
    "In pinyin: ni hao. Let alpha, beta, xi, eta be angles. Thus sin x cos y = tan z mod p.",
    "def foo(bar): return baz\nlet const x = 5;\nfor i in range(n): ans += dp[i]",
    "By \\frac{a}{b} = \\sqrt{c} we get c^2.",
    "```json\n{\"razón\": \"por lo tanto la respuesta es cinco\"}\n```"])
def test_what_only_looks_foreign_passes(text: str) -> None:
    assert [row["passed"] for row in rows([f"<think>{EN} {text} {EN}</think>{EN}"])] == [True]


def test_parts_stand_apart() -> None:
    row = rows([f"<think>{EN}</think>{EN} Por lo tanto, la respuesta es cinco."])[0]
    assert (row["consistency"], row["consistency_thinking"], row["foreign_sentences"]) == (1.0, 1.0, 1)
    assert (row["foreign_sentences_thinking"], row["foreign_sentences_answer"]) == (0, 1)
    assert row["foreign_words_answer"] == 7
    assert (row["foreign_run"], row["foreign_run_thinking"]) == (row["foreign_run_answer"], None)
    shares = {entry["language"]: (entry["words"], entry["segments"]) for entry in row["languages_answer"]}
    assert shares["es"] == (7, 1)
    assert row["passed"] is False
    assert rows([f"<think>{EN}</think>{EN} {SHORT[0][1]}"], max_foreign_sentences=1)[0]["passed"] is True
    assert rows([f"<think>{EN}</think>{EN} {SHORT[0][1]}"], max_foreign_sentences=None)[0]["passed"] is True


def test_targets_beyond_the_tables_are_measured_by_lid() -> None:
    esperanto = "Saluton, mi nomiĝas Petro kaj mi loĝas en la urbo kun miaj gepatroj kaj mia frato. " * 2
    clean, mixed = rows([f"<think>{esperanto}</think>5", f"<think>{esperanto}\n{EN}\n{EN}</think>5"], target="eo")
    assert (clean["passed"], clean["consistency"], clean["language"]) == (True, 1.0, "eo")
    assert (mixed["passed"], mixed["foreign_run_language"]) == (False, "en")
    assert consistency(f"<think>{esperanto}</think>5", "eo") == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([EN, ZH, "", "a", "\x00", "<think>x</think>", *(one for _, one in SHORT)])
                | st.text(st.characters(exclude_categories=("Cs",)), max_size=40), min_size=1, max_size=8),
       st.integers(1, 4))
def test_any_cut_into_batches_gives_the_same_rows(parts: list[str], size: int) -> None:
    both = [f"<think>{one}</think>{two}" for one, two in zip(parts, parts[::-1], strict=True)]
    batch = pl.DataFrame({"response": both, "prompt": parts})
    whole = language(batch, LanguageParams(), OpContext())
    pieces = [language(batch.slice(at, size), LanguageParams(), OpContext()) for at in range(0, batch.height, size)]
    assert pl.concat(pieces).equals(whole)
    for part, share in zip(whole.iter_rows(named=True), batch.iter_rows(named=True), strict=True):
        reward = consistency(share["response"], "prompt", share["prompt"])
        assert reward is None or reward == part["consistency"]


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_scores_with_lists_go_through_a_recipe(tmp_path: Path, executor: str) -> None:
    lines = [{"prompt": EN, "response": f"<think>{EN}</think>{SHORT[at % 2][1] if at % 3 == 0 else EN}", "n": at}
             for at in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = ["tongue", {"tongue": {"foreign_sentences": {"le": 0}}}]
    recipe = {"recipe": "mixed", "runtime": {"shard_rows": 5}, "steps": {
        "rows": {"op": "source.files", "params": {"paths": ["rows.jsonl"]}},
        "tongue": {"op": "filter.language", "from": "rows"},
        "kept": {"op": "select.rejection", "from": "rows", "where": kept}}}
    (tmp_path / "mixed.yaml").write_text(json.dumps(recipe))
    report = factory.run(tmp_path / "mixed.yaml", warehouse=tmp_path / "house", executor=executor)
    assert report.status == "succeeded", report.errors
    assert {step.step: step.counts.kept for step in report.steps}["kept"] == 8
