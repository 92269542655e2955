"""What the engine's tests share: both executors, a folder to run recipes in, and rows to run them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labs import Lab


@pytest.fixture(params=["inline", "local"])
def executor(request: pytest.FixtureRequest) -> str:
    """Every test that takes this runs in one process and in workers."""
    name: str = request.param
    return name


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def texts() -> Callable[..., dict[str, Any]]:
    """A source step: `texts("a", "b", splits=2)`."""

    def make(*values: str, splits: int = 1, **columns: list[Any]) -> dict[str, Any]:
        rows = [{"text": text, **{name: column[index] for name, column in columns.items()}}
                for index, text in enumerate(values)]
        return {"op": "test.rows", "params": {"rows": rows, "splits": splits}}

    return make
