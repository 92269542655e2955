"""kill -9 in every window of the commit protocol.

The store names the moments at which a death could hurt (`faults.point`). A process is killed there; then nothing is
damaged or half-written, what was finished is there, and the same command again ends where an undisturbed one ends. Two
commands: a recipe through the `factory` command, for the first time and once more with more samples; and a program
that commits, tags, deletes, restores and collects.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from store_world import (
    KILLED,
    POINTS,
    assert_sound,
    child,
    ended,
    passed,
    plain_duckdb,
    records_on_disk,
    run_recipe,
    run_store,
    state_of,
)

from warehouse import Warehouse, layout


@dataclass
class Workload:
    """A command that is started in a folder which `before` prepares, and how an undisturbed one went."""

    work: Callable[..., None]
    args: tuple[Any, ...]
    home: Path
    before: Callable[[Path], None] = lambda folder: None

    def fresh(self, folder: Path) -> Path:
        """A folder to start in."""
        folder.mkdir(parents=True)
        self.before(folder)
        return folder

    @cached_property
    def _undisturbed(self) -> tuple[Counter[str], dict[str, Any]]:
        folder = self.fresh(self.home / "undisturbed")
        counts = passed(self.work, folder, *self.args, points=self.home / "points.txt")
        return counts, state_of(folder / "warehouse")

    @property
    def passes(self) -> Counter[str]:
        """How often it passes each point."""
        return self._undisturbed[0]

    @property
    def result(self) -> dict[str, Any]:
        """What it leaves."""
        return self._undisturbed[1]

    def kill_at(self, folder: Path, point: str, nth: int) -> None:
        """Kill it there; check what it left, finish, and check that too."""
        self.fresh(folder)
        root = folder / "warehouse"
        assert ended(child(self.work, folder, *self.args, kill=f"{point}:{nth}")) == KILLED
        left = records_on_disk(root)
        assert_sound(root)
        _assert_done(folder)
        assert ended(child(self.work, folder, *self.args)) == 0
        assert left.items() <= records_on_disk(root).items()
        assert state_of(root) == self.result
        assert_sound(root)
        told = {ref: deleted for ref, (deleted, _) in plain_duckdb(root).items()}
        assert told == {ref: deleted for ref, (_, deleted) in self.result["versions"].items()}


def _assert_done(folder: Path) -> None:
    """What a killed program had noted as finished holds."""
    notes = folder / "done.txt"
    lines = notes.read_text().splitlines() if notes.exists() else []
    opened = Warehouse(folder / "warehouse") if lines else None
    for line in lines:
        assert opened is not None
        if line.startswith("no "):
            assert not opened.versions(line.removeprefix("no ").split("@")[0])
        elif line.startswith("checkpoint "):
            assert opened.checkpoint(line.removeprefix("checkpoint "))
        elif "@" in line and not line.startswith(("gone", "b@")):
            assert opened.manifest(line)


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workload]:
    """The commands that are killed."""
    home = tmp_path_factory.mktemp("undisturbed")

    def after_a_run(folder: Path) -> None:
        before = home / "before"
        if not before.exists():
            before.mkdir()
            assert ended(child(run_recipe, before)) == 0
        shutil.copytree(before, folder, dirs_exist_ok=True)

    for name in ("first", "again", "store"):
        (home / name).mkdir()
    return {"first": Workload(run_recipe, (), home / "first"),
            "again": Workload(run_recipe, (3,), home / "again", after_a_run),
            "store": Workload(run_store, (), home / "store")}


def test_every_moment_comes_about(workloads: dict[str, Workload]) -> None:
    """A point that no command here passes would never be tested."""
    seen = Counter[str]()
    for workload in workloads.values():
        seen += workload.passes
    assert sorted(seen) == POINTS


def _some(count: int, at: int) -> int:
    """One of `count` positions, another one for each `at`."""
    return 1 + (count * (2 * at + 1) // 7) % count


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_costs_nothing(tmp_path: Path, workloads: dict[str, Workload], point: str) -> None:
    """Once at each moment, in one of the commands that have it."""
    names = [name for name, workload in workloads.items() if workload.passes[point]]
    at = POINTS.index(point)
    chosen = workloads[names[at % len(names)]]
    chosen.kill_at(tmp_path / "w", point, _some(chosen.passes[point], at))


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["first", "again", "store"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_costs_nothing_anywhere(tmp_path: Path, workloads: dict[str, Workload], point: str, name: str) -> None:
    """Every time that each command passes each moment."""
    for nth in range(1, workloads[name].passes[point] + 1):
        workloads[name].kill_at(tmp_path / str(nth), point, nth)
        shutil.rmtree(tmp_path / str(nth))


def test_a_torn_catalog_is_made_again(tmp_path: Path, workloads: dict[str, Workload]) -> None:
    """Whatever is lost or torn in `catalog/` comes back from the records with the next question."""
    folder = workloads["store"].fresh(tmp_path / "w")
    root = folder / "warehouse"
    assert ended(child(run_store, folder)) == 0
    for name in ("state.json", "views.sql", "datasets", "row_ids"):
        for torn in (0.5, 0.0, None) if name != "views.sql" else (0.0, None):
            path = _named(root, name)
            whole = path.read_bytes()
            path.unlink()
            if torn is not None:
                path.write_bytes(whole[: int(len(whole) * torn)])
            Warehouse(root).sql("SELECT count(*) FROM datasets")
            assert_sound(root)
            assert plain_duckdb(root).keys() == workloads["store"].result["versions"].keys()
    shutil.rmtree(root / layout.CATALOG)
    assert_sound(root)
    assert state_of(root) == workloads["store"].result


def _named(root: Path, name: str) -> Path:
    """A file of the catalog: by its name, or a segment of that table that is in use."""
    if "." in name:
        return root / layout.CATALOG / name
    segments = json.loads((root / layout.CATALOG / "state.json").read_text())["segments"]
    return root / str(segments[name][0]["file"])
