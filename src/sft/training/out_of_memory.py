"""Memory that runs out in the middle of a run costs one step's time, not the run.

The slice that did not fit is cut in two by rows, and so is every slice from then on: rows of a step, their order and
the divisor of the loss stay, so the gradient is the one that it would have been. What the failed attempt left of its
gradient is thrown away and the step begins again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sft.errors import OutOfMemory
from sft.training.bad_steps import GuardedTrainer
from sft.training.launch import warn

TELLING = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What allocators say that raise a plain RuntimeError."""


class RetryingTrainer(GuardedTrainer):
    """A Trainer whose slices get smaller when memory runs out."""

    parts: int = 1
    """Into how many parts each slice is cut."""
    on_out_of_memory: Callable[[int], None] | None = None
    """Told the step, counted from 1."""
    _slices: list[Any]
    """What was done of the present step."""

    def split(self, inputs: Any, parts: int) -> list[Any] | None:
        """A slice in at most so many parts by rows; None where it cannot be cut."""
        return None

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a slice, in parts where memory asks for it."""
        self._slices = [*getattr(self, "_slices", []), inputs]
        while True:
            try:
                if self.parts == 1:
                    made: Tensor = super().training_step(model, inputs, num_items_in_batch)
                    return made
                return self._in_parts(model, inputs, num_items_in_batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = " ".join(str(error).split())[:300]
            # outside of the except block: the error holds the frames, and they hold the memory
            self._make_smaller(inputs, said)
            self._begin_again(model, num_items_in_batch)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Called once a step, when its gradient is whole."""
        self._slices = []
        return super()._get_grad_norm(model, grad_norm=grad_norm)

    def _in_parts(self, model: nn.Module, inputs: Any, num_items_in_batch: Any) -> Tensor:
        parts = self.split(inputs, self.parts) or [inputs]
        losses = [super(RetryingTrainer, self).training_step(model, part, num_items_in_batch) for part in parts]
        return torch.stack(losses).sum()

    def _make_smaller(self, inputs: Any, said: str) -> None:
        step, slice_now = self.state.global_step + 1, self.split(inputs, self.parts * 2)
        before = self.split(inputs, self.parts) or [inputs]
        if self.args.world_size > 1:
            raise OutOfMemory(
                f"step {step}: out of memory on rank {self.args.process_index} ({said}). Several processes cannot "
                "repeat a step apart from each other. Start again with half of per_device_train_batch_size = "
                f"{self.args.per_device_train_batch_size} and twice gradient_accumulation_steps = "
                f"{self.args.gradient_accumulation_steps}: the same rows make a step, and the run goes on from its "
                "last checkpoint."
            )
        if slice_now is None or len(slice_now) <= len(before):
            raise OutOfMemory(
                f"step {step}: out of memory with a single row of a step in the model ({said}). Lower max_length, set "
                "gradient_checkpointing, or train fewer weights (use_lora, load_in_4bit); `sft plan` tells what each "
                "saves. The run goes on from its last checkpoint where the rows stay the same."
            )
        self.parts *= 2
        warn(
            f"step {step}: out of memory ({said}). Slices are cut into {self.parts} parts from now on, and the step is "
            "done again: the same rows in the same order make a step, and the same gradient."
        )
        if self.on_out_of_memory is not None:
            self.on_out_of_memory(step)

    def _begin_again(self, model: nn.Module, num_items_in_batch: Any) -> None:
        """Throw the gradient of this step away, and make that of its earlier slices once more."""
        model.zero_grad()
        self.forget_step()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for earlier in self._slices[:-1]:
            self._in_parts(model, earlier, num_items_in_batch)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator had no more, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return not isinstance(error, OutOfMemory)
    return any(words in str(error).lower() for words in TELLING)
