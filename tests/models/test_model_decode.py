"""Running batches over models with other attention: rows leave (and where possible join) without changing an answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from factory.models.base import Request, Sampling
from factory.models.decode import Batch, Row

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("transformers", reason="the extra `train` is not installed")

SHAPE = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "LlamaConfig": {},
    "MistralConfig": {"sliding_window": 8},
    "Gemma3TextConfig": {"sliding_window": 8, "head_dim": 8,
                         "layer_types": ["sliding_attention", "full_attention"] * 2},
}


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def write_all(model: Any, size: int, threads: ThreadPoolExecutor) -> tuple[dict[str, list[int]], bool]:
    """Seven prompts of growing length with 3 to 22 tokens each; also whether rows ever joined a running batch."""
    batch = Batch(model, lambda row: "length" if len(row.new) >= row.room else None, threads)
    waiting = [Row(Request(str(index), index, Sampling(1.0)), list(range(3, 5 + index * 2)), 3 + index * 5 % 20)
               for index in range(7)]
    written: dict[str, list[int]] = {}
    joined = False
    while waiting or batch.rows:
        if waiting and batch.open and 2 * len(batch.rows) <= size:
            joined |= bool(batch.rows)
            room = size - len(batch.rows)
            written.update((row.request.key, row.new) for row in batch.add(waiting[:room]))
            waiting = waiting[room:]
        if batch.rows:
            written.update((row.request.key, row.new) for row in batch.step())
    return written, joined


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_write_the_same_alone_and_in_a_changing_batch(name: str, threads: ThreadPoolExecutor) -> None:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, name)(**SHAPE, **ARCHITECTURES[name])
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    alone, _ = write_all(model, 1, threads)
    together, joined = write_all(model, 4, threads)
    assert together == alone
    assert {key: len(new) for key, new in alone.items()} == {str(index): 3 + index * 5 % 20 for index in range(7)}
    assert joined == (name == "LlamaConfig")


def test_logits_that_are_not_numbers_end_their_row_alone(threads: ThreadPoolExecutor) -> None:
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SHAPE)).double().eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = float("nan")
    batch = Batch(model, lambda row: "length" if len(row.new) >= row.room else None, threads)
    rows = [Row(Request(str(token), 0, Sampling()), [token], 1) for token in (6, 7, 8)]
    ends = {row.request.key: row.finish for row in batch.add(rows)}
    assert ends == {"6": "length", "7": "error", "8": "length"}
    assert batch.rows == []
