"""recipes/nano.yaml, whole: every stage of R1 in miniature, trained, judged, published, and nothing smuggled in.

One real run (about ten minutes on two cores) that all tests here read.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import factory
from warehouse import Warehouse
from warehouse.lineage import trace_up

pytest.importorskip("trl")
REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "recipes" / "nano.yaml"
STAGES = ("base", "zero", "dev1", "dev2", "dev3", "final", "distilled")


def test_the_splits_share_no_problem(tmp_path: Path) -> None:
    splits = {}
    for name in ("corpus_problems", "rl_problems", "held_out", "problems"):
        report = factory.run(RECIPE, warehouse=tmp_path / "wh", until=name, executor="inline")
        assert report.status == "succeeded"
        splits[name] = Warehouse(tmp_path / "wh").dataset(f"nano/{name}").scan().collect()["prompt"].to_list()
    assert all(len(set(prompts)) == len(prompts) for prompts in splits.values())
    held = set(splits["held_out"])
    assert not held & set(splits["problems"])
    assert not set(splits["corpus_problems"]) & set(splits["rl_problems"])
    assert set(splits["problems"]) == set(splits["corpus_problems"]) | set(splits["rl_problems"])
    assert len(held) + len(splits["problems"]) == 1000


def test_the_files_beside_it_are_what_its_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(REPOSITORY / "recipes" / "nano" / "make_files.py"))
    monkeypatch.setitem(script["main"].__globals__, "HERE", tmp_path)
    script["main"]()
    kept = REPOSITORY / "recipes" / "nano"
    for name in ("short_tasks.jsonl", "tokenizer/tokenizer.json", "tokenizer/chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (kept / name).read_bytes(), name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, Path, str]:
    """The warehouse, the folder and the output of one whole run."""
    folder = tmp_path_factory.mktemp("nano")
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", "run", str(RECIPE), "-w", str(folder / "wh"), "--trace", "--vars",
         f"to={folder / 'nano'}"], cwd=folder, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return Warehouse(folder / "wh"), folder, done.stdout


pytestmark = pytest.mark.timeout(3600)


def figures(warehouse: Warehouse) -> dict[str, dict[str, float]]:
    return {stage: warehouse.manifest(f"nano/{stage}_check").facts["metrics"] for stage in STAGES}


@pytest.mark.slow
def test_every_stage_learns(world: tuple[Warehouse, Path, str]) -> None:
    found = figures(world[0])
    assert found["final"]["accuracy"] - found["base"]["accuracy"] >= 0.25
    assert found["zero"]["sampled"] > found["base"]["sampled"]
    assert found["dev2"]["sampled"] > found["dev1"]["sampled"]
    assert found["final"]["format"] >= 0.97
    for stage in ("zero", "dev2"):
        metrics = world[0].checkpoint(f"nano/{stage}").metrics
        assert metrics["reward_last"] > metrics["reward_first"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dev1", "dev3", "distilled"])
def test_every_text_that_was_learned_was_written_by_a_reinforced_model(world: tuple[Warehouse, Path, str],
                                                                       stage: str) -> None:
    """Every assistant text descends from a sample by zero or dev2, or from the non-reasoning source."""
    warehouse = world[0]
    trained = warehouse.manifest(f"nano/{stage}")
    (chosen,) = [item.ref for item in trained.inputs if item.role == "from"]
    rows = warehouse.dataset(chosen).scan().select("row_id", "prompt", "response").collect()
    assert rows.height > 100
    writers = {}
    for row_id, response in rows.select("row_id", "response").iter_rows():
        owner = warehouse.owner_of(row_id)
        assert owner is not None
        made = warehouse.manifest(owner["dataset"])
        stored = warehouse.dataset(made.ref).table("rows").filter(pl.col("row_id") == row_id)
        if owner["dataset"] not in writers:  # the text lies in the rows that the writer left, and nowhere else
            assert stored.select("response").collect().item() == response
        writers.setdefault(owner["dataset"], made.facts["by_checkpoint"] or made.op)
    allowed = {"nano/cold_samples": "nano/zero@1", "nano/samples": "nano/dev2@1", "nano/short": "source.files"}
    assert writers.items() <= allowed.items()
    assert set(writers) == ({"nano/cold_samples"} if stage == "dev1" else {"nano/samples", "nano/short"})
    held_out = set(warehouse.dataset("nano/held_out").scan().collect()["prompt"])
    assert not held_out & set(rows["prompt"])


@pytest.mark.slow
def test_the_mix_is_three_to_one(world: tuple[Warehouse, Path, str]) -> None:
    warehouse = world[0]
    owners = pl.Series([warehouse.owner_of(row_id)["dataset"]  # type: ignore[index]
                        for row_id in warehouse.dataset("nano/mix").scan().collect()["row_id"]]).value_counts()
    counts = dict(owners.iter_rows())
    assert abs(counts["nano/samples"] - 3 * counts["nano/short"]) <= 3


@pytest.mark.slow
def test_a_published_row_leads_through_its_checkpoint_to_what_trained_it(world: tuple[Warehouse, Path, str]) -> None:
    warehouse, folder, _ = world
    published = pl.read_parquet(folder / "nano" / "data" / "default" / "*.parquet")
    reasoned = published.filter(pl.col("response").str.contains("<think>"))
    hops = trace_up(warehouse, reasoned["row_id"][0])
    assert [hop.dataset.split("@")[0] for hop in hops] == ["nano/samples", "nano/problems"]
    assert hops[0].model == "nano/dev2@1"
    chain = []
    ref: str | None = hops[0].model
    while ref is not None and ref.startswith("nano/"):
        record = warehouse.checkpoint(ref)
        chain.append((record.name, (record.dataset_ref or "").split("@")[0]))
        ref = record.base
    assert chain == [("nano/dev2", "nano/rl_problems"), ("nano/dev1", "nano/cold_start"), ("nano/base", "nano/corpus")]


@pytest.mark.slow
def test_the_same_command_again_has_nothing_to_train(world: tuple[Warehouse, Path, str]) -> None:
    report = factory.run(RECIPE, warehouse=world[0].root, vars={"to": str(world[1] / "nano")})
    assert report.status == "succeeded"
    assert [step.step for step in report.steps if not step.reused and not step.op.startswith("publish.")] == []


@pytest.mark.slow
def test_the_checkpoints_are_ordinary_models(world: tuple[Warehouse, Path, str], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    warehouse = world[0]
    folder = warehouse.checkpoint_folder(warehouse.checkpoint("nano/final"), tmp_path / "final")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 500_000
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "What is 2 + 3 * 4?"}], return_tensors="pt",
                                        add_generation_prompt=True)["input_ids"]
    text = tokenizer.decode(model.generate(ids, max_new_tokens=48, do_sample=False)[0], skip_special_tokens=True)
    assert "<think>" in text
    assert "<answer>" in text
