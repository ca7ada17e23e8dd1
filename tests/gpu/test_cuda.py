"""What only a GPU can show: bf16, the library's own attention kernels, memory that is freed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sft.config import SFTConfig
from sft.training.callbacks import read_metrics
from sft.training.run import run_training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch.cuda.is_available() is False"),
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"packing": True},
        {"use_lora": True},
        {"gradient_checkpointing": True},
        {"use_lora": True, "load_in_4bit": True, "optim": "paged_adamw_32bit"},
        {"use_lora": True, "load_in_8bit": True},
    ],
    ids=["full", "packed", "lora", "checkpointed", "4bit", "8bit"],
)
def test_bf16_training_learns(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(alpaca_file),
        output_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
        max_length=128,
        max_steps=30,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=True,
        **changes,
    )
    run_training(config)
    losses = [line["loss"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl") if "loss" in line]
    # on a CPU: 0.28 of the first loss with every weight, 0.93 with an adapter beside frozen random embeddings
    assert losses[-1] < (0.95 if "use_lora" in changes else 0.8) * losses[0]


def test_bf16_starts_at_the_loss_of_fp32(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> None:
    first = {}
    for bf16 in (False, True):
        folder = tmp_path / str(bf16)
        config = SFTConfig(
            model_name_or_path=str(tiny_model_folder),
            data_path=str(alpaca_file),
            output_dir=str(folder),
            cache_dir=str(tmp_path / "cache"),
            max_length=128,
            max_steps=1,
            logging_steps=1,
            bf16=bf16,
        )
        run_training(config)
        first[bf16] = next(line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line)
    assert first[True] == pytest.approx(first[False], rel=1e-2)
