"""Loading what a trainer starts from: an existing model, or random weights for an architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.models.spec import pretrained
from factory.training.settings import ModelFiles

TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)


def load_model(files: ModelFiles, device: str) -> tuple[Any, Any, Any]:
    """(model in float32, tokenizer, the dtype in which the model was stored). The tokenizer has a padding token, pads
    on the left, and decodes the reasoning tags.

    Raises:
        ValueError: the tokenizer has no end token, or declares a reasoning tag special: trainers decode without special
            tokens, and every reward would see text without its tags.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

    if files.kind == "config":
        set_seed(files.init_seed)
        settings = json.loads(Path(files.location).read_text(encoding="utf-8"))
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        stored = torch.float32
        tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
    else:
        source, options = pretrained(files.kind, files.location, files.revision)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        stored = AutoConfig.from_pretrained(source, **options).dtype or torch.float32
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
    if files.chat_template is not None:
        tokenizer.chat_template = files.chat_template
    _check_tokenizer(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = _ends(model, tokenizer)
    return model.to(device), tokenizer, stored


def give_reference(model: Any, folder: Path) -> None:
    """Lay the starting weights out in a folder and let the model's name be that folder: TRL loads its reference model
    by name, and a hub name would be today's main branch, a GGUF's or a config's nothing at all."""
    model.save_pretrained(folder)
    model.config._name_or_path = model.name_or_path = str(folder)


def _ends(model: Any, tokenizer: Any) -> list[int]:
    known = model.generation_config.eos_token_id
    listed = [] if known is None else known if isinstance(known, list) else [known]
    return list(dict.fromkeys([tokenizer.eos_token_id, *listed]))


def _check_tokenizer(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, so no answer could be learned to end: set its eos_token")
    special = [tag for tag in TAGS if tag in tokenizer.all_special_tokens]
    if special:
        raise ValueError(f"the tokenizer declares {special[0]} special; rewards and loss would not see it: declare the "
                         "reasoning tags as ordinary added tokens (special: false)")
