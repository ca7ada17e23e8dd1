"""What a child of the nursery does to itself before its run begins: the disk, the clock and the weights misbehave."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from typing import Any


def full_disk_at(order: dict[str, Any]) -> None:
    """The disk is full while the checkpoint of step ``order["step"]`` is written."""
    from sft.training.checkpoints import tensor_file

    write = tensor_file._write

    def refuse(file: Any, block: memoryview) -> int:
        if f".saving-{order['step']}/training_state" in file.name:
            write(file, block[: len(block) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, block)

    tensor_file._write = refuse


def little_room(order: dict[str, Any]) -> None:
    """The disk has room for half a checkpoint."""
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: usage._replace(free=10 << 20)


def read_only(order: dict[str, Any]) -> None:
    """The run folder is on a file system that is mounted read-only."""
    opened = os.open

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(order["config"]["output_dir"]) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *args, **kwargs)

    os.open = refuse


def clock_goes_back(order: dict[str, Any]) -> None:
    """Every look at the clock is an hour before the last one, and so are the times of new checkpoints."""
    from sft.training.checkpoints import write

    now, move = [time.time()], write.move_into_place

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    def dated(folder: Any, place: Any) -> None:
        move(folder, place)
        os.utime(place, (earlier(), now[0]))

    time.time = earlier
    write.move_into_place = dated


def weights_are_lost_at(order: dict[str, Any]) -> None:
    """A weight becomes NaN in step ``order["step"]``."""
    from sft.training.checkpoints.saving import SavingTrainer

    save = SavingTrainer._save_checkpoint

    def lost(trainer: Any, model: Any, trial: Any) -> None:
        if trainer.state.global_step == order["step"]:
            next(weight for weight in model.parameters() if weight.requires_grad).data.view(-1)[3] = float("nan")
        save(trainer, model, trial)

    SavingTrainer._save_checkpoint = lost


def _losses(change: Callable[[int, Any], Any]) -> None:
    """Let ``change`` have each slice's loss; steps count from 1."""
    from sft.training.trainer import WalkTrainer

    compute = WalkTrainer.compute_loss

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        return change(self.state.global_step + 1, compute(self, *args, **kwargs))

    WalkTrainer.compute_loss = changed  # type: ignore[method-assign]


def not_finite(order: dict[str, Any]) -> None:
    """The loss of ``steps`` is ``value``; ``rank``: on this process alone."""
    if int(os.environ.get("RANK", 0)) != order.get("rank", 0):
        return
    _losses(lambda step, loss: loss * float(order["value"]) if step in order["steps"] else loss)


def steps_without_an_update(order: dict[str, Any]) -> None:
    """What leaving ``steps`` out has to come to: the optimizer is not called."""
    import torch
    from accelerate.optimizer import AcceleratedOptimizer

    act, calls = AcceleratedOptimizer.step, iter(range(1, 10**9))

    def act_or_not(self: Any, closure: Any = None) -> None:
        if next(calls) not in order["steps"]:
            act(self, closure)

    assert torch.is_grad_enabled()
    AcceleratedOptimizer.step = act_or_not


def spike(order: dict[str, Any]) -> None:
    """The loss of ``steps`` is a hundred times as high, and few steps are enough to tell."""
    from sft.training import bad_steps

    bad_steps.FEWEST = 4
    _losses(lambda step, loss: loss * 100 if step in order["steps"] else loss)


def out_of_memory(order: dict[str, Any]) -> None:
    """Slices of more than ``rows`` rows do not fit: in the forward pass, or with ``late`` when gradients were made.

    ``rank``: of this process alone.
    """
    if int(os.environ.get("RANK", 0)) != order.get("rank", 0):
        return
    import torch

    from sft.training.trainer import WalkTrainer

    forward = WalkTrainer.compute_loss

    def forward_or_not(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        fits = len(inputs["input_ids"]) <= order["rows"] or self.state.global_step + 1 < order["step"]
        if not fits and not order["late"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        loss = forward(self, model, inputs, *args, **kwargs)
        if not fits:
            last = next(weight for weight in model.parameters() if weight.requires_grad)
            handle = last.register_post_accumulate_grad_hook(_fail)
            self.handles = [*getattr(self, "handles", []), handle]
        return loss

    def _fail(weight: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    WalkTrainer.compute_loss = forward_or_not  # type: ignore[method-assign]
    from sft.training.bad_steps import GuardedTrainer

    inner = GuardedTrainer.training_step

    def inner_without(self: Any, *args: Any, **kwargs: Any) -> Any:
        for handle in getattr(self, "handles", []):
            handle.remove()
        self.handles = []
        return inner(self, *args, **kwargs)

    GuardedTrainer.training_step = inner_without  # type: ignore[method-assign]


def signal_in_step(order: dict[str, Any]) -> None:
    """A signal comes while step ``order["step"]`` is trained."""
    import signal

    from sft.training.trainer import WalkTrainer

    compute = WalkTrainer.compute_loss

    def asked(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.model.training and trainer.state.global_step + 1 == order["step"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(trainer, *args, **kwargs)

    WalkTrainer.compute_loss = asked  # type: ignore[method-assign]


def signal_in_evaluation(order: dict[str, Any]) -> None:
    """A signal comes when some of the answers of ``step`` are there."""
    import signal

    from sft.evaluation.progress import ProgressDisplay
    from sft.training.evaluation_callback import GenerationEvaluation

    measure, show, now = GenerationEvaluation.measure, ProgressDisplay.__call__, [-1]

    def noted(self: Any, step: int) -> Any:
        now[0] = step
        return measure(self, step)

    def shown(self: Any, progress: Any) -> None:
        if now[0] == order["step"] and 0 < progress.done < progress.total:
            os.kill(os.getpid(), signal.SIGTERM)
        show(self, progress)

    GenerationEvaluation.measure = noted  # type: ignore[method-assign]
    ProgressDisplay.__call__ = shown  # type: ignore[method-assign]
