"""Quantised bases of families that read some weights past the layer that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from sft.models.load import load_model
from sft.models.quantization import Quantization

pytest.importorskip("bitsandbytes")

SHAPE: dict[str, Any] = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
FAMILIES = {
    "mamba": (
        lambda: MambaForCausalLM(MambaConfig(**SHAPE, tie_word_embeddings=True)),
        {"in_proj"},
        {"x_proj", "dt_proj", "out_proj", "lm_head"},
    ),
    "mamba2": (
        lambda: Mamba2ForCausalLM(Mamba2Config(**SHAPE, num_heads=8, head_dim=16, n_groups=1)),
        {"in_proj"},
        {"out_proj", "lm_head"},
    ),
}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_read_directly_stay_whole(family: str, bits: int, tmp_path: Path) -> None:
    make, quantised, whole = FAMILIES[family]
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path)
    held = load_model(str(tmp_path), quantization=Quantization(bits=bits)).eval()
    kinds: dict[str, set[str]] = {}
    for name, module in held.named_modules():
        if isinstance(module, torch.nn.Linear):
            kinds.setdefault(type(module).__name__, set()).add(name.rpartition(".")[2])
    assert kinds == {"Linear": whole, {4: "Linear4bit", 8: "Linear8bitLt"}[bits]: quantised}
    if bits == 4:
        put_rounded_weights(held, into=model)
    ids = torch.arange(24).view(1, -1)
    with torch.no_grad():
        one, other = model(ids).logits, held(ids).logits
    torch.testing.assert_close(other, one, atol=1e-4 if bits == 4 else 0.1, rtol=0)


def put_rounded_weights(held: Any, *, into: Any) -> None:
    """The weights of the 4-bit layers, as bitsandbytes itself gives them back."""
    from bitsandbytes.functional import dequantize_4bit

    for name, module in held.named_modules():
        if type(module).__name__ == "Linear4bit":
            into.get_submodule(name).weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state)


def test_other_families_keep_the_head_alone() -> None:
    assert Quantization(bits=4).to_bitsandbytes(torch.float32).llm_int8_skip_modules is None
