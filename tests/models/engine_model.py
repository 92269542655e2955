"""A tiny model that vLLM's CPU attention accepts (it wants heads of 32), and ways to look at an engine's processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import psutil

CONTEXT = 256


def make_model(tiny: Path, folder: Path) -> Path:
    """A random Llama with the tokenizer of the `tiny` fixture."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=CONTEXT, initializer_range=0.35,
        tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None)
    transformers.LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


def below(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def gone(processes: Sequence[psutil.Process], seconds: float = 20.0) -> bool:
    """Whether all of them end within a while; one that nobody has buried yet is dead too."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
            return True
        time.sleep(0.1)
    return False
