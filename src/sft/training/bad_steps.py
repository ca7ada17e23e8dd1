"""Steps whose loss or gradient is no number are not taken, and steps whose loss leaps are marked.

One update with NaN in it makes every weight NaN. So before the optimizer acts, the loss of the step and the norm of its
gradient (over all processes) are looked at; where one is not finite, the weights keep what they have, the rows of the
step are recorded, and the next step begins. Several in a row end the run while the weights are good.

Looking is put off where it would make a GPU wait: a fused optimizer is told on the device to leave the step out
(``found_inf``, as gradient scalers do), and the figures are read when they have arrived by themselves. DeepSpeed, which
takes steps by itself, leaves them out by itself, too (``deepspeed_steps.py``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import Trainer

from sft.errors import TrainingDiverged
from sft.training.deepspeed_steps import is_engine, let_engine_look, was_left_out
from sft.training.incidents import Incidents
from sft.training.launch import warn

WINDOW = 128
"""Steps whose losses a loss is held against."""

FEWEST = 32
"""Steps after which there is something to hold it against."""

SIGMAS = 6.0
"""A loss further above the mean of the window is a spike. The measure is that of OLMo's SkipStepOptimizer."""


@dataclass
class SpikeWatch:
    """Tells losses that leap from those that wander."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def is_spike(self, loss: float) -> bool:
        """Whether a loss stands out from those before it; it then stays out of them."""
        if len(self.losses) >= FEWEST:
            mean = sum(self.losses) / len(self.losses)
            spread = math.sqrt(sum((one - mean) ** 2 for one in self.losses) / len(self.losses))
            if loss > mean + SIGMAS * max(spread, 1e-3 * abs(mean)):
                return True
        self.losses.append(loss)
        return False


@dataclass
class Reading:
    """The figures of one step, perhaps still on their way from the device."""

    step: int
    figures: Tensor
    """(2,) float32: the loss of the step and the norm of its gradient."""

    arrived: Any = None
    """A device's event; None: they are here."""

    def is_here(self) -> bool:
        return self.arrived is None or bool(self.arrived.query())


class BadStepGuard:
    """What becomes of steps whose figures are not finite.

    Args:
        rows_of: places of the rows of an optimizer step, counted from 0.
        most: such steps in a row that are left out before the run ends.
    """

    def __init__(self, incidents: Incidents, rows_of: Callable[[int], list[str]], *, most: int) -> None:
        self.incidents = incidents
        self.rows_of = rows_of
        self.most = most
        self.left_out = 0
        """Steps of this run that were not taken."""
        self._in_a_row = 0
        self._readings: deque[Reading] = deque()
        self._spikes = SpikeWatch()

    def watch(
        self, step: int, loss: Tensor, norm: Tensor, optimizer: Any, model: nn.Module, *, alone: bool = True
    ) -> Tensor:
        """Look at a step before the optimizer acts, and keep it from acting where it must not.

        Args:
            step: counted from 0.
            loss: scalar, the whole step's, of this process.
            norm: scalar, of the whole gradient before it was clipped, the same on all processes.
            optimizer: None where another has left the step out already.
            alone: there is no other process; else the norm alone decides, so that all of them do the same.

        Returns:
            Whether the step is taken: a boolean scalar on the device.

        Raises:
            TrainingDiverged: too many such steps in a row.
        """
        figures = torch.stack([loss.detach().float(), norm.detach().float().to(loss.device)])
        taken = torch.isfinite(figures if alone else figures[1:]).all()
        on_cuda = figures.device.type == "cuda"
        if optimizer is None or (on_cuda and leave_out_on_device(optimizer, ~taken)):
            self._readings.append(send_home(step, figures) if on_cuda else Reading(step, figures.cpu()))
        else:
            if not bool(taken):
                drop_gradients(model)
            self._readings.append(Reading(step, figures.cpu()))
        self.settle()
        return taken

    def settle(self, *, wait: bool = False) -> None:
        """Take the figures that have arrived; ``wait``: all of them."""
        while self._readings and (wait or self._readings[0].is_here()):
            reading = self._readings.popleft()
            if reading.arrived is not None:
                reading.arrived.synchronize()
            loss, norm = reading.figures.tolist()
            self._take(reading.step, loss, norm)

    def _take(self, step: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            self._in_a_row = 0
            if self._spikes.is_spike(loss):
                rows = self.rows_of(step)
                self.incidents.add("spike", step + 1, rows, loss=round(loss, 6), grad_norm=round(norm, 6))
            return
        self._in_a_row += 1
        self.left_out += 1
        rows = self.rows_of(step)
        self.incidents.add("not finite", step + 1, rows, loss=_spoken(loss), grad_norm=_spoken(norm))
        warn(
            f"step {step + 1}: the loss is {loss:g} and its gradient's norm {norm:g}; the step is left out, the "
            f"weights stay as they were. Its {len(rows)} rows stand in incidents.jsonl."
        )
        if self._in_a_row > self.most:
            raise TrainingDiverged(
                f"step {step + 1}: the loss is {loss:g} and its gradient's norm {norm:g}, {self._in_a_row} times in a "
                f"row (max_bad_steps allows {self.most}). None of these steps was taken, and the checkpoints are "
                f"good. Their rows stand in {self.incidents.path}. Lower the learning rate, look at those rows, or "
                "train in bfloat16 instead of float16; then the same command goes on from the last checkpoint."
            )


def leave_out_on_device(optimizer: Any, is_bad: Tensor) -> bool:
    """Tell a fused optimizer of PyTorch's to do nothing in this step if so; False where it cannot be told."""
    inner = getattr(optimizer, "optimizer", optimizer)
    if not getattr(inner, "_step_supports_amp_scaling", False) or not all(g.get("fused") for g in inner.param_groups):
        return False
    inner.grad_scale, inner.found_inf = None, is_bad.float()
    return True


def drop_gradients(model: nn.Module) -> None:
    """A weight without a gradient is passed over by every optimizer: no update, no decay, no moment."""
    for weight in model.parameters():
        weight.grad = None


def send_home(step: int, figures: Tensor) -> Reading:
    """Begin to copy figures from a GPU, without waiting for it."""
    here = torch.empty(2, dtype=torch.float32, pin_memory=True)
    here.copy_(figures, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return Reading(step, here, arrived)


def _spoken(value: float) -> float | str:
    """JSON has no word for what is no number."""
    return round(value, 6) if math.isfinite(value) else str(value)


class GuardedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that leaves out steps which are not finite, and counts their loss nowhere."""

    guard: BadStepGuard | None = None
    _step_loss: Tensor | None = None
    _left_out_since_log: Tensor | None = None
    _logged_at: int | None = None
    """The step of the last log, or that this training began after."""

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a slice. Its loss is kept until the whole step is known to be taken."""
        if self._logged_at is None:
            self._logged_at = self.state.global_step
            if self.guard is not None and is_engine(model):
                let_engine_look(model)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.guard is None:
            return loss
        self._step_loss = loss if self._step_loss is None else self._step_loss + loss
        return torch.zeros_like(loss)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Called once a step, after clipping and before the optimizer acts."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.guard is None or self._step_loss is None:
            return norm
        loss, self._step_loss = self._step_loss, None
        step, alone = self.state.global_step, self.args.world_size == 1
        if is_engine(model):
            seen = self._seen_by_engine(model, loss, norm)
            taken = self.guard.watch(step, loss, seen, None, model, alone=alone)
        else:
            # a scaler of gradients tries how large they may be: it leaves such steps out itself, and then scales less
            is_scaled = getattr(self.accelerator, "scaler", None) is not None
            seen = self._over_processes(loss) if is_scaled or norm is None else torch.as_tensor(norm).to(loss.device)
            seen = seen.full_tensor() if hasattr(seen, "full_tensor") else seen
            taken = self.guard.watch(step, loss, seen, self.optimizer, model, alone=alone)
        self._tr_loss += torch.where(taken, loss, torch.zeros_like(loss)).to(self._tr_loss.device)
        left_out = (~taken).to(torch.float32)
        since = self._left_out_since_log
        self._left_out_since_log = left_out if since is None else since + left_out
        return norm

    def _seen_by_engine(self, engine: Any, loss: Tensor, norm: float | None) -> Tensor:
        """What DeepSpeed found in the step that it has taken or left out."""
        if engine.fp16_enabled():
            return self._over_processes(loss)
        left_out = was_left_out(engine)
        if left_out and self.accelerator.optimizer_step_was_skipped:
            self.lr_scheduler.step()  # as elsewhere; transformers would hold the learning rate back
        return torch.tensor(math.inf if left_out else norm or 0.0, device=loss.device)

    def _over_processes(self, loss: Tensor) -> Tensor:
        """The sum over processes, which all of them judge alike."""
        total = loss.detach().clone()
        if self.args.world_size > 1:
            dist.all_reduce(total)
        return total

    def forget_step(self) -> None:
        """Begin the present step's loss again."""
        self._step_loss = None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The mean loss is of the steps that were taken; how many were not is logged beside it."""
        if self.guard is not None and "loss" in logs:
            self.guard.settle(wait=True)
            left_out = 0 if self._left_out_since_log is None else int(self._left_out_since_log)
            steps = self.state.global_step - (self._logged_at or 0)
            self._left_out_since_log, self._logged_at = None, self.state.global_step
            if left_out:
                logs["skipped_steps"] = left_out
                taken = steps - left_out
                logs["loss"] = logs["loss"] * steps / taken if taken > 0 else math.nan
            if taken_nothing(logs):
                del logs["loss"]
            if not math.isfinite(float(logs.get("grad_norm", 0.0))):
                del logs["grad_norm"]
        super().log(logs, start_time)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; then take the last figures."""
        self._step_loss = self._left_out_since_log = self._logged_at = None
        made = super().train(*args, **kwargs)
        if self.guard is not None:
            self.guard.settle(wait=True)
        return made


def taken_nothing(logs: dict[str, float]) -> bool:
    """Whether no step was taken since the last log: there is no loss to tell, least of all 0."""
    return "loss" in logs and not math.isfinite(logs["loss"])
