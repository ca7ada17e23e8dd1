"""LoftQ: an adapter begins with what 4 bits lost, and is merged over 4 bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.export.adapter import read_adapter
from sft.export.quantised import load_over_quantised
from sft.models.loftq import WeightFiles
from sft.models.quantization import read_quantization
from sft.training.build_model import build_model
from sft.training.run import run_training

pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LOFTQ: dict[str, Any] = {
    "use_lora": True,
    "lora_r": 8,
    "lora_alpha": 4,
    "load_in_4bit": True,
    "bnb_4bit_use_double_quant": False,
    "init_lora_weights": "loftq",
}


def test_the_start_is_the_best_of_its_width_for_what_was_lost(tiny_model_folder: Path) -> None:
    """Eckart and Young: no product of that width leaves less than the singular values behind it."""
    import bitsandbytes.functional as bits

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    weights = load_file(tiny_model_folder / "model.safetensors")
    model = build_model(SFTConfig(**LOFTQ, model_name_or_path=str(tiny_model_folder)), tokenizer)
    layers = 0
    for name, module in model.base_model.model.named_modules():
        if not getattr(module, "lora_A", None):
            continue
        held = bits.dequantize_4bit(module.weight.data, module.weight.quant_state)
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        lost = (weights[f"{name}.weight"] - held).numpy()
        left = lost - (module.scaling["default"] * b @ a).detach().numpy()
        values = np.linalg.svd(lost, compute_uv=False)
        assert np.linalg.norm(left) == pytest.approx(np.linalg.norm(values[8:]), rel=1e-4)
        assert np.linalg.norm(left) < 0.9 * np.linalg.norm(lost)
        layers += 1
    assert layers == 14


def test_a_run_learns_resumes_and_merges_over_the_rounded_weights(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    asked = {**LOFTQ, "max_steps": 4, "merged_dir": "merged"}
    straight = train("straight", **asked)
    assert straight.losses[-1] < straight.losses[0] - 0.05
    folder = tmp_path / "resumed"
    shutil.copytree(straight.folder, folder)
    for left in ("checkpoint-4", "final_model", "merged"):
        shutil.rmtree(folder / left)
    run_training(SFTConfig(**{**settings, **asked, "output_dir": str(folder)}))
    for name in ("final_model/adapter_model.safetensors", "merged/model.safetensors"):
        assert (folder / name).read_bytes() == (straight.folder / name).read_bytes(), name
    record = json.loads((folder / "final_model" / "trained_quantization.json").read_text(encoding="utf-8"))
    assert record["matched"] is True

    held = read_quantization(folder / "final_model")
    assert held is not None
    adapted = load_over_quantised(read_adapter(folder / "final_model"), settings["model_name_or_path"], held)
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-4)


def test_a_weight_that_is_stored_otherwise_is_named(tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"hold no model\.layers\.7\.experts\.weight"):
        WeightFiles(str(tiny_model_folder), None).read("model.layers.7.experts.weight")
