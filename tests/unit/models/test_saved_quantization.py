"""Bases that were saved in few bits."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.saved_quantization import refuse_saved_quantization


def saved_as(folder: Path, target: Path, quantization: dict[str, Any]) -> SFTConfig:
    """An adapter over a model whose config says that its weights are quantised."""
    shutil.copytree(folder, target)
    described = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**described, "quantization_config": quantization}))
    return SFTConfig(model_name_or_path=str(target), use_lora=True)


@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is not None, reason="gptqmodel is installed")
def test_a_package_that_is_missing_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    config = saved_as(tiny_model_folder, tmp_path / "gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128})
    with pytest.raises(ModelError, match=r"is quantised \(gptq\), and cannot be loaded here\. .*(optimum|GPU)"):
        refuse_saved_quantization(config)


def test_a_method_that_transformers_does_not_know_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    config = saved_as(tiny_model_folder, tmp_path / "model", {"quant_method": "modelopt", "quant_algo": "NVFP4"})
    with pytest.raises(ModelError, match=r"is quantised \(modelopt\), and cannot be loaded here"):
        refuse_saved_quantization(config)


def test_options_that_quantised_weights_rule_out(tiny_model_folder: Path, tmp_path: Path) -> None:
    config = saved_as(tiny_model_folder, tmp_path / "model", {"quant_method": "gptq", "bits": 4})
    for changes, says in (
        ({"use_lora": False}, "quantised weights cannot be trained"),
        ({"load_in_4bit": True}, "is quantised already"),
        ({"merged_dir": "merged"}, "round the adapter away"),
    ):
        with pytest.raises((ConfigError, ModelError), match=says):
            refuse_saved_quantization(config.replace(**changes))


def test_what_bitsandbytes_saved_and_plain_weights_pass(tiny_model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
    refuse_saved_quantization(SFTConfig(model_name_or_path=str(tiny_model_folder)))
    held = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, quantization_config=held)
    folder = tmp_path / "held"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    refuse_saved_quantization(SFTConfig(model_name_or_path=str(folder), use_lora=True))
    with pytest.raises(ModelError, match=r"\(bitsandbytes\), and quantised weights cannot be trained"):
        refuse_saved_quantization(SFTConfig(model_name_or_path=str(folder)))
