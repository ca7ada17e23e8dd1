"""Products of float32 matrices on a CPU, by the quicker of the two libraries that PyTorch brings along.

On x86 PyTorch multiplies float32 matrices with MKL, which on AMD's processors takes its code for registers of 256 bits.
oneDNN takes that for 512 bits wherever there are such registers, and is about twice as quick there (docs/speed.md).
Both add up in float32, in another order.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sft.errors import ConfigError

FEWEST_PRODUCTS = 1 << 22
"""Multiplications from which on a call of oneDNN is worth its start."""


def multiply_quickly(model: nn.Module, asked: str = "auto") -> bool:
    """Have a model's linear layers multiply by oneDNN where that is asked for, or known to be quicker; whether it is.

    Names, weights and gradients of the layers stay as they are.

    Args:
        asked: the option ``cpu_matmul``.

    Raises:
        ConfigError: this PyTorch has no oneDNN.
    """
    if asked == "onednn" and not has_onednn():
        raise ConfigError(
            "cpu_matmul = onednn, but this PyTorch was built without oneDNN (torch.backends.mkldnn.is_available() is "
            "false). Set cpu_matmul: auto."
        )
    if asked == "pytorch" or (asked == "auto" and not onednn_is_quicker()):
        return False
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
    return True


@cache
def onednn_is_quicker() -> bool:
    """Whether this is a processor of AMD's with registers of 512 bits, and a PyTorch with both libraries."""
    return (
        has_onednn()
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in processors()
    )


def has_onednn() -> bool:
    """Whether this PyTorch was built with oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def processors() -> str:
    """What the system tells of its processors."""
    told = Path("/proc/cpuinfo")
    return told.read_text(encoding="utf-8", errors="replace") if told.exists() else platform.processor()


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` with oneDNN's products where they are of float32, on a CPU and large; else as it always was."""

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Linear``: (..., in) -> (..., out)."""
        if self.takes(input):
            made: Tensor = _Linear.apply(input.contiguous(), self.weight, self.bias)  # type: ignore[no-untyped-call]
            return made
        return super().forward(input)

    def takes(self, states: Tensor) -> bool:
        """Whether oneDNN multiplies these, (..., in)."""
        return (
            states.numel() * self.out_features >= FEWEST_PRODUCTS
            and states.dtype is torch.float32 is self.weight.dtype
            and states.device.type == "cpu"
            and self.weight.is_contiguous()
            and not torch.is_autocast_enabled("cpu")
        )


class _Linear(torch.autograd.Function):
    """A product of oneDNN's and its gradients, which are products as well."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for_states, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(states if for_weight else None, weight if for_states else None)
        return product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        above = above.contiguous()
        rows = above.flatten(0, -2)
        return (
            None if weight is None else product(above, weight.T),
            None if states is None else weight_gradient(rows, states.flatten(0, -2)),
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a @ b.T + bias`` by oneDNN, in float32: (..., k) and (columns, k) -> (..., columns).

    Both have to be contiguous, or the transpose of what is: of other layouts oneDNN makes a hundred times the work.
    """
    return compiled_product(a, b, bias) if torch.compiler.is_compiling() else _product(a, b, bias)


def _product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return made


compiled_product = torch.library.custom_op("sft::product", _product, mutates_args=())
"""The same, not looked into by torch.compile, whose own rule for oneDNN knows constant weights only."""


@compiled_product.register_fake
def _shape_of_product(a: Tensor, b: Tensor, _bias: Tensor | None) -> Tensor:
    return a.new_empty(*a.shape[:-1], b.shape[0])


def weight_gradient(above: Tensor, states: Tensor) -> Tensor:
    """``above.T @ states``: (rows, out) and (rows, in) -> (out, in). oneDNN is quick where its result is wide."""
    if states.shape[1] <= above.shape[1]:
        return product(states.T, above.T).T
    return product(above.T, states.T)
