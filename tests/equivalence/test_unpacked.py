"""Packing asked for where packed examples would see each other: refused, or batches by length in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM

from sft.cli.main import main
from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.run import run_training


@pytest.fixture
def leaking_model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A small LFM2, whose convolutions run on from one example into the next."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "block_multiple_of": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
    folder = tmp_path / "lfm2"
    Lfm2ForCausalLM(Lfm2Config(vocab_size=len(tokenizer), **shape, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_without_a_fallback_it_is_refused(settings: dict[str, Any], leaking_model: Path, tmp_path: Path) -> None:
    asked = {**settings, "model_name_or_path": str(leaking_model), "output_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="family 'lfm2' cannot keep packed examples apart"):
        run_training(SFTConfig(**asked, packing=True))


def test_a_packed_file_of_axolotl_trains_in_batches_by_length(
    leaking_model: Path, alpaca_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {
        "base_model": str(leaking_model),
        "datasets": [{"path": str(alpaca_file), "ds_type": "json", "type": "alpaca"}],
        "sequence_len": 128,
        "sample_packing": True,
        "micro_batch_size": 1,
        "num_epochs": 1,
        "learning_rate": 1e-2,
        "optimizer": "adamw_torch",
        "bf16": False,
        "logging_steps": 1,
        "dataset_prepared_path": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "run"),
    }
    file = tmp_path / "axolotl.yml"
    file.write_text(yaml.safe_dump(asked), encoding="utf-8")
    assert main(["train", str(file)]) == 0
    assert "batch of 128 tokens" in capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    values = {name: record["config"][name]["value"] for name in ("packing", "tokens_per_batch")}
    assert values == {"packing": False, "tokens_per_batch": 128}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
