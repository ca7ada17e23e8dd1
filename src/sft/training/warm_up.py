"""How the learning rate rises to its peak."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from sft.errors import ConfigError


def square_warm_up(scheduler: Any, steps: int, *, name: str) -> None:
    """Let the first ``steps`` steps of a schedule rise with the square of their share, and leave the rest as it is.

    Args:
        name: of the schedule, for the error.

    Raises:
        ConfigError: the schedule is made otherwise than by a factor for each step.
    """
    if not isinstance(scheduler, LambdaLR):
        raise ConfigError(
            f"warmup_shape = quadratic with lr_scheduler_type = {name}: this schedule does not say its rate step by "
            "step, so that its beginning cannot be changed. Use cosine or linear, or leave warmup_shape out."
        )
    scheduler.lr_lambdas = [partial(_factor, shape=shape, steps=steps) for shape in scheduler.lr_lambdas]
    for group, base, shape in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * shape(scheduler.last_epoch)


def _factor(step: int, *, shape: Callable[[int], float], steps: int) -> float:
    return (step / max(1, steps)) ** 2 if step < steps else shape(step)
