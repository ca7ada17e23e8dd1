"""A DeepSpeed JSON file -> the settings that run. Its ``auto`` values are filled by transformers, from our options."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.config.files import read_file
from sft.errors import ConfigError

GATHER = "stage3_gather_16bit_weights_on_model_save"
ADAM = ("adam", "adamw")


@dataclass(frozen=True)
class DeepSpeedSettings:
    """What DeepSpeed is told, and what of the user's file was changed for it."""

    values: dict[str, Any]
    stage: int
    """ZeRO: 0 nothing is sharded, 1 optimizer state, 2 gradients too, 3 weights too."""
    notes: tuple[str, ...] = ()


def read_deepspeed(given: str | Mapping[str, Any], *, on_cpu: bool) -> DeepSpeedSettings:
    """Read a file, or take its content, and change what would not do what the other options say.

    - A ``scheduler`` would replace lr_scheduler_type and warmup_steps: it is left out.
    - Stage 3 without gathering leaves no model that can be loaded: it is switched on.
    - On a CPU, DeepSpeed's compiled Adam is torch's, and nothing is offloaded to where it is already.

    Raises:
        ConfigError: there is no such file, it is no DeepSpeed configuration, or DeepSpeed is not installed.
    """
    name = given if isinstance(given, str) else "deepspeed"
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"deepspeed = {name}: DeepSpeed is not installed. Install it with `pip install 'sft-kit[deepspeed]'`, "
            "or use fsdp, which needs nothing more."
        )
    values = _load(given)
    zero = values.setdefault("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, 3):
        raise ConfigError(
            f"{name}: zero_optimization.stage is {stage!r}. ZeRO has the stages 0, 1, 2 and 3; write one of them."
        )
    notes = [*_without_scheduler(values, name), *_with_gathering(zero, stage, name)]
    if on_cpu:
        notes += _for_cpu(values, name)
    if "optimizer" in values:
        kind = values["optimizer"].get("type", "its optimizer")
        notes.append(f"{name}: its optimizer ({kind}) is used, not optim")
    return DeepSpeedSettings(values, stage, tuple(notes))


def _load(given: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, str):
        return {key: raw.value for key, raw in read_file(given).items()}
    return copy.deepcopy(dict(given))


def _without_scheduler(values: dict[str, Any], name: str) -> list[str]:
    scheduler = values.pop("scheduler", None)
    if scheduler is None:
        return []
    kind = scheduler.get("type", "?") if isinstance(scheduler, dict) else scheduler
    return [f"{name}: its scheduler ({kind}) is left out; lr_scheduler_type and warmup_steps decide, as everywhere"]


def _with_gathering(zero: dict[str, Any], stage: int, name: str) -> list[str]:
    if stage != 3 or zero.get(GATHER) is True:
        return []
    zero[GATHER] = True
    return [f"{name}: {GATHER} is switched on, without it there would be no model at the end that can be loaded"]


def _for_cpu(values: dict[str, Any], name: str) -> list[str]:
    notes = []
    zero = values["zero_optimization"]
    offloads = [key for key in ("offload_optimizer", "offload_param") if zero.pop(key, None) is not None]
    if offloads:
        notes.append(f"{name}: {' and '.join(offloads)} left out: this machine trains on the CPU")
    optimizer = values.get("optimizer")
    if isinstance(optimizer, dict) and str(optimizer.get("type", "")).lower() in ADAM:
        optimizer.setdefault("params", {})["torch_adam"] = True  # DeepSpeed's own would be compiled first
    return notes
