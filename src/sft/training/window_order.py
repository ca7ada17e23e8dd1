"""In which order rows are seen that come window by window, and the end of a run whose data cannot be used further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import xxhash
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.data.stream import NotWaitedFor
from sft.errors import DataError, SftError, TrainingStopped
from sft.training.order import RowOrder
from sft.training.window_rows import MOST_ROWS, WindowRows


class WindowOrder(RowOrder):
    """Windows as the data has them, the rows of each in an order of their own: a function of seed, pass and window.

    All that training takes is one epoch to the Trainer, for how many rows the data has is not known when it begins;
    after the last window the first comes again. A step is begun when all of its rows are there.

    Args:
        per_step: rows of an optimizer step, all processes and slices together.
    """

    def __init__(
        self,
        rows: WindowRows,
        *,
        per_step: int,
        seed: int,
        shuffle: bool,
        batch_size: int = 1,
        copies: int = 1,
    ) -> None:
        super().__init__(len(rows), seed=seed, shuffle=shuffle, batch_size=batch_size, copies=copies)
        assert rows.stream is not None, "this is no process that only loads data"
        self.stream = rows.stream
        self.rows = rows
        self.per_step = per_step
        self.steps_there: int | None = None
        """Steps before the data ended early; None: they have not."""
        self.ended_by: Exception | None = None
        """Why."""

    def __iter__(self) -> Iterator[int]:
        endless = self._endless()
        for step in range(len(self) // (self.per_step * self.copies)):
            try:
                order = [next(endless) for _ in range(self.per_step)]
            except (SftError, RuntimeError, NotWaitedFor) as error:
                self.steps_there, self.ended_by = step, error
                return
            for start in range(0, len(order), self.batch_size):
                for _ in range(self.copies):
                    yield from order[start : start + self.batch_size]

    def _endless(self) -> Iterator[int]:
        """Pass after pass over the data."""
        number = 0
        while True:
            window = 0
            while self.stream.wait_for(window):
                yield from self._of_window(number, window)
                window += 1
            number += 1

    def _of_window(self, number: int, window: int) -> Iterator[int]:
        rows = self.rows.of(window)
        order = list(range(len(rows)))
        if self.shuffle:
            chance = xxhash.xxh3_64_intdigest(f"{self.seed} {number} {window}".encode()) >> 1
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(chance)).tolist()
            if number == window == 0:  # memory runs out at once or, as far as this window tells, never
                longest = order.index(int(rows.lengths.argmax()))
                order[0], order[longest] = order[longest], order[0]
        return (window * MOST_ROWS + row for row in order)


class EndWithData(TrainerCallback):  # type: ignore[misc]
    """Ends training, with a checkpoint, after the last step whose rows could be used."""

    def __init__(self, order: WindowOrder) -> None:
        self.order = order

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.order.ended_by is not None and self.order.steps_there == state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


def require_end(order: RowOrder, state: TrainerState) -> None:
    """Raise what ended training before its time, if the data did.

    Raises:
        DataError: a row, or the template, cannot be used; everything that was trained before is saved.
        TrainingStopped: a signal came while rows were waited for.
        RuntimeError: the process that prepares them died.
    """
    if not isinstance(order, WindowOrder) or order.ended_by is None or state.global_step >= state.max_steps:
        return
    error, step = order.ended_by, state.global_step
    kept = "No step was made."
    if step:
        kept = f"checkpoint-{step} holds the {step} of {state.max_steps} steps whose rows came before that."
    if isinstance(error, NotWaitedFor):
        raise TrainingStopped(f"stopped while waiting for rows to be prepared. {kept} The same command goes on.")
    if isinstance(error, DataError):
        way_on = " When the data are mended, --allow_change data goes on from it." if step else ""
        raise type(error)(f"{error}\nstream_preparation = true: {kept}{way_on}")
    raise RuntimeError(f"{error}. {kept} The same command goes on.") from error
