"""How many tokens texts have for a tokenizer.

Counted without the tokens that a tokenizer or a chat template puts around a text. A text that holds half of a surrogate
pair has no UTF-8 form; such halves are counted as U+FFFD, which is what every writer of UTF-8 makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH_CHARS = 1 << 20
"""Characters that are encoded at once. A token in flight takes some 100 bytes, so this bounds memory near 50 MB."""


def count_tokens(texts: Sequence[str], tokenizer: Any, batch_chars: int = BATCH_CHARS) -> npt.NDArray[np.int64]:
    """Tokens of each text, in order. `tokenizer` is a fast tokenizer of transformers, or a `tokenizers.Tokenizer`.

    Works in batches of at most `batch_chars` characters (a longer text is a batch of its own), without the GIL while it
    encodes, on as many threads as TOKENIZERS_PARALLELISM allows.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    counts = np.zeros(len(texts), np.int64)
    for start, stop in cut_batches([len(text) for text in texts], batch_chars):
        batch = [to_unicode(text) for text in texts[start:stop]]
        counts[start:stop] = [len(one) for one in backend.encode_batch_fast(batch, add_special_tokens=False)]
    return counts


def cut_batches(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of neighbours that are together no larger than `most`, or one that is larger alone."""
    start, total = 0, 0
    for at, size in enumerate(sizes):
        if at > start and total + size > most:
            yield start, at
            start, total = at, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def to_unicode(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs; the same number of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text
