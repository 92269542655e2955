"""A running batch of answers: rows enter by a prefill, grow by a token per step, and leave the moment they finish.

The batch is a plain value: no queue, no tokenizer policy, no sampling state beyond each row's own ids. Where the cache
allows it, new rows join a batch that is already running, so a long answer holds up nobody but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.models.base import Request
from factory.models.noise import choose

if TYPE_CHECKING:
    import torch

    from factory.models.kv import BatchCache


@dataclass(slots=True)
class Row:
    """One answer being written. `room` is how many new tokens it may take; `finish` is set when it is done."""

    request: Request
    prompt: list[int]
    room: int
    new: list[int] = field(default_factory=list)
    finish: str | None = None

    @property
    def fed(self) -> int:
        """Position of the newest token in the model's eyes."""
        return len(self.prompt) + len(self.new) - 1


class Batch:
    """Rows that a model advances together. `ended(row)` names the finish reason of a row's newest token, or None."""

    def __init__(self, model: Any, ended: Callable[[Row], str | None], threads: ThreadPoolExecutor):
        self._model, self._ended, self._threads = model, ended, threads
        self.rows: list[Row] = []
        self._cache: BatchCache | None = None
        self._mask: torch.Tensor | None = None

    @property
    def open(self) -> bool:
        """Whether rows may be added now."""
        return not self.rows or (self._cache is not None and self._cache.joins)

    def add(self, rows: Sequence[Row]) -> list[Row]:
        """Read the prompts, write each row's first token; returns rows that this already finished."""
        import torch
        from torch.nn.functional import pad

        from factory.models.kv import BatchCache

        device = self._model.device
        width = max(len(row.prompt) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, width - len(row.prompt):] = torch.tensor(row.prompt)
            mask[index, width - len(row.prompt):] = 1
        mask, cache = mask.to(device), BatchCache(self._model.config)
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
        logits = self._forward(ids.to(device), mask, positions, cache)
        done, left = self._write(rows, logits)
        if not left:
            return done
        mask = mask[left]
        cache.keep(torch.tensor(left, device=device), 0)
        if self.rows:
            assert self._cache is not None
            assert self._mask is not None
            widest = max(width, self._mask.shape[1])
            self._mask = torch.cat([pad(part, (widest - part.shape[1], 0)) for part in (self._mask, mask)])
            self._cache.join(cache)
        else:
            self._mask, self._cache = mask, cache
        self.rows += [rows[index] for index in left]
        return done

    def step(self) -> list[Row]:
        """Write one token in every row; returns the rows that finished and have left."""
        import torch

        assert self._cache is not None
        assert self._mask is not None
        device = self._model.device
        newest = torch.tensor([[row.new[-1]] for row in self.rows], device=device)
        positions = torch.tensor([[row.fed] for row in self.rows], device=device)
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(self.rows), 1))], 1)
        done, left = self._write(self.rows, self._forward(newest, self._mask, positions, self._cache))
        if done and left:
            kept = self._mask[left]
            first = int(kept.any(0).int().argmax()) if self._cache.joins else 0
            self._mask = kept[:, first:]
            self._cache.keep(torch.tensor(left, device=device), first)
        self.rows = [self.rows[index] for index in left]
        return done

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor,
                 cache: BatchCache) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            out = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache.layers,
                              use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _write(self, rows: Sequence[Row], logits: torch.Tensor) -> tuple[list[Row], list[int]]:
        """Append a token to every row; returns those that finished and the indices of the others."""
        done, left = [], []
        for index, (row, token) in enumerate(zip(rows, self._pick(rows, logits), strict=True)):
            if token is None:
                row.finish = "error"
            else:
                row.new.append(token)
                row.finish = self._ended(row)
            if row.finish is None:
                left.append(index)
            else:
                done.append(row)
        return done, left

    def _pick(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int | None]:
        """The next token of each row; None where the logits are not numbers."""
        import torch

        best = logits.max(-1)
        finite = torch.isfinite(best.values).tolist()
        tokens: list[int | None] = [token if good else None
                                    for token, good in zip(best.indices.tolist(), finite, strict=True)]
        warm = [index for index, row in enumerate(rows) if finite[index] and row.request.sampling.temperature > 0]
        if not warm:
            return tokens
        picked = logits[warm]
        values = (picked if picked.dtype == torch.float64 else picked.float()).cpu().numpy()

        def draw(at: int) -> int:
            row = rows[warm[at]]
            return choose(values[at], row.request.sampling, row.request.seed, len(row.new))

        for index, token in zip(warm, self._threads.map(draw, range(len(warm))), strict=True):
            tokens[index] = token
        return tokens
