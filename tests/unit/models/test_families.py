"""What is written of model families is what their code and PEFT do: seen on small random models of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from sft.data.types import Example, Source
from sft.errors import ConfigError, ModelError
from sft.export.save import quiet_peft
from sft.models.families import LORA_LIMITS, UNPACKABLE, limit_targets, missing_kernels, model_type_of, refuse_packing
from sft.training.isolation import prove_isolation

SHAPE = {"vocab_size": 100, "hidden_size": 32}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
TWO = {**SHAPE, "num_hidden_layers": 2}
STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", {**TWO, "state_size": 4}),
    "falcon_mamba": ("FalconMamba", {**TWO, "state_size": 4}),
    "mamba2": ("Mamba2", {**TWO, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
    "falcon_h1": ("FalconH1", {**TWO, **HEADS, **STATE, "mamba_d_ssm": 64, "head_dim": 8}),
    "bamba": ("Bamba", {**TWO, **HEADS, **STATE, "attn_layer_indices": [1]}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {**TWO, **HEADS, **STATE, "layer_types": ["mamba", "attention"], "num_local_experts": 2,
         "num_experts_per_tok": 1, "shared_intermediate_size": 64},
    ),
    "jamba": (
        "Jamba",
        {**TWO, **HEADS, "mamba_d_state": 4, "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
         "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1},
    ),
    "zamba2": (
        "Zamba2",
        {**TWO, **HEADS, "mamba_d_state": 8, "n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 1,
         "chunk_size": 8, "num_mem_blocks": 1, "attention_head_dim": 16, "layers_block_type": ["mamba", "hybrid"]},
    ),
    "nemotron_h": (
        "NemotronH",
        {**SHAPE, **HEADS, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1,
         "chunk_size": 8, "head_dim": 8, "layers_block_type": ["mamba", "attention"]},
    ),
    "recurrent_gemma": (
        "RecurrentGemma",
        {**SHAPE, **HEADS, "num_hidden_layers": 3, "num_key_value_heads": 1, "lru_width": 32, "head_dim": 8},
    ),
    "qwen3_next": (
        "Qwen3Next",
        {**TWO, **HEADS, "head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
         "linear_num_key_heads": 2, "linear_num_value_heads": 4, "num_experts": 2, "num_experts_per_tok": 1,
         "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
         "layer_types": ["linear_attention", "full_attention"]},
    ),
    "qwen3_5_text": (
        "Qwen3_5",
        {**TWO, **HEADS, "head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
         "linear_num_key_heads": 2, "linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"]},
    ),
    "minimax": ("MiniMax", {**TWO, **HEADS, "head_dim": 8, "num_local_experts": 2}),
    "lfm2": ("Lfm2", {**TWO, **HEADS, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8}),
    "bloom": ("Bloom", {**SHAPE, "n_layer": 2, "n_head": 2}),
    "mpt": ("Mpt", {"vocab_size": 100, "d_model": 32, "n_layers": 2, "n_heads": 2}),
}  # fmt: skip
UNSEEN = {"zamba", "rwkv", "xlstm", "lfm2_moe", "qwen3_5_moe_text", "olmo_hybrid", "kimi_linear"}
"""Not built here: their smallest models need more than a few lines."""


def make_model(family: str, scale: float = 1.0) -> Any:
    name, shape = MODELS[family]
    torch.manual_seed(0)
    kind = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
    model = getattr(transformers, f"{name}ForCausalLM")(kind(**shape))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)  # random weights of the usual size hardly mix positions
    return model


def test_every_family_is_seen_or_named_as_unseen() -> None:
    assert UNPACKABLE.keys() | LORA_LIMITS.keys() == MODELS.keys() | UNSEEN


@pytest.mark.parametrize("family", MODELS)
def test_families_that_are_refused_do_leak(family: str) -> None:
    rng = np.random.default_rng(0)
    witnesses = [
        Example(
            input_ids=rng.integers(3, 100, length, dtype=np.int32),
            loss_mask=np.array([0] + [1] * (length - 1), np.uint8),
            text="",
            source=Source("made", length),
        )
        for length in (17, 23)
    ]
    model = make_model(family, scale=3.0)
    assert model_type_of(model.config) == family
    assert not prove_isolation(model, witnesses, pad_token_id=0).proven
    with pytest.raises(ConfigError, match=f"family '{family}'"):
        refuse_packing(model.config)


def test_a_family_that_keeps_examples_apart_may_be_packed() -> None:
    refuse_packing(transformers.LlamaConfig())


def adapt(model: Any, targets: Any) -> Any:
    with quiet_peft():
        return get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")).train()


def gradients(model: Any, targets: str | list[str] | None) -> dict[str, float]:
    """Largest gradient of each adapted layer's B matrix; the A matrices have none before the first step."""
    adapted = adapt(model, targets)
    ids = torch.arange(40).reshape(2, 20)
    adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found: dict[str, float] = {}
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None
            layer = name.split(".lora_B")[0].rpartition(".")[2]
            found[layer] = max(found.get(layer, 0.0), parameter.grad.abs().max().item())
    return found


@pytest.mark.parametrize("asked", [None, "all-linear"])
@pytest.mark.parametrize("family", LORA_LIMITS)
def test_the_targets_of_a_family_all_learn(family: str, asked: str | None) -> None:
    model = make_model(family)
    targets, notes = limit_targets(model, asked, fused=False)
    found = gradients(model, targets)
    assert found
    assert all(gradient > 0 for gradient in found.values())
    limits = LORA_LIMITS[family]
    linear = {name.rpartition(".")[2] for name, module in make_model(family).named_modules() if is_linear(module)}
    left = linear & {*limits.refused, *limits.unread}
    assert not left & found.keys()
    assert all(name in notes[0] for name in left)
    fused, _ = limit_targets(make_model(family), asked, fused=True)
    assert isinstance(fused, list)
    assert not {name.rpartition(".")[2] for name in fused} & {*limits.fused, *limits.unread, *limits.refused}


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba", "mamba2", "falcon_h1", "nemotron_h"])
def test_what_is_left_out_is_what_peft_refuses(family: str) -> None:
    for target in LORA_LIMITS[family].refused:
        with pytest.raises(ValueError, match="incompatible with Mamba"):
            get_peft_model(make_model(family), LoraConfig(target_modules=[target]))
        targets, [note] = limit_targets(make_model(family), ["in_proj", target], fused=False)
        assert targets == ["in_proj"]
        assert f"left out of target_modules: {target}" in note
        assert family in note
        with pytest.raises(ModelError, match=f"nothing but {target}.*Choose among: .*in_proj"):
            limit_targets(make_model(family), [target], fused=False)
    with pytest.raises(ValueError, match="incompatible with Mamba"):
        get_peft_model(make_model(family), LoraConfig(target_modules="all-linear"))


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba", "jamba"])
def test_a_layer_that_is_never_called_is_refused_by_name(family: str) -> None:
    adapted = adapt(make_model(family), ["in_proj", "dt_proj"])
    ids = torch.arange(20)[None]
    adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    dead = [parameter.grad for name, parameter in adapted.named_parameters() if "dt_proj.lora_" in name]
    assert dead
    assert all(gradient is None for gradient in dead)
    for asked in (["in_proj", "dt_proj"], r".*\.(in|dt)_proj"):
        with pytest.raises(ModelError, match=f"names dt_proj, but a LoRA there learns nothing: '{family}'"):
            limit_targets(make_model(family), asked, fused=False)


@pytest.mark.parametrize(("family", "layer"), [("mamba", "x_proj"), ("granitemoehybrid", "out_proj")])
def test_a_layer_past_which_the_kernels_read_is_refused_where_they_run(family: str, layer: str) -> None:
    model = make_model(family)
    assert limit_targets(model, ["in_proj", layer], fused=False) == (["in_proj", layer], [])
    with pytest.raises(ModelError, match=f"names {layer}.*kernels of mamba_ssm.*uninstall mamba_ssm"):
        limit_targets(model, ["in_proj", layer], fused=True)


def test_a_pattern_loses_the_layers_that_peft_refuses() -> None:
    targets, [note] = limit_targets(make_model("mamba"), r".*\.(in|out)_proj", fused=False)
    assert targets == ["backbone.layers.0.mixer.in_proj", "backbone.layers.1.mixer.in_proj"]
    assert "out_proj" in note


def test_other_families_get_what_was_asked_for() -> None:
    config = transformers.LlamaConfig(**TWO, **HEADS)
    model = transformers.LlamaForCausalLM(config)
    for asked in (None, "all-linear", ["q_proj"], r".*\.q_proj", ["dt_proj"]):
        assert limit_targets(model, asked) == (asked, [])
    assert limit_targets(nn.Linear(2, 2), ["q_proj"]) == (["q_proj"], [])
    assert missing_kernels(config) is None


def test_missing_kernels_are_named_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_model("mamba").config
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert missing_kernels(config) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "mamba_ssm and causal_conv1d would be faster" in str(missing_kernels(config))
