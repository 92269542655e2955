"""From the materialised Parquet file to what TRL reads."""

from __future__ import annotations

import json
from typing import Any

from factory.models.base import Completion, Request, Sampling
from factory.models.rendering import Renderer
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
    """TRL's prompt form with the columns that rewards read; prefills are put behind when prompts are tokenised
    (`Prompts`)."""
    return {name: [row[name] for row in rows] for name in rows[0]}


class Prompts:
    """Prompts as token ids, by the rules of the models that will be asked (`factory.models.rendering`): the same chat
    template, the same prefill behind its opening."""

    def __init__(self, rows: list[dict[str, Any]], tokenizer: Any):
        self._renderer = Renderer(tokenizer, "that is trained")
        self._prefills = {_name(row["prompt"]): row["prefill"] for row in rows}

    def encode(self, prompts: list[str | Messages]) -> list[list[int]]:
        """Token ids of each prompt with its prefill. Raises ValueError for one that cannot be asked."""
        requests = [Request("", 0, Sampling(), prefill=self._prefills[_name(prompt)],
                            **({"prompt": prompt} if isinstance(prompt, str) else {"messages": tuple(prompt)}))
                    for prompt in prompts]
        encoded = self._renderer.encode(requests)
        for found in encoded:
            if isinstance(found, Completion):
                raise ValueError(f"a prompt cannot be asked: {found.error or found.rejected}")
        return [found for found in encoded if not isinstance(found, Completion)]


def _name(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else json.dumps([[turn["role"], turn["content"]] for turn in prompt])


def check_labels(dataset: Any, tokenizer: Any, ends: list[int], responses: set[str]) -> None:
    """What is learned must be the whole response and an end that the model's generation knows.

    A chat template may cut the thinking out of an assistant's turn, or end it with another token than the tokenizer's:
    both would train without a word, and show only in what the model writes.
    """
    known = {" ".join(response.split()) for response in responses}
    changed = []
    checked = dataset.select(range(min(len(dataset), 32)))
    for row in checked:
        learned = [label for label in row["labels"] if label != -100]
        text = tokenizer.decode(learned, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if " ".join(text.split()) not in known:
            changed.append(text)
        if not set(learned[-3:]) & set(ends):
            raise ValueError(f"what is learned ends with {tokenizer.decode(learned[-3:])!r}, which ends no generation: "
                             "the chat template must close an assistant's turn with the tokenizer's end token")
    if 2 * len(changed) > len(checked):  # a single odd text may not survive a tokenizer
        raise ValueError(f"the chat template or tokenizer changes what is learned: no response reads "
                         f"{changed[0][:200]!r}. Give the model a `chat_template` that keeps an assistant's content")


def completion_text(completion: str | Messages) -> str:
    """The text that the model wrote, in either form."""
    return completion if isinstance(completion, str) else completion[0]["content"]
