"""The dataset card: what the data is and how it was made, from the manifest of the version
and the funnel that led to it."""

from __future__ import annotations

from typing import Any

import polars as pl

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"))


def _size_category(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def write_card(frame: pl.DataFrame, config: str, source: str, facts: dict[str, Any]) -> str:
    """The text of README.md: YAML front matter, then prose a stranger can check.

    Args:
        frame: the published rows.
        config: the Hub configuration name.
        source: the dataset ref that was published.
        facts: `recipe`, `license` (of sources and teachers), `funnel` [{step, owed, kept, rejected, failed, reasons}],
            `models` (names), `content_hash`.
    """
    licenses = sorted(set(facts.get("license") or []))
    front = ["---", f"license: {licenses[0] if len(licenses) == 1 else 'other'}", f"pretty_name: {facts['recipe']}",
             f"size_categories: [\"{_size_category(frame.height)}\"]", "task_categories: [text-generation]",
             "annotations_creators: [machine-generated]", "tags: [synthetic, reasoning, dataset-factory]",
             "configs:", f"- config_name: {config}", "  default: true", "  data_files:", "  - split: train",
             f"    path: data/{config}/train-*.parquet", "---", ""]
    body = [f"# {facts['recipe']}", "", f"{frame.height} rows of `{source}`, made by the recipe in `recipe.yaml`.",
            f"Written by {', '.join(facts.get('models') or ['no model'])}. "
            f"Licenses of sources and models: {', '.join(licenses) or 'not declared'}.", "",
            "| step | in | kept | rejected | failed | reasons |", "|---|---|---|---|---|---|"]
    for row in facts.get("funnel") or []:
        reasons = ", ".join(f"{name} {count}" for name, count in list(row["reasons"].items())[:6])
        body.append(f"| {row['step']} | {row['owed']} | {row['kept']} | {row['rejected']} | {row['failed']} "
                    f"| {reasons} |")
    body += ["", f"Columns: {', '.join(frame.columns)}. `row_id` identifies a row in the warehouse it came from.",
             f"Content hash of the version: `{facts['content_hash']}`.", "",
             "```python", "from datasets import load_dataset",
             'rows = load_dataset("path/to/this/folder", split="train")', "```", ""]
    return "\n".join([*front, *body])
