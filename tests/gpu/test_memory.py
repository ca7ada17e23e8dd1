"""The estimate of memory beside what PyTorch gives out on a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sft.config import SFTConfig
from sft.training.run import run_training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch.cuda.is_available() is False"),
]


@pytest.fixture(scope="module")
def larger_model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizer beside a model whose figures are not drowned by fixed ones."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("larger-model")
    shape: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 6}
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=32_000, **shape, **heads)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bf16": True},
        {"bf16": True, "packing": True},
        {"bf16": True, "use_lora": True},
        {"bf16": True, "gradient_checkpointing": True},
        {"bf16": True, "use_lora": True, "load_in_4bit": True},
        {"bf16": True, "dtype": "bfloat16"},
    ],
    ids=["full", "bf16", "packed", "lora", "checkpointed", "4bit", "pure-bf16"],
)
def test_the_estimate_is_within_15_percent(larger_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    if changes.get("load_in_4bit"):
        pytest.importorskip("bitsandbytes")
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Count", "completion": " one two three four five" * (20 + number % 12)} for number in range(64)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = SFTConfig(
        model_name_or_path=str(larger_model),
        data_path=str(data),
        output_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
        max_length=512,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=3,
        save_strategy="no",
        overlong="cut_end",
        use_chat_template=False,
        **changes,
    )
    torch.cuda.empty_cache()
    run_training(config)
    memory = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["memory"]
    assert memory["estimate"]["peak_bytes"] == pytest.approx(memory["run_measured_bytes"], rel=0.15)
    assert memory["estimate"]["first_step_bytes"] == pytest.approx(memory["first_step_measured_bytes"], rel=0.15)
