"""In which order rows are seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.data.collate import EMPTY_ROW


class RowOrder(Sampler[int]):
    """A permutation of the rows, a function of seed and epoch alone, so that a resumed run sees what it would have.

    The very first row of training is the one given as ``first`` (the longest): the batch that needs most memory
    comes at once, so memory runs out in the first minute or never. The order is filled up with ``EMPTY_ROW`` to a
    multiple of ``multiple`` rows, so that every process gets as many.

    Where processes share rows, each batch of ``batch_size`` rows comes ``copies`` times, one for each of them.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int,
        shuffle: bool,
        multiple: int = 1,
        first: int | None = None,
        batch_size: int = 1,
        copies: int = 1,
    ) -> None:
        self.num_rows = num_rows
        self.seed = seed
        self.shuffle = shuffle
        self.multiple = multiple
        self.first = first
        self.batch_size = batch_size
        self.copies = copies
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; epochs count from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._filled * self.copies

    @property
    def _filled(self) -> int:
        return -(-self.num_rows // self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.num_rows))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(self.num_rows, generator=generator).tolist()
        if self.first is not None and self.epoch == 0:
            place = order.index(self.first)
            order[0], order[place] = order[place], order[0]
        order += [EMPTY_ROW] * (self._filled - self.num_rows)
        for start in range(0, len(order), self.batch_size):
            for _ in range(self.copies):
                yield from order[start : start + self.batch_size]


class EpochCallback(TrainerCallback):  # type: ignore[misc]
    """Tells the order which epoch begins.

    accelerate forwards set_epoch through at most two layers of batch samplers; a resumed run on several processes
    has three, and would see epoch 0's order again.
    """

    def __init__(self, order: RowOrder) -> None:
        self.order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        batches = len(kwargs["train_dataloader"])
        steps = max(1, -(-batches // args.gradient_accumulation_steps))
        self.order.set_epoch(state.global_step // steps)
