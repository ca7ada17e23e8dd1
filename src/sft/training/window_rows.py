"""Training rows that come window by window: examples are packed, and later shuffled, within their window alone."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from sft.config import SFTConfig
from sft.data.collate import TrainingRows
from sft.data.stream import Stream
from sft.data.types import Example
from sft.training.plan import computed_lengths, group_rows

MOST_ROWS = 1 << 32
"""Of a window: a row is known by the number of its window times this, plus its number within."""

KEPT = 3
"""Windows whose rows are known at a time."""


class WindowRows:
    """What a DataLoader indexes: row numbers of windows -> the examples that share the row.

    Args:
        num_rows: that training will take, each counted as often as it is taken.
    """

    def __init__(self, config: SFTConfig, stream: Stream, num_rows: int) -> None:
        self.config = config
        self.stream: Stream | None = stream
        self.windows = stream.windows
        self.num_rows = num_rows
        self._kept: OrderedDict[int, TrainingRows] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """What a process that loads data needs: it waits for nothing, and finds the rows by itself."""
        return {**vars(self), "_kept": OrderedDict(), "stream": None}

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> list[Example]:
        window, row = divmod(index, MOST_ROWS)
        return self.of(window)[row]

    def of(self, number: int) -> TrainingRows:
        """The rows of a window that there is."""
        if number not in self._kept:
            self.windows.has(number)  # a process that loads data has to look by itself
            store = self.windows.read(number)
            computed = computed_lengths(self.config, store)
            self._kept[number] = TrainingRows(store, group_rows(self.config, computed.tolist()), computed=computed)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[number]

    def sources(self, index: int) -> list[str]:
        """Places ('train.jsonl:17') of the examples of a row."""
        window, row = divmod(index, MOST_ROWS)
        rows = self.of(window)
        return [str(rows.store.source(example)) for example in ([row] if rows.packs is None else rows.packs[row])]
