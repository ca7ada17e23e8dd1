"""A rank that is killed, fails or hangs: the run ends, names it, tells where each stood, and goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
STRIKES = {"hang": 3, "die": 5, "error": 5} if TRIALS else {"hang": 3}
"""What happens to rank 1 after which step; every second is saved."""
SAID = {
    "hang": "which does not answer: it died, hangs or is cut off",
    "die": "which does not answer: it died, hangs or is cut off",
    "error": "ValueError: the disk of this machine is full",
}


def launch(options: dict[str, Any], file: Path, what: str, step: int = 0) -> tuple[int, str]:
    """Two processes; exit status, and what they said."""
    file.write_text(json.dumps(options))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    started = subprocess.Popen(
        [*torchrun, str(MISFORTUNE), str(file), "1", str(step), what],
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
    return started.returncode, said


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
    status, said = launch({**options, "output_dir": str(straight)}, file, "none")
    assert status == 0, said[-3000:]
    assert not list(straight.glob("stacks-rank-*"))
    reference, folder, resumed = read_weights(straight), tmp_path / "run", True
    for what, step in STRIKES.items():  # one launch after the other in one folder
        lost = case(f"one rank of two: {what}")
        status, said = launch({**options, "output_dir": str(folder)}, file, what, step)
        wrong = missing(folder, what, said) if status else f"exit status 0: {said[-2000:]}"
        lost.note(not wrong, wrong)
        newest = folder / f"checkpoint-{(step - 1) // 2 * 2}"
        resumed = resumed and newest.is_dir()
    exact = case("a run that lost a rank, started again")
    status, said = launch({**options, "output_dir": str(folder)}, file, "none")
    assert status == 0, said[-3000:]
    weights = read_weights(folder)
    equal = weights.keys() == reference.keys() and all(torch.equal(weights[name], reference[name]) for name in weights)
    gone = not list(folder.glob("stacks-rank-*"))
    exact.note(resumed and equal and gone and f"resuming from {newest}" in said, said[-3000:])
