"""ReLoRA (https://arxiv.org/abs/2307.05695): every so many steps the adapter is set aside and another one begun.

Several narrow adapters one after the other change the weights by more than one of them could. With each the optimizer
forgets most of its moments, and the learning rate rises anew from almost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.models.kept_adapters import ADAPTER, adapted_layers, set_aside
from sft.training.strategy import ALONE, DDP

LOWEST = 0.001
"""Share of the learning rate at which it begins anew, as in axolotl."""


class AdapterRestarts(TrainerCallback):  # type: ignore[misc]
    """Begins the adapter anew before the steps that are multiples of ``steps``; a function of seed and step alone."""

    def __init__(self, *, steps: int, method: str, ratio: float, seed: int) -> None:
        self.steps = steps
        self.method = method
        self.ratio = ratio
        self.seed = seed

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0 or state.global_step % self.steps:
            return
        model: nn.Module = kwargs["model"]
        seed = self.seed + state.global_step
        set_aside(model, seed=seed)
        matrices = [
            matrices[ADAPTER].weight
            for layer in adapted_layers(model).values()
            for matrices in (layer.lora_A, layer.lora_B)
        ]
        optimizer = kwargs["optimizer"]
        forget(getattr(optimizer, "optimizer", optimizer), matrices, method=self.method, ratio=self.ratio, seed=seed)


@torch.no_grad()
def forget(optimizer: Optimizer, weights: list[nn.Parameter], *, method: str, ratio: float, seed: int) -> None:
    """Set most of an optimizer's moments of some weights to zero.

    The same places are kept in all moments of a weight, so that no first moment is divided by a forgotten second one:
    the largest first moments (``magnitude``), or places drawn by ``seed`` (``random``). Where moments are not kept as
    plain numbers (8 bits), all of them are forgotten.

    Args:
        ratio: share that is forgotten.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        state = optimizer.state.get(weight, {})
        moments = [value for value in state.values() if torch.is_tensor(value) and value.numel() > 1]
        if not all(value.is_floating_point() and value.shape == weight.shape for value in moments):
            optimizer.state.pop(weight, None)
        elif moments:
            kept = _largest(moments[0], ratio) if method == "magnitude" else _drawn(moments[0], ratio, generator)
            for moment in moments:
                moment.mul_(kept)


def _largest(values: Tensor, ratio: float) -> Tensor:
    """True for all but the ``ratio`` of places with the smallest amounts."""
    forgotten = math.floor(ratio * values.numel())
    kept = torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    kept[values.abs().flatten().argsort(stable=True)[:forgotten]] = False
    return kept.view_as(values)


def _drawn(values: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(values.shape, generator=generator) > ratio).to(values.device)


def restart_rate(scheduler: Any, *, every: int, warm_up: int, anneal: int, name: str) -> None:
    """Let the learning rate of a schedule begin anew every so many steps; the schedule itself goes on.

    Args:
        every: steps between two beginnings.
        warm_up: steps of the linear rise after each but the first, which is the schedule's own.
        anneal: steps of the linear fall before each.
        name: of the schedule, for the error.

    Raises:
        ConfigError: the schedule is made otherwise than by a factor for each step.
    """
    if not isinstance(scheduler, LambdaLR):
        raise ConfigError(
            f"lr_restart_steps = {every} with lr_scheduler_type = {name}: this schedule does not say its rate step by "
            "step, so that it cannot be begun anew. Use cosine, linear or constant, or leave lr_restart_steps out."
        )
    scheduler.lr_lambdas = [
        partial(_factor, shape=shape, every=every, warm_up=warm_up, anneal=anneal) for shape in scheduler.lr_lambdas
    ]


def _factor(step: int, *, shape: Callable[[int], float], every: int, warm_up: int, anneal: int) -> float:
    return shape(step) * restart_scale(step, every=every, warm_up=warm_up, anneal=anneal)


def restart_scale(step: int, *, every: int, warm_up: int, anneal: int) -> float:
    """What the rate of a step is multiplied by: 1, but between LOWEST and 1 around a restart."""
    since = step % every
    if step < every - anneal:
        return 1.0
    if step >= every and since < warm_up:
        share = since / warm_up
    elif since > every - anneal:
        share = (every - since) / anneal
    else:
        share = 1.0
    return share * (1 - LOWEST) + LOWEST


def rate_restarts(config: SFTConfig) -> dict[str, int] | None:
    """Arguments of ``restart_rate`` that a config asks for."""
    if config.lr_restart_steps is None:
        return None
    return {
        "every": config.lr_restart_steps,
        "warm_up": config.lr_restart_warmup_steps,
        "anneal": config.lr_restart_anneal_steps,
    }


def adapter_restarts(model: nn.Module, config: SFTConfig) -> AdapterRestarts | None:
    """The callback a config asks for.

    Raises:
        ModelError: an adapter on an embedding cannot be set aside.
    """
    if config.relora_steps is None:
        return None
    adapted_layers(model)
    return AdapterRestarts(
        steps=config.relora_steps,
        method=config.relora_prune_method,
        ratio=config.relora_prune_ratio,
        seed=config.seed,
    )


def refuse_restarts_in_pieces(config: SFTConfig, strategy: str) -> None:
    """Raise ConfigError for adapters that begin anew where weights or moments are shared out."""
    if config.relora_steps is not None and strategy not in (ALONE, DDP):
        raise ConfigError(
            f"relora_steps = {config.relora_steps} under {strategy}: matrices and moments that are shared out cannot "
            "be begun anew. Use one process or DDP, or leave it out."
        )
