"""What versions cost, in words: the view `costs` of a warehouse as the commands tell it.

A version's own cost is that of all its increments; with everything above it, it is what its rows cost. Amounts are told
only where a price was named for a model (`runtime.price`), and never added over currencies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from factory.engine.told import money

if TYPE_CHECKING:
    from warehouse import Warehouse
    from warehouse.records import Manifest, StepReport

Costs = dict[str, Any]
_COLUMNS = ("seconds", "tokens_in", "tokens_out", "answers_requested", "answers_reused", "cost", "currency",
            "total_seconds", "total_tokens_in", "total_tokens_out", "total_cost", "total_currency", "cost_per_row",
            "tokens_per_row")


def costs_of(warehouse: Warehouse, ref: str) -> Costs:
    """A version's line of `costs`; empty for a version that is not listed there (a deleted one)."""
    found = warehouse.sql(f"SELECT {', '.join(_COLUMNS)} FROM costs WHERE ref = ?", [ref]).to_dicts()
    return found[0] if found else {}


def cost_fields(costs: Costs) -> list[tuple[str, str]]:
    """What `factory show` says of answers and costs, by name."""
    if not costs.get("total_tokens_out"):
        return []
    asked = [f"{costs['answers_requested']:,} asked", f"{costs['answers_reused']:,} reused",
             f"{costs['tokens_in']:,} tokens read", f"{costs['tokens_out']:,} written"]
    each = f", {costs['tokens_per_row']:,} for each row" if costs["tokens_per_row"] is not None else ""
    return [("answers", ", ".join(asked) if costs["answers_requested"] or costs["answers_reused"] else ""),
            ("tokens", f"{costs['total_tokens_out']:,} written for it and what it was made from{each}"),
            ("cost", _amounts(costs))]


def _amounts(costs: Costs) -> str:
    """`$1.20 of its own; $3.40 with what it was made from, $0.0085 for each row`."""
    if costs["total_cost"] is None:
        return f"in several currencies: {costs['total_currency']}" if costs["total_currency"] else ""
    own = money(costs["cost"], costs["currency"]) + " of its own; " if costs["cost"] is not None else ""
    each = "" if costs["cost_per_row"] is None else f", {money(costs['cost_per_row'], costs['total_currency'])} a row"
    return f"{own}{money(costs['total_cost'], costs['total_currency'])} with what it was made from{each}"


def cost_column(warehouse: Warehouse, manifests: Iterable[Manifest]) -> dict[str, str]:
    """The own cost of each version that has one, by ref; asks nothing where no model had a price."""
    if not any(manifest.facts.get("currency") for manifest in manifests):
        return {}
    found = warehouse.sql("SELECT ref, cost, currency FROM costs WHERE cost IS NOT NULL")
    return {ref: money(cost, currency) for ref, cost, currency in found.iter_rows()}


def spent(steps: Iterable[StepReport]) -> str:
    """What the answers of a run cost, one amount for each currency; empty where no model had a price."""
    total: dict[str, float] = {}
    for step in steps:
        currency = step.facts.get("currency")
        if currency and not step.reused:
            total[currency] = total.get(currency, 0.0) + step.usage.cost
    return " and ".join(money(amount, currency) for currency, amount in total.items())


def cost_per_row(warehouse: Warehouse, ref: str) -> str:
    """`pico/reasoning@1: $0.0085 a row, 58.9 tokens written for each`; empty where no model had a price."""
    costs = costs_of(warehouse, ref)
    if costs.get("cost_per_row") is None:
        return ""
    return (f"{ref}: {money(costs['cost_per_row'], costs['total_currency'])} a row, {costs['tokens_per_row']:,} tokens "
            "written for each, with everything it was made from")
