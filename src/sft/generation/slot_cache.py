"""Keys and values of rows that come and go, in buffers that stay.

A slot holds one row. All rows write their next token into the same column, the clock, and a row's tokens end there:
with ``n`` tokens it holds the columns ``clock - n`` to ``clock - 1``. To the model this is a batch padded on the left,
which is what its masks, windows and position numbers are made for. Keys are stored as attention reads them, after their
rotation, so that a row may be moved to other columns without a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, float (slots, heads, columns, head size)."""

    is_compileable = True
    """Here it only says: make a mask at every step, rather than ask the device whether one is needed."""

    def __init__(self, prefilled: Any) -> None:
        """Take sizes, type, device and window from a layer that a model has filled; no slots yet."""
        super().__init__()
        self.window: int | None = prefilled.sliding_window if prefilled.is_sliding else None
        self.is_sliding = self.window is not None
        self.keys = prefilled.keys[:0]
        self.values = prefilled.values[:0]
        self.is_initialized = True
        self.first = 0
        """The first column that is read."""

        self.clock = 0
        """The column that is written next."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the buffers are there."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token of every slot, (slots, heads, 1, head size); give back views of all columns in use."""
        end = self.clock + 1
        self.keys[:, :, self.clock : end] = key_states
        self.values[:, :, self.clock : end] = value_states
        self.clock = end
        first = self.first if self.window is None else max(self.first, end - self.window)
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.clock - self.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many columns ``update`` will give, and how many in use lie before them."""
        in_use = self.get_seq_length() + query_length
        read = in_use if self.window is None else min(in_use, self.window)
        return read, in_use - read

    def get_max_length(self) -> int:
        """No bound: whoever writes makes room."""
        return -1

    def fill(self, slots: Sequence[int], prefilled: Any, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy prompts, whose last columns hold their tokens, to where the clock stands."""
        for slot, row, length in zip(slots, rows, lengths, strict=True):
            kept = min(length, prefilled.keys.shape[2])  # of a window, no more than it sees was kept
            columns = slice(self.clock - kept, self.clock)
            self.keys[slot, :, columns] = prefilled.keys[row, :, -kept:]
            self.values[slot, :, columns] = prefilled.values[row, :, -kept:]

    def lay_out(self, rows: Sequence[int], width: int, *, slots: int, columns: int, clock: int) -> None:
        """Move some slots and their last ``width`` columns to new buffers: to the first slots, before ``clock``."""
        self.keys, self.values = (
            self._moved(old, rows, width, slots, columns, clock) for old in (self.keys, self.values)
        )
        self.clock = clock

    def _moved(
        self, old: torch.Tensor, rows: Sequence[int], width: int, slots: int, columns: int, clock: int
    ) -> torch.Tensor:
        new = old.new_zeros((slots, old.shape[1], columns, old.shape[3]))  # zeros: what a mask hides must be finite
        if rows:
            chosen = torch.tensor(rows, device=old.device)
            new[: len(rows), :, clock - width : clock] = old[:, :, self.clock - width : self.clock][chosen]
        return new


class SlotCache(Cache):  # type: ignore[misc]
    """All layers, which go in step."""

    def __init__(self, prefilled: Any) -> None:
        """Like a cache that the model has made itself."""
        super().__init__(layers=[SlotLayer(layer) for layer in prefilled.layers])

    @property
    def clock(self) -> int:
        """The column that is written next."""
        return int(self.layers[0].clock)

    @property
    def first(self) -> int:
        """The first column that is read."""
        return int(self.layers[0].first)

    @first.setter
    def first(self, column: int) -> None:
        for layer in self.layers:
            layer.first = column

    def fill(self, slots: Sequence[int], prefilled: Any, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Put rows of a cache that the model has made, padded on the left, into slots."""
        for mine, theirs in zip(self.layers, prefilled.layers, strict=True):
            mine.fill(slots, theirs, rows, lengths)

    def lay_out(self, rows: Sequence[int], width: int, *, slots: int, columns: int, clock: int) -> None:
        """New buffers, in which the slots ``rows`` come first and their tokens end before ``clock``.

        Layer by layer, so that only one layer is held twice.
        """
        for layer in self.layers:
            layer.lay_out(rows, width, slots=slots, columns=columns, clock=clock)
