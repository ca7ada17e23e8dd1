"""Rows in the order of the data: a step's loss is transformers' own on the next rows of the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.dataset import SFTDataset
from sft.training.run import run_training

STILL = {"learning_rate": 1e-12, "max_steps": 7, "train_sampling_strategy": "sequential"}
"""Weights stay as they are, so that a step's loss tells its rows: five steps see all forty, two more begin anew."""


def row_losses(settings: dict[str, Any]) -> list[tuple[float, int]]:
    """Summed loss and trained tokens of each row of the file, by transformers."""
    folder = settings["model_name_or_path"]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = SFTDataset(
        settings["data_path"], AutoTokenizer.from_pretrained(folder), max_length=128, cache_dir=settings["cache_dir"]
    )
    found = []
    for row in rows:
        batch: dict[str, Tensor] = {name: values[None] for name, values in row.items()}
        count = int((batch["labels"][:, 1:] != -100).sum())
        with torch.no_grad():
            found.append((float(model(**batch).loss) * count, count))
    return found


def mean(rows: list[tuple[float, int]]) -> float:
    return sum(loss for loss, _ in rows) / sum(count for _, count in rows)


def test_steps_see_the_rows_in_their_order_again_and_again(train: Callable[..., Any], settings: dict[str, Any]) -> None:
    rows = row_losses(settings)
    expected = [mean(rows[start : start + 8]) for start in (0, 8, 16, 24, 32, 0, 8)]
    assert train("run", **STILL).losses == pytest.approx(expected, rel=1e-5)


def test_a_resumed_run_goes_on_in_the_order(
    train: Callable[..., Any], read_run: Callable[..., Any], settings: dict[str, Any]
) -> None:
    changes = {"train_sampling_strategy": "sequential", "packing": True, "per_device_train_batch_size": 2}
    straight = train("run", **changes)
    for name in ("checkpoint-4", "checkpoint-6", "final_model"):
        shutil.rmtree(straight.folder / name)
    again = train("run", **changes)
    assert again.losses == straight.losses
    assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights)


def test_another_order_is_another_run(train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path) -> None:
    folder = train("run", max_steps=2, train_sampling_strategy="sequential").folder
    with pytest.raises(ConfigError, match=r"order \(was sequential, is random\)"):
        run_training(SFTConfig(**{**settings, "output_dir": str(folder)}))
