"""Memory that runs out in the middle of a run costs one step's time, not the run.

The slice that did not fit is cut in two by rows, and so is every slice from then on: rows of a step, their order and
the divisor of the loss stay, so the gradient is the one that it would have been. What the failed attempt left of its
gradient is thrown away and the step begins again.

Processes of DDP agree on it (``exchange.py``): where one has run out, all of them cut, and all begin the step again.
Under FSDP, DeepSpeed and shared rows a process that runs out leaves the others in the middle of an exchange, which
nothing but their timeout ends; and TRL's batches of pairs are not cut. There the run ends with a message, which says
with what it can be started again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sft.errors import OutOfMemory
from sft.training.bad_steps import GuardedTrainer
from sft.training.exchange import Exchange, is_exchanged_at_end
from sft.training.launch import warn
from sft.training.mesh import Mesh

TELLING = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What allocators say that raise a plain RuntimeError."""


class RetryingTrainer(GuardedTrainer):
    """A Trainer whose slices get smaller when memory runs out."""

    parts: int = 1
    """Into how many parts each slice is cut."""
    on_out_of_memory: Callable[[int], None] | None = None
    """Told the step, counted from 1."""
    mesh = Mesh()
    """What processes share."""
    _slices: list[Any]
    """What was done of the present step."""
    _ran_out: str | None = None
    """What the allocator of this process said in the present step."""
    _exchange: Exchange | None = None

    def split(self, inputs: Any, parts: int) -> list[Any] | None:
        """A slice in at most so many parts by rows; None where it cannot be cut."""
        return None

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a slice, in parts where memory asks for it."""
        self._slices = [*getattr(self, "_slices", []), inputs]
        if isinstance(model, DistributedDataParallel) and self._can_agree(model):
            return self._together(model.module, num_items_in_batch)
        loss, said = self._attempt(model, [inputs], num_items_in_batch)
        while said is not None:
            if self.args.world_size > 1 or not self._can_split():
                raise OutOfMemory(self._apart(said))
            self._make_smaller(said)
            _, said = self._attempt(model, self._slices[:-1], num_items_in_batch)
            if said is None:
                loss, said = self._attempt(model, [inputs], num_items_in_batch)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Called once a step, when its gradient is whole."""
        self._slices, self._ran_out = [], None
        return super()._get_grad_norm(model, grad_norm=grad_norm)

    def _can_agree(self, model: DistributedDataParallel) -> bool:
        """Whether processes that train together can do a step again together: no one waits for another within it."""
        shares_rows = self.mesh.processes > self.mesh.row_groups
        waits = not self._can_split() or shares_rows or self.guard is None
        return not waits and is_exchanged_at_end(model, self.state.global_step)

    def _can_split(self) -> bool:
        return type(self).split is not RetryingTrainer.split

    def _together(self, bare: Any, num_items_in_batch: Any) -> Tensor:
        """A slice on each of several processes; after the last one of a step, its gradient on all of them."""
        self._exchange = self._exchange or Exchange(self.args.ddp_timeout)
        loss = torch.zeros((), device=self.args.device)
        if self._ran_out is None:  # else this step is done again, when the others have come to its end
            loss, self._ran_out = self._attempt(bare, self._slices[-1:], num_items_in_batch)
        if not self.accelerator.gradient_state.sync_gradients:
            return loss
        while self._exchange.anywhere(self._ran_out is not None):
            told = self._exchange.everyones((self._ran_out, self._can_be_cut()))
            rank, said = next((rank, said) for rank, (said, _) in enumerate(told) if said is not None)
            if not all(can_be_cut for said, can_be_cut in told if said is not None):
                raise OutOfMemory(self._too_large(f"{said}, rank {rank}"))
            self._make_smaller(f"{said}, rank {rank}", agreed=True)
            loss, self._ran_out = self._attempt(bare, self._slices, num_items_in_batch)
        self._exchange.average(bare)
        return loss

    def _attempt(self, model: nn.Module, slices: Sequence[Any], num_items_in_batch: Any) -> tuple[Tensor, str | None]:
        """The loss of slices whose gradients were made; and what an allocator said that had no more."""
        losses = [torch.zeros((), device=self.args.device)]
        try:
            for one in slices:
                for part in self._parts_of(one, self.parts):
                    losses.append(super().training_step(model, part, num_items_in_batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # a text, not the error: it holds the frames, and they hold the memory
            return losses[0], " ".join(str(error).split())[:300] or type(error).__name__
        return torch.stack(losses).sum(), None

    def _parts_of(self, inputs: Any, parts: int) -> list[Any]:
        return [inputs] if parts == 1 else self.split(inputs, parts) or [inputs]

    def _can_be_cut(self) -> bool:
        return any(
            len(self._parts_of(one, self.parts * 2)) > len(self._parts_of(one, self.parts)) for one in self._slices
        )

    def _make_smaller(self, said: str, *, agreed: bool = False) -> None:
        """Cut slices into twice as many parts, and throw away what there is of this step's gradient."""
        step = self.state.global_step + 1
        if not agreed and not self._can_be_cut():
            raise OutOfMemory(self._too_large(said))
        self.parts *= 2
        warn(
            f"step {step}: out of memory ({said}). Slices are cut into {self.parts} parts from now on, and the step is "
            "done again: the same rows in the same order make a step, and the same gradient."
        )
        if self.on_out_of_memory is not None:
            self.on_out_of_memory(step)
        for weight in self.model.parameters():
            weight.grad = None
        self.forget_step()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _too_large(self, said: str) -> str:
        return (
            f"step {self.state.global_step + 1}: out of memory with a single row of a step in the model ({said}). "
            "Lower max_length, set gradient_checkpointing, or train fewer weights (use_lora, load_in_4bit); `sft plan` "
            "tells what each saves. The run goes on from its last checkpoint where the rows stay the same."
        )

    def _apart(self, said: str) -> str:
        """With what the run goes on: fewer rows at a time, and as many in a step."""
        rows, slices = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        where = f", rank {self.args.process_index}" if self.args.world_size > 1 else ""
        fewer = fewer_at_a_time(rows, slices)
        if fewer is None:
            return self._too_large(f"{said}{where}")
        why = "Its batches cannot be cut while it trains."
        if self.args.world_size > 1:
            why = (
                "The others are waiting for it in the middle of the step, where weights, rows or gradients are being "
                "exchanged: they cannot begin it again."
            )
        in_file = " (and where the DeepSpeed file has these numbers, there)" if self.is_deepspeed_enabled else ""
        return (
            f"step {self.state.global_step + 1}: out of memory ({said}{where}). {why} "
            "Start the same command again with "
            f"--per_device_train_batch_size {fewer[0]} --gradient_accumulation_steps {fewer[1]} instead of {rows} and "
            f"{slices}{in_file}: the same rows make a step, and the run goes on from its last checkpoint."
        )


def fewer_at_a_time(rows: int, slices: int) -> tuple[int, int] | None:
    """At most half as many rows in a slice and as many more slices, with the same rows in a step; None for one row."""
    fewer = next((less for less in range(rows // 2, 0, -1) if rows * slices % less == 0), None)
    return None if fewer is None else (fewer, rows * slices // fewer)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator had no more, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return not isinstance(error, OutOfMemory)
    return any(words in str(error).lower() for words in TELLING)
