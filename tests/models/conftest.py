"""A real but tiny Llama with random weights and a byte-level tokenizer, saved as a model folder once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.models.base import Backend, Request, Sampling
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve

CHAT = ("{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
CONTEXT = 96


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model. `<think>` is declared special on purpose, as some published tokenizers do."""
    torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `train` is not installed")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny-llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ("<|end|>", "<|user|>", "<|assistant|>", "<think>")
    raw.add_special_tokens([AddedToken(text, special=True) for text in special])
    raw.add_tokens([AddedToken("</think>", special=False)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.35, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None)
    transformers.LlamaForCausalLM(config).double().save_pretrained(folder)
    return folder


@pytest.fixture
def open_tiny(tiny: Path) -> Iterator[Callable[..., Any]]:
    """Opens the tiny model in float64, where rounding is far below any tie: `open_tiny(batch=3)`."""
    opened: list[Backend] = []

    def opener(chat_template: str | None = None, **runtime: Any) -> Any:
        model = resolve(ModelSpec(path=str(tiny), chat_template=chat_template), Path("/"))
        opened.append(open_backend(model, ModelRuntime(**{"dtype": "float64", "device": "cpu", **runtime})))
        return opened[-1]

    yield opener
    for backend in opened:
        backend.close()


@pytest.fixture
def ask() -> Callable[..., Request]:
    """A plain-prompt request: `ask("text", seed=3, max_tokens=5)`."""

    def make(prompt: str, *, key: str | None = None, seed: int = 0, prefill: str = "", **sampling: Any) -> Request:
        return Request(key or f"{prompt}/{seed}", seed, Sampling(**sampling), prompt=prompt, prefill=prefill)

    return make
