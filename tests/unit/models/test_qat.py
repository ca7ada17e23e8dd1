"""Weights and inputs are rounded as torchao rounds them for good; ternary ones as transformers' BitNet layers do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from sft.errors import ModelError
from sft.models.qat import RoundedLinear, check_widths, round_layers, set_rounding
from sft.models.rounding import Rounding

torchao = pytest.importorskip("torchao", reason="the extra torchao is not installed")


class TwoLayers(nn.Module):
    """An embedding, a layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(24, 128)
        self.up = nn.Linear(128, 192)
        self.lm_head = nn.Linear(192, 24, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 (batch, seq) to (batch, seq, 24)."""
        return self.lm_head(self.up(self.embed(ids)))  # type: ignore[no-any-return]

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


class Headless(nn.Module):
    """Nothing that could be rounded."""

    def get_output_embeddings(self) -> None:
        return None


@pytest.fixture
def model() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers()


IDS = torch.arange(20).view(2, 10)


def quantised_for_good(model: nn.Module, weights: str, activations: str | None) -> nn.Module:
    """The layer ``up`` as torchao quantises it; where that needs another machine, as it prepares it for training."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Float8DynamicActivationInt4WeightConfig,
        Int8DynamicActivationIntxWeightConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        PerRow,
        quantize_,
    )
    from torchao.quantization.qat import QATConfig

    bits = getattr(torch, weights, None)
    config: Any
    if weights in ("int4", "int8") and activations == "int8":
        config = Int8DynamicActivationIntxWeightConfig(weight_dtype=bits, weight_granularity=PerGroup(32))
    elif weights in ("int4", "int8") and activations is None:
        config = IntxWeightOnlyConfig(weight_dtype=bits, granularity=PerGroup(32))
    elif weights == "float8":
        config = QATConfig(Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), step="prepare")
    elif weights == "int4":
        config = QATConfig(Float8DynamicActivationInt4WeightConfig(), step="prepare")
    elif weights == "nvfp4":
        from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

        config = NVFP4WeightOnlyConfig()
    else:
        from torchao.prototype.mx_formats import MXDynamicActivationMXWeightConfig
        from torchao.quantization.quantize_.common.kernel_preference import KernelPreference

        config = MXDynamicActivationMXWeightConfig(
            activation_dtype=torch.float4_e2m1fn_x2,
            weight_dtype=torch.float4_e2m1fn_x2,
            kernel_preference=KernelPreference.EMULATED,
        )
    model = copy.deepcopy(model)
    quantize_(model, config, filter_fn=lambda _, name: name == "up")
    return model


FORMS = [
    ("int4", None, 32),
    ("int8", None, 32),
    ("int4", "int8", 32),
    ("int8", "int8", 32),
    ("int4", "float8", 128),
    ("float8", "float8", None),
    ("nvfp4", None, 16),
]
HALF = [("mxfp4", "mxfp4", 32)]
"""torchao's own layer knows bfloat16 only."""


@pytest.mark.parametrize(
    ("dtype", "form"),
    [*((torch.float32, form) for form in FORMS), *((torch.bfloat16, form) for form in FORMS + HALF)],
    ids=str,
)
def test_the_forward_pass_is_that_of_the_quantised_model(
    model: TwoLayers, form: tuple[str, str | None, int | None], dtype: torch.dtype
) -> None:
    weights, activations, group_size = form
    model.to(dtype)
    plain = model(IDS)
    with torch.no_grad():
        theirs = quantised_for_good(model, weights, activations)(IDS)
    assert round_layers(model, Rounding(weights=weights, activations=activations, group_size=group_size)) == 1
    ours = model(IDS)
    assert torch.equal(ours, theirs)
    assert (ours - plain).norm() > 1e-3 * plain.norm()
    assert sorted(model.state_dict()) == ["embed.weight", "lm_head.weight", "up.bias", "up.weight"]


def test_gradients_pass_the_rounding(model: TwoLayers) -> None:
    """The weight's own gradient knows nothing of its rounding; what lies below it has learnt from rounded weights."""
    plain = copy.deepcopy(model)
    round_layers(model, Rounding(weights="nvfp4", group_size=16))
    for one in (model, plain):
        one(IDS).sum().backward()
    assert torch.allclose(model.up.weight.grad, plain.up.weight.grad)  # type: ignore[arg-type]
    assert not torch.allclose(model.embed.weight.grad, plain.embed.weight.grad)  # type: ignore[arg-type]


def test_nvfp4_inputs_are_rounded_block_by_block(model: TwoLayers) -> None:
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    inputs = model.embed(IDS).detach()
    flat = inputs.view(-1, 128)
    theirs = NVFP4Tensor.to_nvfp4(flat, per_tensor_scale=per_tensor_amax_to_scale(flat.abs().max())).dequantize()
    round_layers(model, Rounding(weights="nvfp4", activations="nvfp4", group_size=16))
    layer = model.up
    assert isinstance(layer, RoundedLinear)
    assert layer.round_input is not None
    assert torch.equal(layer.round_input(inputs).view(-1, 128), theirs.to(torch.float32))


def test_ternary_weights_are_those_of_bitnet(model: TwoLayers, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers compiles these functions; what they compute is below the compiler."""
    from transformers.integrations import bitnet

    context, inputs = None, model.embed(IDS).detach()
    weight = bitnet.WeightQuant.forward.__wrapped__(context, model.up.weight.detach().clone())
    shown = bitnet.ActQuant.forward.__wrapped__(context, inputs.clone())
    round_layers(model, Rounding(weights="ternary", activations="int8"))
    assert torch.allclose(model.up(inputs), nn.functional.linear(shown, weight, model.up.bias), atol=1e-6)
    rounded = model.up.round_weight(model.up.weight)  # type: ignore[operator]
    assert len(rounded.unique()) == 3


def test_head_and_embedding_are_rounded_where_asked(model: TwoLayers) -> None:
    rounding = Rounding(weights="int4", group_size=32, embedding=True, head=True)
    assert round_layers(model, rounding) == 2
    assert len(model.embed(torch.arange(24))[0, :32].unique()) <= 16
    assert isinstance(model.lm_head, RoundedLinear)


def test_rounding_begins_later_where_asked(model: TwoLayers) -> None:
    plain = model(IDS)
    round_layers(model, Rounding(weights="int8", group_size=32, start_step=3))
    assert torch.equal(model(IDS), plain)
    set_rounding(model, on=True)
    assert not torch.equal(model(IDS), plain)


def test_groups_that_do_not_fill_a_row_are_refused_with_the_layers(model: TwoLayers) -> None:
    with pytest.raises(ModelError, match=r"groups of 96 .* up \(128\)\. Choose a qat_group_size"):
        check_widths(model, Rounding(weights="int4", group_size=96))
    with pytest.raises(ModelError, match="no linear layer"):
        check_widths(Headless(), Rounding(weights="int4", group_size=96))
