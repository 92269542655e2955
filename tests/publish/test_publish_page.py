"""publish.page: what it shows of a run, what hostile text can do to it (nothing), and how the file is written."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory
from factory.engine.errors import DataError
from factory.engine.op import Job, OpContext
from factory.engine.run import RunReport
from factory.publish.chart import line_chart, ticks, wilson
from factory.publish.excerpts import clip
from factory.publish.page import PageParams, publish_page
from warehouse import Warehouse

VOID = {"meta", "wbr", "br", "link", "img", "input", "hr", "base"}
RIGHT = "<think>I add & think <b>aloud</b>.</think><answer>{{ answer }}</answer>"
MODELS = {"rules": {"license": "cc0-1.0", "replay": {"rules": [
    {"weight": 2, "text": RIGHT}, {"weight": 1, "text": "<think>I guess.</think><answer>none</answer>"}]}}}
FIGURES = {"accuracy": 0.5, "sampled": 0.4, "majority": 0.45, "format": 1.0, "problems": 300.0}


class Page(HTMLParser):
    """A parsed page: it must nest well; tags with their attributes, and text by the tag around it."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def inside(self, tag: str) -> list[str]:
        return [text for around, text in self.texts if around == tag and text.strip()]

    @property
    def text(self) -> str:
        return "".join(text for around, text in self.texts if around != "style")


def parse(path: Path) -> Page:
    """The page of a file, which must be one that loads nothing and runs nothing."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert {"script", "iframe", "img", "link", "object", "embed", "base", "form", "b"}.isdisjoint(
        tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert {"src", "srcset", "action", "xlink:href"}.isdisjoint(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    (style,) = page.inside("style")
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    return page


class Loop:
    """A folder with a small recipe: samples, verdicts, a selection, trainings, evaluations, a gate, a page."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.target = folder / "out" / "page.html"
        rows = [{"prompt": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(12)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def steps(self) -> dict[str, Any]:
        return {
            "problems": {"op": "source.files", "params": {"paths": ["rows.jsonl"], "license": "cc0-1.0"}},
            "samples": {"op": "generate.sample", "from": "problems", "model": "rules",
                        "params": {"template": "plain", "n": 3, "temperature": 1.0}},
            "correct": {"op": "verify.math", "from": "samples"},
            "chosen": {"op": "select.rejection", "from": "samples", "where": ["correct"],
                       "params": {"keep_per_prompt": 1}},
            "sft": {"op": "page.tune", "from": "chosen"},
            "sft_check": {"op": "page.check", "from": "sft", "params": {"figures": FIGURES}},
            "rl": {"op": "page.tune", "from": "problems", "params": {"curve": "grpo", "steps": 1000}},
            "rl_check": {"op": "page.check", "from": "rl", "params": {"figures": {**FIGURES, "accuracy": 0.9}}},
            "gate": {"op": "page.gate", "from": ["rl_check", "sft_check"]},
        }

    def run(self, steps: dict[str, Any] | None = None, sources: list[str] | None = None, **params: Any) -> RunReport:
        steps = steps or self.steps()
        names = sources or ["sft", "sft_check", "rl", "rl_check", "gate", "samples", "chosen"]
        page = {"op": "publish.page", "from": names, "params": {"to": str(self.target), **params}}
        path = self.folder / "loop.yaml"
        path.write_text(json.dumps({"recipe": "loop", "plugins": ["page_ops"], "models": MODELS,
                                    "steps": {**steps, "page": page}}), encoding="utf-8")
        return factory.run(path, warehouse=self.folder / "w", executor="inline")

    def page(self, *args: Any, **params: Any) -> Page:
        report = self.run(*args, **params)
        assert report.status == "succeeded", report.errors
        return parse(self.target)


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def by_hand(tmp_path: Path, rows: pl.DataFrame, title: str | None = None, text: str = "recipe: x", *,
            note: dict[str, Any] | None = None, tables: dict[str, pl.DataFrame] | None = None,
            name: str = "rows") -> tuple[Page, dict[str, Any]]:
    """The page of one input, for texts and tables that no recipe would make."""
    counts = {"owed": rows.height, "kept": rows.height, "rejected": 0, "failed": 0, "reasons": {}}
    known = {"ref": f"x/{name}@1", "kind": "selection", "op": "select.rejection", "rows": rows.height,
             "counts": counts, "model": None, "by_checkpoint": None, "checkpoint": None, "metrics": {},
             "tables": sorted(tables or {}), "passed": None, "reason": None, "inputs": [], **(note or {})}
    job = Job(inputs={name: rows.lazy()}, refs={name: known["ref"]}, workdir=tmp_path, notes={name: known},
              facts={"recipe": "x", "recipe_text": text, "content_hash": ""},
              table=lambda _, table: (tables or {})[table].lazy())
    target = tmp_path / "page.html"
    receipt = publish_page(job, PageParams(to=str(target), title=title), OpContext(step="page", seed=1))
    return parse(target), receipt


def answers(*responses: str, prompt: Any = "What?") -> pl.DataFrame:
    return pl.DataFrame({"row_id": range(len(responses)), "prompt": [prompt] * len(responses), "response": responses,
                         "row_key": [str(index).encode() for index in range(len(responses))]})


def test_a_loop_is_told_whole(loop: Loop) -> None:
    page = loop.page(title="My loop", about="Two trainings.")
    manifest = Warehouse(loop.folder / "w").dataset("loop/chosen").manifest
    assert page.inside("h2") == ["Checkpoints", "Data", "Training", "Gates", "Rows", "Recipe"]
    assert page.inside("title")[0] == page.inside("h1")[0] == "My loop"
    table = page.text[page.text.index("trained"):]
    assert table.index("loop/sft@1") < table.index("loop/rl@1")
    assert f"on loop/chosen@1: {manifest.row_count} rows, 40 steps" in table
    assert "on loop/problems@1: 12 rows, 1,000 steps" in table
    for shown in ("50.0\N{NO-BREAK SPACE}%", "90.0\N{NO-BREAK SPACE}%", "Measured on 300 problems."):
        assert shown in table
    assert "from samples: 36 rows" in page.text
    for reason, count in manifest.counts.reasons.items():
        label = page.text.index(reason, page.text.index("loop/chosen@1 ·"))
        assert re.match(rf"{re.escape(reason)}\s+{count}\s", page.text[label:])
    assert '<b>0.9</b> & better than "0.5"' in page.text
    assert page.count("details") == page.text.count("thinking, ") + 1 == 11
    assert "I add & think <b>aloud</b>." in page.text
    assert any('"publish.page"' in text for text in page.inside("pre"))


def test_every_chart_has_marks_and_words(loop: Loop) -> None:
    page = loop.page()
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 4  # accuracy; loss; reward, length
    words = dict(zip((a["id"] for t, a in page.tags if t in ("title", "desc") and "id" in a),
                     (text for around, text in page.texts if around in ("title", "desc")), strict=False))
    assert all(set((chart["aria-labelledby"] or "").split()) <= set(words) for chart in charts)
    lines = [attributes["points"] or "" for tag, attributes in page.tags if tag == "polyline"]
    assert len(lines) == 1 + 2 * 3 + 2
    for points in lines:
        places = [tuple(map(float, pair.split(","))) for pair in points.split()]
        assert 2 <= len(places) <= 240
        assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in places)
        assert places == sorted(places, key=lambda place: place[0])
    assert page.count("rect") >= 2 * 2
    assert sum(tag == "circle" for tag, _ in page.tags) == 2 + 2 * 2  # legend, and two marks for each checkpoint


def test_the_same_content_changes_nothing(loop: Loop) -> None:
    first = loop.run()
    before = (loop.target.read_bytes(), loop.target.stat().st_mtime_ns, loop.target.stat().st_ino)
    again = loop.run()
    assert (loop.target.read_bytes(), loop.target.stat().st_mtime_ns, loop.target.stat().st_ino) == before
    assert again.manifests["page"].ref == first.manifests["page"].ref
    assert [path.name for path in loop.target.parent.iterdir()] == ["page.html"]
    receipt = again.manifests["page"].facts["receipt"]
    assert (receipt["rows"], receipt["what"], receipt["source"]) == (2, "a page of 2 checkpoints", "loop/sft@1")
    loop.target.write_bytes(before[0] + b"\n")
    assert loop.run().status == "succeeded"
    assert loop.target.read_bytes() == before[0]


def test_two_warehouses_give_one_page(loop: Loop, tmp_path: Path) -> None:
    loop.run()
    before = loop.target.read_bytes()
    (loop.folder / "w").rename(loop.folder / "elsewhere")
    loop.run()
    assert loop.target.read_bytes() == before


@pytest.mark.parametrize(("sources", "sections"), [
    (["sft"], ["Checkpoints", "Training", "Recipe"]),
    (["rl_check"], ["Checkpoints", "Recipe"]),
    (["bare"], ["Checkpoints", "Recipe"]),
    (["odd"], ["Checkpoints", "Recipe"]),
    (["problems"], ["Data", "Rows", "Recipe"]),
    (["correct"], ["Recipe"]),
    (["nothing"], ["Data", "Rows", "Recipe"])])
def test_any_part_alone_makes_a_page(loop: Loop, sources: list[str], sections: list[str]) -> None:
    steps = {**loop.steps(), "bare": {"op": "page.tune", "from": "chosen", "params": {"curve": "none"}},
             "odd": {"op": "page.check", "from": "sft", "params": {"figures": {"perplexity": 3.5}}},
             "nothing": {"op": "select.rejection", "from": "samples", "where": [{"correct": {"score": {"gt": 5}}}]}}
    page = loop.page(steps, sources)
    assert page.inside("h2") == sections
    assert (page.count("polyline") > 0) == ("Training" in sections)
    assert ("No row was kept." in page.text) == (sources == ["nothing"])
    assert ("perplexity" in page.text.split("Recipe")[-2]) == (sources == ["odd"])
    assert ("What is" in "".join(page.inside("pre")[:-1])) == (sources == ["problems"])


def test_two_evaluations_of_one_checkpoint_are_two_lines(loop: Loop) -> None:
    steps = {**loop.steps(), "again": {"op": "page.check", "from": "sft", "params": {"figures": {"accuracy": 0.75}}}}
    page = loop.page(steps, ["sft_check", "again", "sft"])
    assert "judged by sft_check" in page.text
    assert "judged by again" in page.text
    assert page.text.count("75.0\N{NO-BREAK SPACE}%") == 3  # table, description, chart
    assert "–" in page.inside("td")


HOSTILE = ("<script>alert(1)</script>", "</details></pre></main></body></html>", "\"><img src=x onerror=alert(1)>",
           "{{ 7 * 7 }}{% raw %}", "a\x00b\x1b[31mc\x7f", "\u202egnp.exe", "&lt;already&gt;",
           "<think></style><style>*{}", "<!-- x", "]]>", "https://example.org/x.js url(https://example.org)")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_stands(tmp_path: Path, text: str) -> None:
    plain = text.replace("\x00", "␀").replace("\x1b", "␛").replace("\x7f", "\ufffd")
    page, _ = by_hand(tmp_path, answers(f"<think>{text}</think>{text}", prompt=text).with_columns(answer=pl.lit(text)),
                      title=text, text=text)
    assert page.text.count(plain) >= 7  # title, heading, prompt, reference, thinking, answer, recipe
    assert page.inside("h2") == ["Data", "Rows", "Recipe"]
    page, _ = by_hand(tmp_path, pl.DataFrame({"row_id": [1]}), note={
        "kind": "gate", "passed": False, "reason": text})
    assert plain in page.text
    page, _ = by_hand(tmp_path, answers("x"), note={"counts": {
        "owed": 3, "kept": 1, "rejected": 2, "failed": 0, "reasons": {text: 2}}})
    assert plain in page.text


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    page, _ = by_hand(tmp_path, answers("x"), title="a\ud800b", text="recipe: \udfff")
    assert page.inside("h1") == ["a\ufffdb"]
    assert page.inside("pre")[-1] == "recipe: \ufffd"


@pytest.mark.parametrize("filler", ["x", "'", "&", "思", "\x00"])
def test_long_texts_are_cut_and_said_to_be(tmp_path: Path, filler: str) -> None:
    long = filler * 5_000_000
    page, receipt = by_hand(tmp_path, answers(*[f"<think>{long}</think>{long}"] * 5, prompt=long), text=long)
    assert (tmp_path / "page.html").stat().st_size < 1_000_000
    assert page.text.count("more characters)") == 5 * 3 + 1
    assert "thinking, 5,000,000 characters" in page.text
    assert receipt["what"] == "a page of 5 rows"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(0, 200))
def test_a_cut_text_is_a_beginning_and_a_count(text: str, most: int) -> None:
    cut = clip(text, most)
    if cut != text:
        kept, _, rest = cut.rpartition(" […] (")
        assert text.startswith(kept)
        assert rest == f"{len(text) - len(kept):,} more characters)"
        assert len(kept.encode()) <= most


@pytest.mark.parametrize(("response", "thinking", "answer"), [
    ("no thinking", None, "no thinking"), ("<think>never ends", "never ends", ""), ("", None, ""),
    ("no open</think> 4", "no open", "4"), ("<think></think>", "", ""),
    ("<think>a</think><answer>4</answer> and more", "a", "<answer>4</answer> and more")])
def test_thinking_is_apart_from_the_answer(tmp_path: Path, response: str, thinking: str | None, answer: str) -> None:
    page, _ = by_hand(tmp_path, answers(response))
    assert (page.count("details") == 2) == (thinking is not None)
    assert page.inside("pre")[1:-1] == [text for text in (thinking, answer) if text]


def test_chats_and_rows_without_a_response_are_told(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    page, _ = by_hand(tmp_path, answers("Hello", prompt=chat))
    assert page.inside("pre")[0] == "system: Be brief.\nuser: Hi"
    rows = pl.DataFrame({"row_id": [1], "row_key": [b"k"], "question": ["why?"], "level": [3], "none": [None]})
    page, _ = by_hand(tmp_path, rows)
    assert page.inside("pre")[:-1] == ["why?", "3"]


def test_figures_and_curves_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    rows = pl.DataFrame({"row_id": [1]})
    curves = {"step": [1, 2, 3], "loss": [float("nan"), None, float("inf")]}
    for table in (curves, {"step": [1], "loss": [0.5]}, {"step": [], "loss": []}, {"other": ["x"]}):
        page, _ = by_hand(tmp_path, rows, note={"kind": "checkpoint", "checkpoint": "x/rows@1"},
                          tables={"curves": pl.DataFrame(table)})
        assert page.inside("h2") == ["Checkpoints", "Recipe"]
        assert page.count("polyline") == 0
    metrics = {"accuracy": float("nan"), "sampled": 7.0, "majority": None, "format": 0.5, "problems": float("inf")}
    page, _ = by_hand(tmp_path, rows, note={"kind": "report", "checkpoint": "x/model@3", "metrics": metrics})
    assert "50.0\N{NO-BREAK SPACE}%" in page.text
    assert page.count("circle") == 0


def test_a_foreign_file_and_impossible_places_are_refused(tmp_path: Path, loop: Loop) -> None:
    loop.target.parent.mkdir()
    loop.target.write_text("my thesis", encoding="utf-8")
    report = loop.run(sources=["problems"])
    assert (report.status, report.exit_code) == ("failed", 1)
    assert loop.target.read_text(encoding="utf-8") == "my thesis"
    (tmp_path / "published").mkdir()
    (tmp_path / "published/.dataset-factory.json").write_text("{}", encoding="utf-8")
    for place in (loop.target.parent, loop.target / "page.html", tmp_path / "published/docs/page.html"):
        loop.target = place
        report = loop.run(sources=["problems"])
        assert isinstance(report.errors[0], DataError)
        assert str(place) in str(report.errors[0])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["page.html"]


def test_relative_places_start_where_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loop = Loop(tmp_path)
    loop.target = Path("deep/er/page.html")
    loop.page(sources=["problems"])
    assert (tmp_path / "deep/er/page.html").is_file()


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-9, 9)), max_size=60))
def test_any_series_is_drawn_inside_or_not_at_all(values: list[float | None]) -> None:
    chart = line_chart("x", range(len(values)), {"x": values}, 24, noisy=True)
    finite = [value for value in values if value is not None and abs(value) < 1e200]
    assert (chart is not None) == (len(finite) > 1)
    if chart is not None:
        places = [float(part) for pair in chart.lines[0].points.split() for part in pair.split(",")]
        assert all(0 <= place <= 1000 for place in places)
        assert 1 <= len(chart.y_ticks) <= 12
        assert all(0 <= tick.at <= 100 for tick in (*chart.x_ticks, *chart.y_ticks))


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 1.04) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(-1, 6.4) == [0, 2, 4, 6]
    assert ticks(1, 675) == [200, 400, 600]


def test_wilson_interval() -> None:
    """Against the worked values of Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                    (1, 29, 0.0061, 0.1718)):
        assert wilson(right / count, count) == pytest.approx((low, high), abs=5e-5)
