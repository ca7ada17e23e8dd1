"""The frame of the fault suite: a case says which fault, how often it was tried, and how often it was survived.

``make faults`` runs it with the counts of ``make test`` and prints one table. SFT_FAULT_TRIALS (``make faults
TRIALS=200``) sets how many random kills there are, and all other counts with them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
TRIALS = int(os.environ.get("SFT_FAULT_TRIALS", "0"))
"""0: as few as there is time for on every change."""


@dataclass
class Case:
    """One line of the table."""

    fault: str
    tried: int = 0
    survived: int = 0
    worst: str = ""
    """What was seen the first time that it was not survived."""

    def note(self, survived: bool, seen: object = "") -> None:
        """Count one trial."""
        self.tried += 1
        self.survived += survived
        if not survived and not self.worst:
            self.worst = str(seen)


@pytest.fixture
def case(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str], Case]]:
    """Begin a case; when the test ends it goes into the table, and every trial must have been survived."""
    begun: list[Case] = []

    def begin(fault: str) -> Case:
        begun.append(Case(fault))
        return begun[-1]

    yield begin
    for one in begun:
        record_property("fault", [one.fault, one.tried, one.survived])
    for one in begun:
        assert one.tried > 0, f"{one.fault}: nothing was tried"
        assert one.survived == one.tried, f"{one.fault}: {one.survived} of {one.tried} survived; first: {one.worst}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table. Properties travel with the reports, also from the workers of xdist."""
    reports = [report for kind in ("", "error") for report in terminalreporter.stats.get(kind, [])]
    lines: dict[str, list[int]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "fault":
                fault, tried, survived = value
                line = lines.setdefault(fault, [0, 0])
                line[0] += tried
                line[1] += survived
    if not lines:
        return
    width = max(map(len, lines))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':<{width}}  {'tried':>6}  {'survived':>8}")
    for fault, (tried, survived) in sorted(lines.items()):
        terminalreporter.write_line(f"{fault:<{width}}  {tried:>6,}  {survived:>8,}")


class Nursery:
    """Starts runs in children of a process that has everything imported (``nursery.py``)."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, config: dict[str, Any], **order: Any) -> dict[str, Any]:
        """Start a run and wait for its end; see ``nursery.py`` for orders and answers."""
        self.begin(config, **order)
        return self.end()

    def begin(self, config: dict[str, Any], **order: Any) -> None:
        """Start a run."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"config": config, **order}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for the end of the run that was begun."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One of this test process."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is room: waiting for a disk is most of a trial, and a kill loses nothing of what
    the system was handed, be it on the disk or not."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30):
        yield tmp_path_factory.mktemp("shelf")
        return
    with tempfile.TemporaryDirectory(prefix="sft-faults-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(shelf: Path) -> Iterator[Path]:
    """pytest's, on the shelf."""
    folder = Path(tempfile.mkdtemp(dir=shelf))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def fault_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty instruction rows."""
    rows = [
        {"instruction": f"Count to {number}", "output": " ".join(map(str, range(1, number % 7 + 2)))}
        for number in range(1, 41)
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora with dropout": {"use_lora": True, "lora_dropout": 0.3},
    "packed, accumulated": {"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    "best kept": {
        "learning_rate": 0.1,  # so much that the loss soon rises
        "validation_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "load_best_model_at_end": True,
    },
}
"""Runs that are different to restore."""

SHORT = {"use_lora": True, "lora_dropout": 0.3, "max_steps": 4, "save_steps": 2, "save_total_limit": 1}
"""One that does all there is to do once or twice: it is started for every write and delete that it makes."""


@dataclass
class Straight:
    """A run that nothing happened to."""

    config: dict[str, Any]
    """Its options, without output_dir."""
    weights: dict[str, torch.Tensor]
    losses: list[tuple[int, float]]
    seconds: float
    points: list[str]
    folder: Path


@pytest.fixture(scope="session")
def straight(nursery: Nursery, fault_rows: Path, tiny_model_folder: Path, shelf: Path) -> Callable[[str], Straight]:
    """The uninterrupted run of a kind."""
    known: dict[str, Straight] = {}
    root = shelf / "straight"

    def of(kind: str) -> Straight:
        if kind not in known:
            folder = root / kind
            config = {**settings(fault_rows, tiny_model_folder, root / "cache"), **{**KINDS, "short": SHORT}[kind]}
            nursery.run({**config, "output_dir": str(root / f"first {kind}")}, here=True)
            seen = nursery.run({**config, "output_dir": str(folder)}, count=True)
            assert seen["error"] is None, seen["error"]
            known[kind] = Straight(
                config, read_weights(folder), read_losses(folder), seen["seconds"], seen["points"], folder
            )
        return known[kind]

    return of


def settings(rows: Path, model: Path, cache: Path) -> dict[str, Any]:
    """Twelve steps, a checkpoint every third, two kept; it ends inside the third epoch."""
    return {
        "model_name_or_path": str(model),
        "data_path": str(rows),
        "cache_dir": str(cache),
        "max_length": 64,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 3,
        "save_total_limit": 2,
        "save_in_background": False,
    }


def read_weights(folder: Path, name: str = "final_model") -> dict[str, torch.Tensor]:
    """The weights of a finished run."""
    files = sorted((folder / name).glob("*.safetensors"))
    return {tensor: value for file in files for tensor, value in load_file(file).items()}


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """Step and loss of every line of metrics.jsonl that has one."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def difference(folder: Path, reference: Straight) -> str:
    """What tells a finished run from the uninterrupted one; empty if nothing does, to the last bit."""
    weights = read_weights(folder)
    if weights.keys() != reference.weights.keys():
        return f"other weights: {sorted(weights)}"
    unequal = [name for name, value in weights.items() if not torch.equal(value, reference.weights[name])]
    if unequal:
        return f"unequal: {unequal[0]}"
    losses = read_losses(folder)
    return "" if losses == reference.losses else f"losses of steps {[step for step, _ in losses]}: {losses}"
