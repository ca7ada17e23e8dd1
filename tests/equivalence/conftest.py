"""One small training run, as every equivalence test compares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file


@dataclass(frozen=True)
class Trained:
    """What a run logged and left."""

    losses: list[float]
    gradient_norms: list[float]
    weights: dict[str, torch.Tensor]
    folder: Path


def _read_run(folder: Path, weights: str = "final_model") -> Trained:
    """Losses and gradient norms in step order, and the saved weights."""
    from sft.training.metrics_file import read_metrics

    logged = [line for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]
    files = sorted((folder / weights).glob("*.safetensors"))
    return Trained(
        losses=[line["loss"] for line in logged],
        gradient_norms=[line["grad_norm"] for line in logged],
        weights={name: tensor for file in files for name, tensor in load_file(file).items()},
        folder=folder,
    )


@pytest.fixture
def read_run() -> Callable[..., Trained]:
    """Read what a run folder holds."""
    return _read_run


@pytest.fixture
def settings(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A config that trains six steps of eight rows in fp32."""
    return {
        "model_name_or_path": str(tiny_model_folder),
        "data_path": str(alpaca_file),
        "cache_dir": str(tmp_path / "cache"),
        "max_length": 128,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 2,
        "save_total_limit": None,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
    }


@pytest.fixture
def train(settings: dict[str, Any], tmp_path: Path) -> Callable[..., Trained]:
    """Train with some settings changed, in a folder of its own, in this process."""

    def run(name: str, **changes: Any) -> Trained:
        from sft.config import SFTConfig
        from sft.training.run import run_training

        folder = tmp_path / name
        run_training(SFTConfig(**{**settings, "output_dir": str(folder), **changes}))
        return _read_run(folder)

    return run
