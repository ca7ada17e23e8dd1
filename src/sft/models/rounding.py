"""Rounding a tensor as a format will, with the gradient of the tensor as it was.

It is torchao's own, so that quantising the saved model by torchao gives the model that was trained; ternary weights
are BitNet b1.58's (https://arxiv.org/abs/2402.17764). Nothing of it needs a GPU that computes in the format: what is
rounded is multiplied in the precision of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

Round = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What is rounded to which format."""

    weights: str
    """int4, int8, float8, mxfp4, nvfp4 or ternary."""

    activations: str | None = None
    """int8, float8, mxfp4, nvfp4; None: inputs are not rounded."""

    group_size: int | None = None
    """Weights of a row that share a scale. None: a whole row does (float8), or the matrix (ternary)."""

    embedding: bool = False
    head: bool = False
    start_step: int = 0

    def describe(self) -> str:
        """'rounded to int4 in groups of 32, inputs to int8 (QAT)', for people."""
        groups = f" in groups of {self.group_size}" if self.group_size else ""
        inputs = f", inputs to {self.activations}" if self.activations else ""
        start = f", from step {self.start_step} on" if self.start_step else ""
        return f"weights rounded to {self.weights}{groups}{inputs}{start} (QAT)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def weight_rounding(rounding: Rounding) -> Round:
    """What rounds a weight (out, in)."""
    if rounding.weights == "ternary":
        return _straight_through(_to_ternary)
    if rounding.weights == "mxfp4":
        return _straight_through(_to_mxfp4)
    if rounding.weights == "nvfp4":
        return _straight_through(_to_nvfp4)
    from torchao.quantization import qat  # an extra

    if rounding.weights == "float8":
        return _straight_through(qat.Float8FakeQuantizer(qat.Float8FakeQuantizeConfig()).forward)
    if rounding.activations == "float8":
        from torchao.quantization.qat.fake_quantize_config import Int4WeightFakeQuantizeConfig

        config = Int4WeightFakeQuantizeConfig(group_size=rounding.group_size)
        return _straight_through(qat.FakeQuantizerBase.from_config(config).forward)
    bits = getattr(torch, rounding.weights)  # torch.int4 is in no stub
    return _integers(qat, bits, group_size=rounding.group_size, is_symmetric=True)


def input_rounding(rounding: Rounding) -> Round | None:
    """What rounds the input of a layer (..., in); None: nothing does."""
    if rounding.activations is None:
        return None
    if rounding.weights == "ternary":
        return _straight_through(_to_int8_tokens)
    if rounding.activations == "mxfp4":
        return _straight_through(_to_mxfp4)
    if rounding.activations == "nvfp4":
        return _straight_through(_to_nvfp4)
    from torchao.quantization import qat  # an extra

    if rounding.activations == "float8":
        return _straight_through(qat.Float8FakeQuantizer(qat.Float8FakeQuantizeConfig()).forward)
    return _integers(qat, torch.int8, "per_token", is_symmetric=False)


class _Rounded(torch.autograd.Function):
    """What ``rounds`` makes of a tensor; its gradient is handed on as it is."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rounds: Round) -> Tensor:
        return rounds(tensor.detach()).to(tensor.dtype)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        return above, None


def _straight_through(rounds: Round) -> Round:
    def apply(tensor: Tensor) -> Tensor:
        rounded: Tensor = _Rounded.apply(tensor, rounds)  # type: ignore[no-untyped-call]
        return rounded

    return apply


def _integers(qat: Any, *args: Any, **kwargs: Any) -> Round:
    """torchao's rounding to integers, its scales in the precision of the tensor, as where it quantises for good.

    It has a gradient of its own: none for what is cut off at the end of the range. As a function the quantiser is no
    part of the layer, whose weights keep their names.
    """
    config = qat.IntxFakeQuantizeConfig(*args, scale_precision=None, **kwargs)
    rounds: Round = qat.IntxFakeQuantizer(config).forward
    return rounds


def _to_mxfp4(tensor: Tensor) -> Tensor:
    """Blocks of 32 with a power of two each."""
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    packed = MXTensor.to_mx(
        tensor.contiguous(), torch.float4_e2m1fn_x2, block_size=32, scaling_mode=ScaleCalculationMode.RCEIL
    )
    rounded: Tensor = packed.dequantize(tensor.dtype)
    return rounded


def _to_nvfp4(tensor: Tensor) -> Tensor:
    """Blocks of 16 with an 8-bit scale each, over one float32 scale for the tensor."""
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    flat = tensor.reshape(-1, tensor.shape[-1])
    packed = NVFP4Tensor.to_nvfp4(flat, per_tensor_scale=per_tensor_amax_to_scale(flat.abs().max()))
    rounded: Tensor = packed.dequantize(tensor.dtype)
    return rounded.view_as(tensor)


def _to_ternary(weight: Tensor) -> Tensor:
    """-1, 0 or 1 times the mean size of the matrix' weights."""
    exact = weight.float()
    scale = exact.abs().mean().clamp_min(1e-5)
    return (exact / scale).round().clamp(-1, 1) * scale


def _to_int8_tokens(tensor: Tensor) -> Tensor:
    """-128 to 127 times a scale for each token."""
    exact = tensor.float()
    scale = exact.abs().amax(dim=-1, keepdim=True).clamp_min(1e-5) / 127
    return (exact / scale).round().clamp(-128, 127) * scale
