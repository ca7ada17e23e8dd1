"""Runs scenarios one after another in the processes of one launch, which ``pair.py`` starts.

A scenario is a name and the options of a run, and with ``+`` before their names: ``+remove`` (folders that are removed
before it begins), ``+resume`` (an output folder of an earlier scenario, whose last checkpoint and model are left
behind), ``+disguise`` (FSDP may run on this CPU), ``+rank 1`` (options of that process alone). What each did
is written to ``NAME.json`` beside the file, by the first process: the strategy in force, or the error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import traceback
from pathlib import Path
from typing import Any

import torch
from fsdp_on_cpu import FsdpOnCpu

from sft.config import SFTConfig
from sft.errors import UserError
from sft.training.launch import is_main_process, rank
from sft.training.run import run_training


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """Train as the options say."""
    options = {name: value for name, value in scenario.items() if not name.startswith("+")}
    options |= scenario.get(f"+rank {rank()}", {})
    if is_main_process():
        for folder in scenario.get("+remove", []):
            shutil.rmtree(folder)
        if straight := scenario.get("+resume"):
            shutil.copytree(
                straight, options["output_dir"], ignore=shutil.ignore_patterns("checkpoint-6", "final_model")
            )
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    try:
        with FsdpOnCpu() if scenario.get("+disguise") else contextlib.nullcontext():
            result = run_training(SFTConfig(**options))
    except UserError as error:
        return {"refused": str(error)}
    except Exception:
        traceback.print_exc()  # of a process that is not the first it is written nowhere else
        return {"error": traceback.format_exc()}
    record = json.loads((Path(options["output_dir"]) / "run.json").read_text())
    return {"processes": record["processes"], **result.to_dict()}


def forget() -> None:
    """Leave nothing of a run that the next one in this process would take up: accelerate marks its own environment."""
    gc.collect()  # transformers knows of ZeRO-3 as long as the arguments of the last run live
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_USE_", "FSDP_"))]:
        del os.environ[name]


def main(file: Path) -> None:
    """All scenarios of the file."""
    for name, options in json.loads(file.read_text()).items():
        outcome = run(options)
        forget()
        if is_main_process():
            (file.parent / f"{name}.json").write_text(json.dumps(outcome))
