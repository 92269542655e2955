"""From the materialised Parquet file to what TRL reads."""

from __future__ import annotations

from typing import Any

from factory.training.settings import TrainJob

Messages = list[dict[str, str]]


def read_rows(job: TrainJob) -> list[dict[str, Any]]:
    """The rows of the job's data, in stored order."""
    import polars as pl

    return pl.read_parquet(job.data).to_dicts()


def sft_examples(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """TRL's prompt/completion form: text with text, or messages with one assistant message. The response holds the
    prefill already (generate.sample stores both)."""
    prompts = [row["prompt"] for row in rows]
    completions: list[str | Messages] = [
        row["response"] if isinstance(row["prompt"], str) else [{"role": "assistant", "content": row["response"]}]
        for row in rows]
    return {"prompt": prompts, "completion": completions}


def grpo_examples(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """TRL's prompt form with the columns that rewards read. A prefill ends the prompt: as text, or as an assistant
    message that the chat template leaves open."""
    prompts = [row["prompt"] + row["prefill"] if isinstance(row["prompt"], str) else
               [*row["prompt"], *([{"role": "assistant", "content": row["prefill"]}] if row["prefill"] else [])]
               for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    return {"prompt": prompts, **columns}


def completion_text(completion: str | Messages) -> str:
    """The text that the model wrote, in either form."""
    return completion if isinstance(completion, str) else completion[0]["content"]
