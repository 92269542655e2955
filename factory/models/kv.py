"""The keys and values of a running batch: attention layers that grow with room to spare, lose rows, and join.

transformers' own dynamic layer copies all it holds at every token; the copying is a quarter of the time at a hundred
tokens (measured on two CPU cores) and most of it at a thousand. Here a layer writes into a buffer with spare columns.
Rows are padded on the left, so two batches join by aligning their right edges; positions are given to the model
explicitly and do not depend on columns.

Models with other layers (sliding windows, state spaces) keep transformers' layers: their batches lose rows but never
join. This module imports torch and transformers, and is itself imported only when a model is opened.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

_SPARE = 64


class RoomyLayer(DynamicLayer):  # type: ignore[misc,no-untyped-call,unused-ignore]
    """A full-attention layer over a buffer [row, head, column, channel] with spare columns."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any,
               **_kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns and return all of them (transformers calls this once per forward pass)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._room is None or end > self._room[0].shape[-2]:
            self._room = (_widen(self.keys, key_states, start, end), _widen(self.values, value_states, start, end))
        self._room[0][:, :, start:end] = key_states
        self._room[1][:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def keep(self, rows: torch.Tensor, first: int) -> None:
        """Keep these rows, and the columns from `first` on."""
        self._set(self.keys[rows, :, first:], self.values[rows, :, first:])

    def join(self, other: RoomyLayer) -> None:
        """Append the rows of another layer, right edges aligned."""
        self._set(_stack(self.keys, other.keys), _stack(self.values, other.values))

    def _set(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._room = (keys, values)
        self._show(keys.shape[-2])

    def _show(self, end: int) -> None:
        assert self._room is not None
        self.keys, self.values = self._room[0][:, :, :end], self._room[1][:, :, :end]


def _widen(held: torch.Tensor, new: torch.Tensor, start: int, end: int) -> torch.Tensor:
    rows, heads, _, width = new.shape
    room = new.new_empty((rows, heads, end + max(_SPARE, end // 4), width))
    if start:
        room[:, :, :start] = held
    return room


def _stack(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    columns = max(first.shape[-2], second.shape[-2])
    shape = (first.shape[0] + second.shape[0], first.shape[1], columns, first.shape[3])
    both = first.new_zeros(shape)
    both[: first.shape[0], :, columns - first.shape[-2]:] = first
    both[first.shape[0]:, :, columns - second.shape[-2]:] = second
    return both


class BatchCache:
    """All layers of a running batch. Pass `layers` to the model as `past_key_values`."""

    def __init__(self, config: Any):
        self.layers: Any = DynamicCache(config=config)
        self.layers.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in self.layers.layers]
        self.joins = all(isinstance(layer, RoomyLayer) for layer in self.layers.layers)

    def keep(self, rows: torch.Tensor, first: int) -> None:
        """Keep these rows, and (where layers can) the columns from `first` on."""
        for layer in self.layers.layers:
            if isinstance(layer, RoomyLayer):
                layer.keep(rows, first if self.joins else 0)
            else:
                layer.reorder_cache(rows)

    def join(self, other: BatchCache) -> None:
        """Append another batch's rows; both must say `joins`."""
        for mine, theirs in zip(self.layers.layers, other.layers.layers, strict=True):
            mine.join(theirs)
