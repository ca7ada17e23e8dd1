"""Quantisation-aware training: weights and inputs of linear layers rounded in every forward pass, as they will be when
the saved model is quantised. Gradients pass the rounding as if it were not there.

The rounding is torchao's own, so that quantising the saved model by torchao gives the model that was trained; ternary
weights are BitNet b1.58's (https://arxiv.org/abs/2402.17764). Nothing of it needs a GPU that computes in the format:
what is rounded is multiplied in the precision of the run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from sft.config import SFTConfig
from sft.config.fewer_bits import QAT_GROUPS
from sft.errors import ModelError
from sft.models.load import explain_load_failure

Round = Callable[[Tensor], Tensor]

NAMED = 4
"""Layers that an error names."""


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


def rounding_of(config: SFTConfig) -> Rounding | None:
    """What a configuration asks for; None: nothing is rounded."""
    if config.qat_weight_dtype is None:
        return None
    usual = QAT_GROUPS.get((config.qat_weight_dtype, config.qat_activation_dtype))
    return Rounding(
        weights=config.qat_weight_dtype,
        activations=config.qat_activation_dtype,
        group_size=usual if config.qat_group_size is None else config.qat_group_size,
        embedding=config.qat_embedding,
        head=config.qat_output_head,
        start_step=config.qat_start_step,
    )


class RoundedLinear(nn.Linear):
    """A linear layer whose weight and input are rounded while ``rounds`` is true. Its weight is the one it was."""

    rounds: bool
    round_weight: Round
    round_input: Round | None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not self.rounds:
            return super().forward(input)
        shown = input if self.round_input is None else self.round_input(input)
        return functional.linear(shown, self.round_weight(self.weight), self.bias)


class RoundedEmbedding(nn.Embedding):
    """An embedding whose rows are rounded while ``rounds`` is true."""

    rounds: bool
    round_weight: Round

    def forward(self, input: Tensor) -> Tensor:
        """int64 (...) to (..., width)."""
        if not self.rounds:
            return super().forward(input)
        return functional.embedding(input, self.round_weight(self.weight), self.padding_idx)


def round_layers(model: Any, rounding: Rounding) -> int:
    """Make the linear layers of a model round, in place: same weights, same names. Returns how many do.

    Raises:
        ModelError: a layer's width is no multiple of the group size, or torchao is not installed.
    """
    require_library(rounding)
    check_widths(model, rounding)
    round_weight, round_input = weight_rounding(rounding), input_rounding(rounding)
    chosen: list[Any] = [layer for _, layer in _linear_layers(model, rounding)]
    for layer in chosen:
        layer.__class__ = RoundedLinear  # a new layer would draw new weights first, and lose what shards them
        layer.round_weight, layer.round_input = round_weight, round_input
    if rounding.embedding:
        embedding = model.get_input_embeddings()
        embedding.__class__ = RoundedEmbedding
        embedding.round_weight = round_weight
    set_rounding(model, on=rounding.start_step == 0)
    return len(chosen)


def set_rounding(model: nn.Module, *, on: bool) -> None:
    """Switch the rounding of every layer."""
    for module in model.modules():
        if isinstance(module, RoundedLinear | RoundedEmbedding):
            module.rounds = on


def require_library(rounding: Rounding) -> None:
    """Raise ModelError where the library that rounds is not installed."""
    if rounding.weights != "ternary" and importlib.util.find_spec("torchao") is None:
        raise ModelError(
            f"qat_weight_dtype = {rounding.weights}: weights are rounded by torchao, which is not installed. Install "
            'it (pip install "sft-kit[torchao]"), or leave the qat options out.'
        )


def refuse_unroundable(config: SFTConfig) -> None:
    """See from the model's config alone that its layers can be rounded as asked.

    Raises:
        ModelError: the library is not there, the model cannot be found, or a width is no multiple of the group size.
    """
    rounding = rounding_of(config)
    if rounding is None:
        return
    require_library(rounding)
    name, allowed = config.model_name_or_path, {"trust_remote_code": config.trust_remote_code}
    try:
        found = AutoConfig.from_pretrained(name, revision=config.model_revision, **allowed)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(found, **allowed)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error
    check_widths(model, rounding)


def check_widths(model: Any, rounding: Rounding) -> None:
    """Raise ModelError for a model without linear layers, or with one that its groups do not fill."""
    layers = list(_linear_layers(model, rounding))
    if not layers:
        raise ModelError(
            f"qat_weight_dtype = {rounding.weights}: {type(model).__name__} has no linear layer that could be rounded."
        )
    if rounding.group_size is None:
        return
    widths = [(name, layer.in_features) for name, layer in layers]
    if rounding.embedding:
        widths.append(("the embedding", model.get_input_embeddings().embedding_dim))
    odd = [f"{name} ({width})" for name, width in widths if width % rounding.group_size]
    if odd:
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise ModelError(
            f"groups of {rounding.group_size} weights (qat_group_size, or what {rounding.weights} prescribes) do not "
            f"fill the rows of {', '.join(odd[:NAMED])}{more}. Choose a qat_group_size that divides these widths, or "
            "another qat_weight_dtype."
        )


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


def _linear_layers(model: Any, rounding: Rounding) -> Iterator[tuple[str, nn.Linear]]:
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if type(module) is nn.Linear and (rounding.head or module is not head):
            yield name, module
