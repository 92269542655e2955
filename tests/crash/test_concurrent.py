"""Several runs on one warehouse at once share the work and agree on one result; a reader never sees half of one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash_world import RECIPE, World, assert_readable, assert_whole


@pytest.mark.parametrize("runs", [2, 4])
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_one_recipe_run_at_once(tmp_path: Path, executor: str, runs: int) -> None:
    world = World(tmp_path, count=60)
    drivers = [world.start(executor=executor) for _ in range(runs)]
    for code, report in [world.end(driver) for driver in drivers]:
        assert (code, report["status"]) == (0, "succeeded"), report
    assert Counter(world.requests()).most_common(1)[0][1] == 1
    assert len(world.requests()) == 180
    assert len(world.hashes()) == 8  # one version each
    assert_whole(world)


def test_two_recipes_share_steps(tmp_path: Path) -> None:
    world = World(tmp_path, count=60)
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.format(name="other", keep=1))
    drivers = [world.start(), world.start(other, to=str(tmp_path / "other"))]
    for code, report in [world.end(driver) for driver in drivers]:
        assert (code, report["status"]) == (0, "succeeded"), report
    assert len(world.requests()) == len(set(world.requests())) == 180
    manifests = {found["dataset"]: found for found in world.manifests()}
    assert len(manifests) == len(world.manifests()) == 16
    for step in ("problems", "samples", "correct", "twins"):
        assert manifests[f"crash/{step}"]["tables"] == manifests[f"other/{step}"]["tables"]
    assert manifests["crash/chosen"]["fingerprint"] != manifests["other/chosen"]["fingerprint"]


def test_reading_while_writing(tmp_path: Path) -> None:
    world = World(tmp_path, count=60)
    driver = world.start()
    seen = 0
    while driver.poll() is None:
        if (world.root / "warehouse.json").exists():
            assert_readable(world.root)
            assert_whole(world)
            seen += 1
    code, report = world.end(driver)
    assert (code, report["status"]) == (0, "succeeded"), report
    assert seen
    assert_readable(world.root)
