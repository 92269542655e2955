"""dataset-factory: recipes that make reasoning data, with every row accounted for.

    import factory
    plan = factory.plan("recipes/pico.yaml")
    report = factory.run("recipes/pico.yaml", warehouse="warehouse-data")
    rows = factory.Warehouse("warehouse-data").dataset("pico/reasoning").scan().collect()

The verbs are those of the command line. Heavy libraries are imported only by the steps that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.api import apply, plan, preview, run
    from factory.api_verify import doctor, reverify, unjudged, verdicts_diff
    from warehouse import Warehouse

__all__ = ["Warehouse", "apply", "doctor", "plan", "preview", "reverify", "run", "unjudged", "verdicts_diff"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import factory` stays fast."""
    if name == "Warehouse":
        from warehouse import Warehouse

        return Warehouse
    if name in __all__:
        from factory import api, api_verify

        return getattr(api, name, None) or getattr(api_verify, name)
    raise AttributeError(f"module 'factory' has no attribute {name!r}")
