"""Adapters that begin as a part of the weights (PiSSA, OLoRA), saved so that they fit the original weights.

Such an adapter trains over W - s*B0*A0, not over W. What it learned, s*(B*A - B0*A0), is a plain LoRA of twice the
width: the matrices [A; A0] and [B, -B0].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

STARTS = ("pissa", "olora")
"""Initialisations that take their matrices out of the weights."""

_START = "_sft_start"


def changes_weights(initialisation: object) -> bool:
    """Whether an adapter with this ``init_lora_weights`` trains over other weights than the model's own."""
    return isinstance(initialisation, str) and initialisation.startswith(STARTS)


def is_drawn(initialisation: object) -> bool:
    """Whether the weights such an adapter trained over come from random numbers or data, and cannot be had again."""
    return isinstance(initialisation, str) and initialisation.startswith(("pissa_niter", "corda", "lora_ga"))


def saved_width(config: Any) -> int:
    """The width of the matrices that are saved of an adapter in training."""
    return int(config.r) * (2 if changes_weights(config.init_lora_weights) else 1)


def remember_start(model: Any) -> None:
    """Keep the matrices an adapter starts from, where they were taken out of the weights. Call it before training."""
    if any(changes_weights(config.init_lora_weights) for config in model.peft_config.values()):
        start = {name: value.detach().cpu().clone() for name, value in model.named_parameters() if is_matrix(name)}
        setattr(model, _START, start)


@contextmanager
def as_plain_lora(model: Any, state_dict: Mapping[str, Tensor] | None) -> Iterator[Mapping[str, Tensor] | None]:
    """The weights to save, and inside the block the config that belongs to them.

    Without a remembered start both are what they were.
    """
    start: dict[str, Tensor] | None = getattr(model, _START, None)
    if start is None:
        yield state_dict
        return
    weights = dict(model.state_dict() if state_dict is None else state_dict)
    for name, first in start.items():
        weights[name] = join(name, weights[name], first)
    kept = {name: dict(vars(config)) for name, config in model.peft_config.items()}
    try:
        for config in model.peft_config.values():
            widen(config)
        yield weights
    finally:
        for name, values in kept.items():
            vars(model.peft_config[name]).update(values)


def join(name: str, trained: Tensor, first: Tensor) -> Tensor:
    """[A; A0] or [B, -B0], in the trained matrix's precision."""
    dimension = joined_at(name)
    assert dimension is not None, "only matrices of an adapter are remembered"
    first = first.to(trained)
    return torch.cat([trained, -first if dimension == 1 else first], dim=dimension).contiguous()


def is_matrix(name: str) -> bool:
    """Whether a weight is an A or a B matrix."""
    return joined_at(name) is not None


def joined_at(name: str) -> int | None:
    """The dimension of the width: 0 in an A matrix, 1 in a B matrix, None for other weights."""
    if ".lora_A." in name or ".lora_embedding_A." in name:
        return 0
    return 1 if ".lora_B." in name or ".lora_embedding_B." in name else None


def widen(config: Any) -> None:
    """Twice the width at the same scale, and a start that leaves the weights alone."""
    factor = 2**0.5 if config.use_rslora else 2
    config.r *= 2
    config.lora_alpha *= factor
    config.rank_pattern = {name: 2 * width for name, width in config.rank_pattern.items()}
    config.alpha_pattern = {name: factor * alpha for name, alpha in config.alpha_pattern.items()}
    config.init_lora_weights = True
