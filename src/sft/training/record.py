"""``run.json``: what ran, with what, on what, and what came of it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sft.config import SFTConfig
from sft.data.cache import hash_text
from sft.models.adapters import count_parameters
from sft.models.qat import rounding_of
from sft.training.checkpoints.changes import fingerprints_of_run
from sft.training.checkpoints.disk import write_whole
from sft.training.method import describe_method
from sft.training.plan import Plan

RECORD = "run.json"
PACKAGES = (
    "sft-kit",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "numpy",
    "bitsandbytes",
    "torchao",
    "trl",
)


def describe_run(config: SFTConfig, plan: Plan, model: nn.Module, *, kernels: dict[str, str]) -> dict[str, Any]:
    """Everything known when training starts, as plain JSON values."""
    trainable, total = count_parameters(model)
    rounding = rounding_of(config)
    return {
        "config": {
            name: {"value": value, "origin": config.origins.get(name, "default")}
            for name, value in {**config.to_dict(), **config.training_arguments}.items()
        },
        "notes": list(config.notes),
        "plan": plan.to_dict(),
        "fingerprints": fingerprints_of_run(
            {**plan.data.cache.parts, "model config": hash_text(model.config.to_json_string())},  # type: ignore[operator, union-attr]
            config,
            plan.to_dict(),
            model,
            installed_versions(),
        ),
        "allowed_changes": [],
        "method": describe_method(config),
        "rounding": None if rounding is None else rounding.to_dict(),
        "parameters": {"trainable": trainable, "total": total},
        "versions": {"python": platform.python_version(), **installed_versions()},
        "device": describe_device(),
        "kernels": kernels,
        "processes": None,
        "result": None,
    }


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide numbers, where installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_device() -> dict[str, Any]:
    """The device this process trains on."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {"type": "cuda", "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    if torch.backends.mps.is_available():
        return {"type": "mps", "name": platform.machine()}
    return {"type": "cpu", "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``run.json`` beside and rename it into place, so that a reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False, default=str))


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run folder, or None if it has none."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
