"""Mixtures of experts: their weights in 4 bits, and the loss that has them used evenly.

The experts of a layer are three-dimensional weights without a linear layer around them, so that neither bitsandbytes'
replacement of linear layers nor ``target_modules`` reaches them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sft.errors import ModelError


def quantise_experts(model: nn.Module, *, kind: str, double: bool) -> int:
    """Hold every three-dimensional weight in 4 bits; it is unpacked where it is used. Gives their number.

    Args:
        kind: nf4 or fp4.
        double: whether the scales are held in 8 bits themselves.

    Raises:
        ModelError: there is none.
    """
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    found = [
        (module, name)
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == 3 and weight.is_floating_point()
    ]
    if not found:
        raise ModelError("quantize_experts: the model has no experts that stand in one weight. Leave it out")
    for module, name in found:
        replace_parameter_4bit(module, name, compress_statistics=double, quant_type=kind)
        packed: Any = getattr(module.parametrizations, name)
        packed.original.quant_state = packed[0].quant_state  # so that its elements can be counted
    return len(found)


def balance_experts(model: Any) -> None:
    """Let the model compute its balancing loss in each forward pass.

    Raises:
        ModelError: it has none.
    """
    if getattr(model.config, "router_aux_loss_coef", None) is None:
        raise ModelError("router_aux_loss: the model has no experts to use evenly. Leave it out")
    model.config.output_router_logits = True


def balance_loss(model: Any, outputs: Any) -> Tensor | None:
    """The balancing loss of a forward pass times its coefficient; None where it is not asked for."""
    config = getattr(model, "config", None)
    loss = getattr(outputs, "aux_loss", None)
    if loss is None or not getattr(config, "output_router_logits", False):
        return None
    weighted: Tensor = loss * config.router_aux_loss_coef  # type: ignore[union-attr]
    return weighted
