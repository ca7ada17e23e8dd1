"""The proof finds families whose packed documents see each other, and passes those whose documents do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from sft.data.types import Example, Source
from sft.training.isolation import prove_isolation


def witnesses() -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(
            input_ids=rng.integers(0, 100, length, dtype=np.int32),
            loss_mask=np.array([0] + [1] * (length - 1), np.uint8),
            text="",
            source=Source("made", length),
        )
        for length in (17, 23)
    ]


def llama(attention: str) -> Any:
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=2, n_positions=64))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=4))


def bloom() -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=2))


@pytest.mark.parametrize("build", [lambda: llama("sdpa"), lambda: llama("eager"), gpt2], ids=["sdpa", "eager", "gpt2"])
def test_attention_by_position_is_isolated(build: Any) -> None:
    torch.manual_seed(0)
    proof = prove_isolation(build(), witnesses(), pad_token_id=0)
    assert proof.proven, proof.why
    assert proof.joint_loss == pytest.approx(proof.separate_loss, rel=1e-6)


@pytest.mark.parametrize("build", [mamba, bloom])
def test_state_and_alibi_are_not(build: Any) -> None:
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # random weights of the default size hardly mix positions
    proof = prove_isolation(model, witnesses(), pad_token_id=0)
    assert not proof.proven
    assert "differs from" in proof.why or "refuses packed rows" in proof.why


def test_the_model_is_left_in_the_mode_it_was_in() -> None:
    model = gpt2().train()
    prove_isolation(model, witnesses(), pad_token_id=0)
    assert model.training
