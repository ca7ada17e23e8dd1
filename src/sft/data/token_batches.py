"""Batches by tokens: rows of about the same length share a forward pass, as many as a number of tokens takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sft.data.collate import EMPTY_ROW, RowGroup, TrainingRows


def form_batches(lengths: npt.NDArray[np.int64], budget: int, *, seed: int | None) -> list[list[int]]:
    """Which rows share a forward pass, longest rows first.

    Args:
        lengths: tokens per row, each between 1 and ``budget``.
        budget: most tokens of a batch, padding to its longest row counted.
        seed: decides which of the rows of one length come together. None: rows keep their order, and neighbours share
            a batch.

    Returns:
        Positions of the rows of each batch; every row is in one.

    Raises:
        ValueError: a row is longer than ``budget``.
    """
    if len(lengths) and int(lengths.max()) > budget:
        raise ValueError(f"a row has {int(lengths.max())} tokens; a batch of {budget} cannot take it")
    order = np.arange(len(lengths))
    if seed is not None:
        order = np.lexsort((np.random.default_rng(seed).random(len(lengths)), -lengths))
    batches: list[list[int]] = []
    widest = 0
    for position, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        widest = max(widest, length)
        if not batches or widest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            widest = length
        batches[-1].append(position)
    return batches


def share_of_tokens(lengths: npt.NDArray[np.int64], batches: Sequence[Sequence[int]]) -> float:
    """Share of the batches' slots that hold a token, between 0 and 1."""
    slots = sum(int(lengths[list(batch)].max()) * len(batch) for batch in batches)
    return float(lengths.sum()) / slots if slots else 0.0


class RowGroups:
    """What a DataLoader indexes where batches are formed beforehand: item ``i`` holds all rows of batch ``i``."""

    def __init__(self, rows: TrainingRows, batches: Sequence[Sequence[int]]) -> None:
        self.rows = rows
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> RowGroup:
        return RowGroup() if index == EMPTY_ROW else RowGroup(self.rows[row] for row in self.batches[index])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per batch, padding counted, shape (batches,)."""
        lengths = self.rows.lengths
        return np.array([lengths[batch].max() * len(batch) for batch in self.batches], dtype=np.int64)
