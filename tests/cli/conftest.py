"""One warehouse that the reading commands share, made by the commands themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shell import RECIPES, Shell, write_odd


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with recipes/pico.yaml (30 problems) and `odd`, both run into warehouse-data. Tests only read it."""
    shell = Shell(tmp_path_factory.mktemp("house"))
    shutil.copy(RECIPES / "pico.yaml", shell.folder)
    write_odd(shell.folder)
    shell("run", "pico.yaml", "--vars", "count=30", "--executor", "inline", "--quiet")
    shell("run", "odd.yaml", "--executor", "inline", "--quiet")
    return shell
