"""Layers that hold their weights in few bits, as bitsandbytes does, for a model without content.

bitsandbytes cannot quantise what has no content. These take its place: the same bytes at rest, and a weight in full for
as long as a product takes, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrize import register_parametrization

from sft.models.quantization import Quantization

BLOCK = 64
"""4-bit weights that share a scale."""

DOUBLE_BLOCK = 256
"""Scales that share a scale, where they are held in 8 bits themselves."""


def scale_bytes(elements: int, *, double: bool) -> int:
    """Bytes of the scales of 4-bit weights (float32, or 8 bits with a float32 for each block of them)."""
    blocks = -(-elements // BLOCK)
    return blocks + 4 * (-(-blocks // DOUBLE_BLOCK) + DOUBLE_BLOCK + 1) if double else 4 * blocks


class FewBitsLinear(nn.Linear):
    """A frozen linear layer whose weight is held in 4 or 8 bits."""

    def __init__(self, layer: nn.Linear, quantization: Quantization) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self.full_dtype = layer.weight.dtype
        elements = layer.weight.numel()
        four = quantization.bits == 4
        rows = -(-elements // 2) if four else elements
        scales = scale_bytes(elements, double=quantization.double) if four else 4 * self.out_features
        device = layer.weight.device
        self.weight = nn.Parameter(torch.empty(rows, 1, dtype=torch.uint8, device=device), requires_grad=False)
        self.register_buffer("scales", torch.empty(scales, dtype=torch.uint8, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the precision of ``x``."""
        done: Tensor = _Product.apply(x, self.weight, (self.out_features, self.in_features), self.full_dtype)  # type: ignore[no-untyped-call]
        return done if self.bias is None else done + self.bias.to(done.dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        ctx.packed, ctx.shape, ctx.dtype = packed, shape, dtype
        return x @ packed.new_empty(shape, dtype=dtype).to(x.dtype).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        full = ctx.packed.new_empty(ctx.shape, dtype=ctx.dtype)
        return gradient @ full.to(gradient.dtype), None, None, None


def hold_in_few_bits(model: nn.Module, quantization: Quantization, *, whole: tuple[str, ...]) -> None:
    """Put ``FewBitsLinear`` in the place of every linear layer but those whose last name is in ``whole``."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and name not in whole:
                setattr(parent, name, FewBitsLinear(child, quantization))


class _Unpacked(nn.Module):
    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype

    def forward(self, packed: Tensor) -> Tensor:
        return packed.new_empty(self.shape, dtype=self.dtype)


def hold_experts_in_few_bits(model: nn.Module, *, bits: int) -> None:
    """Hold every three-dimensional weight in few bits; it is unpacked in full wherever it is used."""
    found = [
        (module, name, weight)
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == 3
    ]
    for module, name, weight in found:
        size = weight.numel() // 2 + scale_bytes(weight.numel(), double=True) if bits == 4 else weight.numel()
        packed = torch.empty(size, dtype=torch.uint8, device=weight.device)
        setattr(module, name, nn.Parameter(packed, requires_grad=False))
        register_parametrization(module, name, _Unpacked(weight.shape, weight.dtype), unsafe=True)
