"""Mixtures of experts: their weights in few bits, and the loss that has them used evenly.

The experts of a layer are three-dimensional weights without a linear layer around them, so that neither bitsandbytes'
replacement of linear layers nor ``target_modules`` reaches them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from sft.errors import ModelError


class EightBitRows(nn.Module):
    """Rows of whole numbers from -127 to 127 and a scale for each; calling it gives the weight."""

    def __init__(self, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, packed: Tensor) -> Tensor:
        """int8 (..., rows, columns) -> the weight in the precision of the scales (..., rows, 1)."""
        scales = self.get_buffer("scales")
        return packed.to(scales.dtype) * scales


def quantise_experts(model: nn.Module, *, bits: int, kind: str = "nf4", double: bool = True) -> int:
    """Hold every three-dimensional weight in few bits; it is unpacked where it is used. Gives their number.

    Args:
        bits: 4 or 8.
        kind: nf4 or fp4. Without meaning for 8.
        double: whether the scales of 4-bit blocks are held in 8 bits themselves.

    Raises:
        ModelError: there is none.
    """
    found = [
        (module, name)
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == 3 and weight.is_floating_point()
    ]
    if not found:
        raise ModelError("quantize_experts: the model has no experts that stand in one weight. Leave it out")
    for module, name in found:
        if bits == 4:
            _pack_in_4_bits(module, name, kind=kind, double=double)
        else:
            _pack_in_8_bits(module, name)
    return len(found)


def _pack_in_4_bits(module: nn.Module, name: str, *, kind: str, double: bool) -> None:
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    replace_parameter_4bit(module, name, compress_statistics=double, quant_type=kind)
    packed: Any = getattr(module.parametrizations, name)
    packed.original.quant_state = packed[0].quant_state  # so that its elements can be counted


def _pack_in_8_bits(module: nn.Module, name: str) -> None:
    weight: Tensor = getattr(module, name).data
    scales = weight.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    packed = nn.Parameter((weight / scales).round().to(torch.int8), requires_grad=False)
    setattr(module, name, packed)
    register_parametrization(module, name, EightBitRows(scales), unsafe=True)


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
