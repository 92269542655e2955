"""OpenLineage events of real warehouses: valid by the specification, and true to what is stored."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import factory.api
from warehouse import NotInWarehouse, Warehouse
from warehouse.export.openlineage import events

pytest.importorskip("openlineage.client", reason="openlineage-python (extra `dev`) is not installed")
from openlineage_schema import validator

ROOT = Path(__file__).parents[2]
ENDS = {"COMPLETE", "FAIL", "ABORT"}
FAILING = """
recipe: failing
models: {recorded: {replay: {answers: answers.jsonl}}}
steps:
  problems: {op: source.files, params: {paths: [problems.jsonl]}}
  samples: {op: generate.sample, from: problems, model: recorded, params: {n: 1}}
  form: {op: verify.format, from: samples, params: {form: r1_zero}}
"""
Event = dict[str, Any]


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: the whole recipe, one more answer to each problem, and a recipe that fails at its second step."""
    folder = tmp_path_factory.mktemp("pico")
    root = folder / "warehouse"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for n in (4, 5):
            done = factory.api.run(ROOT / "recipes/pico.yaml", warehouse=root, vars={"count": 15, "n": n},
                                   executor="inline")
            assert done.status == "succeeded"
        (folder / "failing.yaml").write_text(FAILING)
        (folder / "problems.jsonl").write_text('{"prompt": "What is 1 + 1?", "answer": "2"}\n')
        (folder / "answers.jsonl").write_text("")
        assert factory.api.run(folder / "failing.yaml", warehouse=root, executor="inline").status == "failed"
    return root


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small loop: a checkpoint writes rows, they train another, a gate judges it."""
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    folder = tmp_path_factory.mktemp("loop")
    write = "import json, pathlib, tiny_loop as t\nhere = pathlib.Path.cwd()\n" \
            "(here / 'loop.yaml').write_text(json.dumps(t.recipe(here)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/cli")])}
    for command in (["-c", write], ["-m", "factory.cli", "run", "loop.yaml", "--executor", "inline", "--quiet"]):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True,
                       timeout=300)
    return folder / "warehouse-data"


def told(root: Path, **options: Any) -> list[Event]:
    found = list(events(Warehouse(root), **options))
    assert [json.loads(json.dumps(event)) for event in found] == found
    return found


def ends(found: list[Event]) -> dict[str, Event]:
    """The last event of each run, by job and run."""
    return {f"{event['job']['name']} {event['run']['runId']}": event for event in found if event["eventType"] in ENDS}


def versions(event: Event, side: str) -> list[str]:
    return [item["facets"]["version"]["datasetVersion"] for item in event[side]]


def faults(found: list[Event]) -> list[str]:
    check = validator()
    return [f"{event['job']['name']}: {list(error.absolute_path)}: {error.message}"
            for event in found for error in check.iter_errors(event)]


def test_every_event_is_valid(pico: Path) -> None:
    assert faults(told(pico)) == []


def test_the_schema_refuses_what_is_not_openlineage(pico: Path) -> None:
    whole = next(event for event in told(pico) if event["outputs"])

    def broken(change: Any) -> list[str]:
        event = copy.deepcopy(whole)
        change(event)
        return faults([event])

    assert faults([whole]) == []
    assert broken(lambda e: e["run"].update(runId="run-1"))
    assert broken(lambda e: e.update(eventTime="2026-01-01"))
    assert broken(lambda e: e.update(eventType="DONE"))
    assert broken(lambda e: e.pop("schemaURL"))
    assert broken(lambda e: e["outputs"][0].pop("namespace"))
    assert broken(lambda e: e["outputs"][0]["facets"]["version"].pop("datasetVersion"))
    assert broken(lambda e: e["outputs"][0]["facets"]["version"].pop("_producer"))
    assert broken(lambda e: e["outputs"][0]["facets"]["version"].update(_schemaURL="https://openlineage.io"))
    assert broken(lambda e: e["outputs"][0]["outputFacets"]["outputStatistics"].update(rowCount="12"))
    assert broken(lambda e: e["run"]["facets"]["datasetFactory_counts"].update(kept=-1))
    assert broken(lambda e: e["run"]["facets"]["datasetFactory_counts"].pop("reasons"))
    assert broken(lambda e: e["outputs"][0]["facets"].update(made_up={}))


def test_a_run_starts_once_and_ends_once_and_time_does_not_go_back(pico: Path) -> None:
    found = told(pico)
    kinds: dict[str, list[str]] = {}
    for event in found:
        kinds.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert {tuple(seen) for seen in kinds.values()} == {("START", "COMPLETE"), ("START", "FAIL")}
    starts = [event for event in found if event["eventType"] == "START" and "parent" not in event["run"]["facets"]]
    assert [event["job"]["name"] for event in starts] == ["pico", "pico", "failing"]
    for start in starts:
        run_id = start["run"]["runId"]
        times = [event["eventTime"] for event in found if run_id in (
            event["run"]["runId"], event["run"]["facets"].get("parent", {}).get("run", {}).get("runId"))]
        assert times == sorted(times)
        assert len(times) >= 4


def test_steps_tell_what_manifests_say(pico: Path) -> None:
    warehouse = Warehouse(pico)
    seen = {}
    for event in ends(told(pico)).values():
        for output in event["outputs"]:
            made = warehouse.manifest(output["facets"]["version"]["datasetVersion"])
            counts = event["run"]["facets"]["datasetFactory_counts"]
            assert {name: counts[name] for name in ("owed", "kept", "rejected", "failed", "reasons")} == \
                made.counts.model_dump()
            assert output["outputFacets"]["outputStatistics"]["rowCount"] == made.row_count
            assert versions(event, "inputs") == [item.ref for item in made.inputs]
            assert event["job"]["name"] == f"{made.recipe}/{made.step}"
            seen[made.ref] = event
    assert sorted(seen) == sorted(made.ref for made in warehouse.manifests())
    assert seen["pico/reasoning@1"]["run"]["facets"]["datasetFactory_counts"]["reasons"]
    assert [item["inputFacets"]["datasetFactory_input"]["roles"]
            for item in seen["pico/reasoning@1"]["inputs"]][:2] == [["from"], ["where"]]
    assert seen["pico/samples@2"]["outputs"][0]["facets"]["datasetFactory_version"]["extends"] == "pico/samples@1"


def test_a_version_has_one_maker_and_the_graph_no_gap(pico: Path) -> None:
    makers: Counter[str] = Counter()
    for event in told(pico):
        assert set(versions(event, "inputs")) <= set(makers)
        if event["eventType"] == "COMPLETE":
            makers.update(versions(event, "outputs"))
    assert set(makers.values()) == {1}


def test_what_was_there_is_told_as_reused(pico: Path) -> None:
    found = told(pico)
    second = [event for event in found if event["job"]["name"] == "pico" and event["eventType"] == "COMPLETE"][1]
    reused = second["run"]["facets"]["datasetFactory_run"]["reused"]
    maker = next(event for event in found if "pico/problems@1" in versions(event, "outputs"))
    assert reused == [{"step": "problems", "datasetVersion": "pico/problems@1", "producedBy": maker["run"]["runId"]}]
    assert [event["job"]["name"] for event in found].count("pico/problems") == 2
    assert not [event for event in found if event["job"]["name"] == "pico" and (event["inputs"] or event["outputs"])]


def test_columns_that_are_told_identical_are(pico: Path) -> None:
    warehouse = Warehouse(pico)
    checked = set()
    for event in ends(told(pico)).values():
        for output in event["outputs"]:
            fields = output["facets"].get("columnLineage", {}).get("fields", {})
            ref = output["facets"]["version"]["datasetVersion"]
            rows = warehouse.dataset(ref).scan().collect() if fields else pl.DataFrame()
            for name, field in fields.items():
                (source,) = field["inputFields"]
                (origin,) = [v for v in versions(event, "inputs") if v.rpartition("@")[0] == source["name"]]
                key = "parent_row_id" if warehouse.dataset(ref).kind == "rows" else "row_id"
                theirs = warehouse.dataset(origin).scan().select(
                    pl.col("row_id").alias(key), pl.col(source["field"]).alias("theirs")).collect()
                joined = rows.join(theirs, on=key, how="left")
                assert joined[name].to_list() == joined["theirs"].to_list(), (ref, name)
                checked.add((ref.split("@")[0].split("/")[1], name))
            schema = {column["name"] for column in output["facets"].get("schema", {}).get("fields", [])}
            if fields:
                assert schema == set(rows.columns)
    assert {("samples", "prompt"), ("samples", "parent_row_id"), ("reasoning", "response"), ("reasoning", "prompt"),
            ("correct", "row_id")} <= checked
    assert ("samples", "response") not in checked


def test_a_failed_step_fails_and_what_it_blocked_never_began(pico: Path) -> None:
    found = [event for event in told(pico) if event["job"]["name"].split("/")[0] == "failing"]
    assert [(event["job"]["name"], event["eventType"]) for event in found] == [
        ("failing", "START"), ("failing/problems", "START"), ("failing/problems", "COMPLETE"),
        ("failing/samples", "START"), ("failing/samples", "FAIL"), ("failing", "FAIL")]
    assert "samples" in found[4]["run"]["facets"]["errorMessage"]["message"]
    assert found[4]["outputs"] == []
    assert found[5]["run"]["facets"]["errorMessage"]["message"]
    assert found[5]["run"]["facets"]["datasetFactory_run"]["notStarted"] == ["form"]


def test_one_run_can_be_asked_for(pico: Path) -> None:
    warehouse = Warehouse(pico)
    everything = told(pico)
    parts = [told(pico, run=start.run_id)
             for start, _, _ in sorted(warehouse.runs(), key=lambda found: found[0].started_at)]
    assert [event for part in parts for event in part] == everything
    with pytest.raises(NotInWarehouse, match="nobody"):
        events(warehouse, run="nobody")


def test_a_copy_tells_the_same_and_a_namespace_can_be_given(pico: Path, tmp_path: Path) -> None:
    shutil.copytree(pico, tmp_path / "copy")
    assert told(tmp_path / "copy") == told(pico)
    named = told(pico, namespace="prod")
    assert faults(named) == []
    assert {item["namespace"] for event in named for item in [event["job"], *event["inputs"], *event["outputs"]]} == {
        "prod"}
    assert [event["run"]["runId"] for event in named] == [event["run"]["runId"] for event in told(pico)]


def test_a_run_that_never_ended_tells_what_it_committed(pico: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pico, tmp_path / "lost")
    whole = told(pico)
    run_id = Warehouse(pico).manifest("pico/samples@1").run_id
    (root / "runs" / run_id / "end.json").unlink()
    found = told(root, run=run_id)
    assert faults(found) == []
    own = [event for event in found if event["job"]["name"] == "pico"]
    assert [event["eventType"] for event in own] == ["START", "RUNNING"]
    assert own[1]["run"]["facets"]["datasetFactory_run"]["status"] is None
    made = [version for event in found for version in versions(event, "outputs")]
    assert sorted(made) == sorted(version for event in whole for version in versions(event, "outputs")
                                  if version.endswith("@1") and version.startswith("pico/"))
    times = [event["eventTime"] for event in found]
    assert times == sorted(times)


def test_versions_of_an_unrecorded_run_are_told(pico: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pico, tmp_path / "w")
    run_id = Warehouse(pico).manifest("pico/samples@1").run_id
    shutil.rmtree(root / "runs" / run_id)
    found = told(root)
    assert faults(found) == []
    orphans = [event for event in found if "parent" not in event["run"]["facets"] and "/" in event["job"]["name"]]
    assert {event["job"]["name"] for event in orphans} >= {"pico/problems", "pico/samples"}
    assert sorted(v for event in found for v in versions(event, "outputs")) == sorted(
        v for event in told(pico) for v in versions(event, "outputs"))


def test_a_clock_that_jumped_back_turns_no_event_round(pico: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pico, tmp_path / "w")
    for path in root.glob("datasets/pico/form/v*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "created_at": "1999-01-01T00:00:00+00:00"}))
    found = told(root)
    assert faults(found) == []
    times = [event["eventTime"] for event in found]
    assert times == sorted(times)


@pytest.mark.slow
def test_the_loop_goes_through_checkpoints(loop: Path) -> None:
    found = told(loop)
    assert faults(found) == []
    ended = {event["job"]["name"]: event for event in ends(found).values()}
    space = ended["loop"]["job"]["namespace"]
    base = ended["loop/base"]["outputs"][0]
    assert (base["namespace"], base["name"]) == (f"{space}/checkpoints", "loop/base")
    assert base["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert base["outputFacets"]["outputStatistics"]["size"] > 0
    read = {(item["namespace"].removeprefix(space), item["name"]): item["inputFacets"]["datasetFactory_input"]["roles"]
            for item in ended["loop/dev"]["inputs"]}
    assert read == {("", "loop/chosen"): ["from"], ("", "loop/more"): ["from"],
                    ("/checkpoints", "loop/base"): ["model"]}
    assert ended["loop/dev"]["run"]["facets"]["datasetFactory_step"]["metrics"]["steps"] == 2.0
    written = ended["loop/written"]
    assert ("/checkpoints", "loop/base") in [(item["namespace"].removeprefix(space), item["name"])
                                             for item in written["inputs"]]
    assert written["outputs"][0]["facets"]["datasetFactory_version"]["writtenBy"] == "loop/base@1"
    gate = ended["loop/gate"]
    assert gate["eventType"] == "COMPLETE"
    assert gate["run"]["facets"]["datasetFactory_step"]["passed"] is True
