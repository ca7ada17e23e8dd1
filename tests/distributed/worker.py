"""Runs scenarios one after another in the processes of one launch: ``torchrun worker.py scenarios.json``.

A scenario is a name and the options of a run. What each did is written to ``NAME.json`` beside the file, by the first
process: the strategy in force, or the error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from fsdp_on_cpu import FsdpOnCpu

from sft.config import SFTConfig
from sft.training.launch import is_main_process
from sft.training.run import run_training


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Train as the options say."""
    disguise = FsdpOnCpu() if options.get("fsdp") else contextlib.nullcontext()
    try:
        with disguise:
            result = run_training(SFTConfig(**options))
    except Exception:
        return {"error": traceback.format_exc()}
    record = json.loads((Path(options["output_dir"]) / "run.json").read_text())
    return {"processes": record["processes"], **result.to_dict()}


def forget() -> None:
    """Leave nothing of a run that the next one in this process would take up: accelerate marks its own environment."""
    gc.collect()  # transformers knows of ZeRO-3 as long as the arguments of the last run live
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_USE_", "FSDP_"))]:
        del os.environ[name]


def main() -> None:
    """All scenarios of the file."""
    file = Path(sys.argv[1])
    for name, options in json.loads(file.read_text()).items():
        outcome = run(options)
        forget()
        if is_main_process():
            (file.parent / f"{name}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
