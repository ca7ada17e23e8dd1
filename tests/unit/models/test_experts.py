"""Experts of a mixture: 4 bits, matrices of their own, the balancing loss, and weights that come in MXFP4."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, GptOssForCausalLM, MixtralConfig, MixtralForCausalLM

from sft.errors import ModelError
from sft.models.adapters import add_adapter, count_parameters
from sft.models.experts import balance_experts, balance_loss, quantise_experts
from sft.models.load import load_model
from sft.models.quantization import is_quantised

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOKENS = torch.arange(8)[None]


def mixture(**changed: Any) -> MixtralForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralForCausalLM(MixtralConfig(**sizes, **heads, **changed))


def test_experts_in_4_bits_are_the_experts_rounded() -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    model, rounded = mixture(), mixture()
    elements = count_parameters(model)[1]
    for weight in rounded.parameters():
        if weight.ndim == 3:
            packed, state = quantize_4bit(weight.data, quant_type="nf4", compress_statistics=True)
            weight.data = dequantize_4bit(packed, state)
    before = model(TOKENS).logits
    assert quantise_experts(model, bits=4) == 4
    assert torch.equal(model(TOKENS).logits, rounded(TOKENS).logits)
    assert not torch.equal(model(TOKENS).logits, before)
    packed = [parameter for parameter in model.parameters() if parameter.dtype == torch.uint8]
    assert len(packed) == 4
    assert count_parameters(model)[1] == elements
    assert not any(parameter.requires_grad for parameter in packed)


def test_experts_in_8_bits_are_within_half_a_step_of_each_row() -> None:
    model, exact = mixture(), mixture()
    before = exact(TOKENS).logits
    elements = count_parameters(model)[1]
    assert quantise_experts(model, bits=8) == 4
    rounded, weight = (one.model.layers[0].mlp.experts.down_proj for one in (model, exact))
    assert rounded.shape == weight.shape
    assert ((rounded - weight).abs() <= weight.abs().amax(-1, keepdim=True) / 127 * 0.5001).all()
    assert 0 < (model(TOKENS).logits - before).abs().max() < 0.05
    assert count_parameters(model)[1] == elements
    assert sum(parameter.dtype == torch.int8 for parameter in model.parameters()) == 4


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_learns_over_rounded_experts(bits: int) -> None:
    model = mixture()
    quantise_experts(model, bits=bits, double=False)
    adapted = add_adapter(model, r=2, alpha=4, dropout=0.0, target_modules=["q_proj"])
    adapted(TOKENS, labels=TOKENS).loss.backward()
    gradients = [p.grad.norm().item() for name, p in adapted.named_parameters() if "lora_B" in name]
    assert len(gradients) == 2
    assert all(norm > 0 for norm in gradients)


def test_a_model_without_experts_has_none_to_quantise_or_balance() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.config = SimpleNamespace()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="no experts"):
        quantise_experts(layer, bits=4)
    with pytest.raises(ModelError, match="no experts"):
        balance_experts(layer)


def test_weights_without_a_layer_get_matrices() -> None:
    adapted = add_adapter(
        mixture(), r=2, alpha=4, dropout=0.0, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj"]
    )
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert sum("experts" in name for name in trained) == 4
    adapted(TOKENS, labels=TOKENS).loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(ModelError, match=r"experts.up_proj not found.*mlp.experts.gate_up_proj"):
        add_adapter(mixture(), r=2, alpha=4, dropout=0.0, target_parameters=["experts.up_proj"])


def test_balancing_loss_is_the_one_transformers_adds() -> None:
    model = mixture(router_aux_loss_coef=0.5)
    plain = model(TOKENS, labels=TOKENS).loss
    assert balance_loss(model, model(TOKENS)) is None
    balance_experts(model)
    added = balance_loss(model, model(TOKENS))
    assert added is not None
    assert torch.isclose(plain + added, model(TOKENS, labels=TOKENS).loss)


def test_weights_in_mxfp4_become_weights_that_can_be_trained(tmp_path: Path) -> None:
    """Values of 4 bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; a scale of 2**(byte - 127) for each 32."""
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
    GptOssForCausalLM(GptOssConfig(**sizes, **heads)).to(torch.bfloat16).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name, rows in (("gate_up_proj", 64), ("down_proj", 32)):
        del weights[f"model.layers.0.mlp.experts.{name}"]
        weights[f"model.layers.0.mlp.experts.{name}_blocks"] = torch.full((2, rows, 1, 16), 0x97, dtype=torch.uint8)
        weights[f"model.layers.0.mlp.experts.{name}_scales"] = torch.full((2, rows, 1), 126, dtype=torch.uint8)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(str(tmp_path), dtype=torch.bfloat16)
    assert not is_quantised(model)
    experts = model.model.layers[0].mlp.experts
    assert experts.gate_up_proj.dtype == torch.bfloat16
    assert experts.gate_up_proj.unique().tolist() == [-0.25, 3.0]
    assert "quantization_config" not in model.config.to_dict()
