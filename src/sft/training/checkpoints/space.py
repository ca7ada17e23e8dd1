"""Whether the disk takes the checkpoints of a run, looked at before its first step."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from torch import nn
from transformers import TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.checkpoints.layout import checkpoint_folders

STATES = {"adamw": 2, "adam": 2, "sgd": 1, "adafactor": 0.1, "lion": 1, "rmsprop": 1, "adagrad": 1}
"""Numbers that an optimizer keeps for each one it trains, by a part of its name; 2 for any other."""
SMALL = 16 << 20
"""Bytes of a checkpoint besides weights and optimizer: a tokenizer, random states, history."""


def require_space(config: SFTConfig, model: nn.Module, *, num_saves: int) -> None:
    """Refuse a run whose checkpoints the disk of output_dir cannot take.

    One more than are kept must fit, for a new one is written before the oldest goes. Checkpoints that lie there already
    count as room.

    Args:
        num_saves: checkpoints that the run will write.

    Raises:
        ConfigError: with the estimate.
    """
    if num_saves == 0:
        return
    folder = Path(config.output_dir)
    each = checkpoint_bytes(model, config.optim)
    kept = num_saves if config.save_total_limit is None else min(config.save_total_limit + 1, num_saves)
    needed = each * kept + weight_bytes(model)
    there = sum(folder_bytes(path) for path in checkpoint_folders(folder))
    free = shutil.disk_usage(folder).free
    if free + there < needed:
        raise ConfigError(
            f"output_dir {str(folder)!r} has {gib(free)} free and this run will need about {gib(needed)} at once: "
            f"{kept} checkpoints of {gib(each)} and the trained model (save_total_limit {config.save_total_limit}, and "
            "one more while it is written). Free some space, choose another disk, keep fewer with --save_total_limit, "
            "or write only weights with --save_only_model true (such a checkpoint cannot be gone on from)."
        )


def num_saves(args: TrainingArguments, steps: int, steps_per_epoch: int) -> int:
    """Checkpoints of a run of so many steps."""
    strategy = str(getattr(args.save_strategy, "value", args.save_strategy))
    if strategy == "no":
        return 0
    every = steps_per_epoch
    if strategy == "steps":
        every = int(args.save_steps) if args.save_steps >= 1 else max(1, math.ceil(args.save_steps * steps))
    return math.ceil(steps / every)


def checkpoint_bytes(model: nn.Module, optimizer: str) -> int:
    """About how large one will be: weights, the optimizer's numbers, and what is small."""
    trained = sum(_bytes_of(weight) for weight in model.parameters() if weight.requires_grad)
    states = next((count for name, count in STATES.items() if name in optimizer), 2)
    if "8bit" in optimizer or "4bit" in optimizer:
        states /= 4 if "8bit" in optimizer else 8
    return int(weight_bytes(model) + states * trained) + SMALL


def weight_bytes(model: nn.Module) -> int:
    """Bytes of what is saved of a model: all of it, or the adapter."""
    has_adapter = hasattr(model, "peft_config")
    return sum(_bytes_of(weight) for weight in model.parameters() if weight.requires_grad or not has_adapter)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gib(size: float) -> str:
    """'1.2 GiB', or MiB where that says more."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def _bytes_of(weight: nn.Parameter) -> int:
    return int(getattr(weight, "ds_numel", weight.numel())) * weight.element_size()
