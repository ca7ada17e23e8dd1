"""`sft doctor`: what this machine has, and what is missing for what."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from sft.terminal.plain import as_json, plain

HELP = "say what this machine has, and what is missing for what"

REQUIRED = ("torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "jinja2", "numpy", "pyyaml")
OPTIONAL = {
    "datasets": "data sets from the Hugging Face hub",
    "pyarrow": ".parquet files",
    "zstandard": ".zst files",
    "bitsandbytes": "load_in_4bit, load_in_8bit and 8-bit optimizers",
    "tensorboard": "report_to: tensorboard",
    "wandb": "report_to: wandb",
    "mlflow": "report_to: mlflow",
    "trackio": "report_to: trackio",
    "deepspeed": "deepspeed: ZeRO sharding across GPUs",
    "flash_attn": "attn_implementation: flash_attention_2",
    "liger_kernel": "use_liger_kernel",
}
"""Packages that nothing needs unless it is asked for, and what asks for them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument("--json", action="store_true", help="print one object")


def run(args: argparse.Namespace) -> int:
    """Print the findings. 0 where training can work, 1 where a required package is missing or cannot be imported."""
    findings = examine()
    print(as_json(findings) if args.json else plain(describe(findings)))
    return 1 if findings["problems"] else 0


def examine() -> dict[str, Any]:
    """What is here, as plain data."""
    from sft import __version__
    from sft.data.templates import describe_templates

    required = {name: _version(name) for name in REQUIRED}
    problems = [f"{name} is not installed: pip install {name}" for name, version in required.items() if version is None]
    devices = _examine_devices(problems) if required["torch"] is not None else []
    return {
        "sft": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "packages": required,
        "optional": {name: {"version": _version(name), "for": use} for name, use in OPTIONAL.items()},
        "devices": devices,
        "templates": describe_templates(),
        "cache": _examine_cache(),
        "problems": problems,
    }


def describe(findings: dict[str, Any]) -> str:
    """The findings as lines for a person."""
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in findings["packages"].items())
    memory = f", {findings['memory_gib']} GiB memory" if findings["memory_gib"] else ""
    lines = [
        f"sft-kit    {findings['sft']} on Python {findings['python']}, {findings['platform']}",
        f"machine    {findings['processors']} processors{memory}",
        f"packages   {packages}",
        *(f"device     {_device_line(device)}" for device in findings["devices"]),
        f"templates  {', '.join(findings['templates'])}",
        f"cache      {findings['cache']['path']} ({findings['cache']['free_gib']} GiB free)",
        "optional",
    ]
    for name, found in findings["optional"].items():
        lines.append(f"  {name:<13} {found['version'] or 'absent':<10} {found['for']}")
    lines += [f"PROBLEM    {problem}" for problem in findings["problems"]] or ["All that training needs is here."]
    return "\n".join(lines)


def _device_line(device: dict[str, Any]) -> str:
    memory = f"{device['memory_gib']} GiB, " if device["memory_gib"] else ""
    return f"{device['name']}: {memory}bf16 {'yes' if device['bf16'] else 'no'}"


def _version(name: str) -> str | None:
    """The installed version, without importing the package; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown" if importlib.util.find_spec(name) is not None else None


def _examine_devices(problems: list[str]) -> list[dict[str, Any]]:
    """Where training can run. A torch that cannot be imported is a finding, not a crash."""
    try:
        import torch
    except (ImportError, OSError) as error:
        problems.append(f"torch is installed and cannot be imported: {error}")
        return []
    devices: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {
                "name": f"cuda:{index} {properties.name}",
                "memory_gib": round(properties.total_memory / 2**30, 1),
                "bf16": torch.cuda.is_bf16_supported(),
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "memory_gib": None, "bf16": True})
    devices.append({"name": f"cpu ({torch.get_num_threads()} threads)", "memory_gib": None, "bf16": True})
    return devices


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _examine_cache() -> dict[str, Any]:
    """The folder that prepared data goes to; it is not made here."""
    from sft.data.cache import cache_root

    path = cache_root(None)
    existing = next((folder for folder in (path, *path.parents) if folder.exists()), Path("."))
    return {"path": str(path), "free_gib": round(shutil.disk_usage(existing).free / 2**30, 1)}
