"""A folder to experiment in: recipes written as Python dictionaries, which use the plugin ops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import factory
from factory.engine.run import RunReport
from warehouse import Dataset, Warehouse


class Lab:
    """A folder with recipes that use the plugin ops, and warehouses to run them in."""

    def __init__(self, folder: Path):
        self.folder = folder

    def recipe(self, steps: dict[str, Any], *, name: str = "lab", **top: Any) -> Path:
        """Write a recipe of these steps."""
        path = self.folder / f"{name}.yaml"
        body = {"recipe": name, "plugins": ["plugin_ops"], "steps": steps, **top}
        path.write_text(json.dumps(body), encoding="utf-8")
        return path

    def run(self, steps: dict[str, Any], executor: str = "inline", *, warehouse: str = "w", workers: int = 2,
            retry_failed: bool = False, **top: Any) -> RunReport:
        """Run a recipe of these steps in a warehouse of the folder."""
        return factory.run(self.recipe(steps, **top), warehouse=self.folder / warehouse, executor=executor,
                           workers=workers, retry_failed=retry_failed)

    def warehouse(self, name: str = "w") -> Warehouse:
        return Warehouse(self.folder / name)

    def dataset(self, step: str, warehouse: str = "w", recipe: str = "lab") -> Dataset:
        """The latest version that a step wrote."""
        return self.warehouse(warehouse).dataset(f"{recipe}/{step}")
