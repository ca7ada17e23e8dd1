"""A rank that is killed, fails or hangs: the run ends, names it, tells where each stood, and goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import TRIALS, Case, read_weights, settings

pytestmark = pytest.mark.slow  # processes that meet, and wait for one that hangs

HERE = Path(__file__).resolve().parent
MISFORTUNE = HERE.parent / "distributed" / "misfortune.py"
PATIENCE = 8
WHATS = ("hang", "die", "error") if TRIALS else ("hang",)
SAID = {
    "hang": "which does not answer: it died, hangs or is cut off",
    "die": "which does not answer: it died, hangs or is cut off",
    "error": "ValueError: the disk of this machine is full",
}


def launch(options: dict[str, Any], file: Path, what: str) -> tuple[int, str, float]:
    """Two processes; exit status, what they said, seconds."""
    file.write_text(json.dumps(options))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    begun = time.monotonic()
    started = subprocess.Popen(
        [*torchrun, str(MISFORTUNE), str(file), "1", "3", what],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        said, _ = started.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        said, _ = started.communicate()
    return started.returncode, said, time.monotonic() - begun


def missing(folder: Path, what: str, said: str) -> str:
    """What is not as it should be after the end of one rank; empty if nothing is."""
    first = folder / "stacks-rank-0.txt"
    if "lost rank 1 (" not in said or SAID[what] not in said:
        return f"rank 1 is not named: {said[-3000:]}"
    if str(folder / "stacks-rank-*.txt") not in said or "ended by:" not in first.read_text():
        return f"no stacks of rank 0: {said[-3000:]}"
    second = folder / "stacks-rank-1.txt"
    if what == "hang" and not ("misfortune.py" in second.read_text() and "Timeout" in first.read_text()):
        return f"no stack of the rank that hangs: {second.read_text()}"
    if what == "error" and "the disk of this machine is full" not in second.read_text():
        return f"no stack of the rank that failed: {second.read_text()}"
    return ""


def test_a_rank_that_is_lost(
    case: Callable[[str], Case], fault_rows: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    options = {
        **settings(fault_rows, tiny_model_folder, tmp_path / "cache"),
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "save_steps": 2,
        "ddp_timeout": PATIENCE,
    }
    straight, file = tmp_path / "straight", tmp_path / "options.json"
    status, said, _ = launch({**options, "output_dir": str(straight)}, file, "none")
    assert status == 0, said[-3000:]
    assert not list(straight.glob("stacks-rank-*"))
    reference = read_weights(straight)
    for what in WHATS:
        lost, folder = case(f"one rank of two: {what}"), tmp_path / what
        status, said, _ = launch({**options, "output_dir": str(folder)}, file, what)
        wrong = missing(folder, what, said) if status else f"exit status 0: {said[-2000:]}"
        status, said, _ = launch({**options, "output_dir": str(folder)}, file, "none")
        resumed = status == 0 and f"resuming from {folder / 'checkpoint-2'}" in said
        weights = read_weights(folder) if resumed else {}
        equal = weights.keys() == reference.keys() and all(map(torch.equal, weights.values(), reference.values()))
        gone = not list(folder.glob("stacks-rank-*"))
        lost.note(not wrong and resumed and equal and gone, wrong or said[-3000:])
