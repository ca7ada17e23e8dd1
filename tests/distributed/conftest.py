"""Several processes on this machine, started as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def launch(*command: Any, timeout: float = 240, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, one thread a process; past the timeout it ends with all it started."""
    started = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        start_new_session=True,
    )
    try:
        output, _ = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        output, _ = started.communicate()
        pytest.fail(f"{' '.join(map(str, command))[:300]} ran longer than {timeout} s:\n{output[-3000:]}")
    return subprocess.CompletedProcess(started.args, started.returncode, output)


@pytest.fixture(name="launch")
def _launch() -> Launch:
    return launch


class Pair:
    """Two ranks a launch, forked from a process that has everything imported (``pair.py``).

    How they are started by launchers is told by test_launchers.py and test_lost_processes.py.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "pair.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, folder: Path, scenarios: Mapping[str, Any]) -> None:
        """Run scenarios (``worker.py``) in one launch; ``output.txt`` of the folder is what the ranks said."""
        file = folder / "scenarios.json"
        file.write_text(json.dumps(scenarios))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer == "0\n", f"{answer} {(folder / 'output.txt').read_text()[-4000:]}"

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def pair() -> Iterator[Callable[[], Pair]]:
    """The one of this test process, started when it is first asked for."""
    started: list[Pair] = []

    def begin() -> Pair:
        if not started:
            started.append(Pair())
        return started[0]

    yield begin
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def settings(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Six steps of eight rows in float32, for two processes."""
    folder = tmp_path_factory.mktemp("distributed-data")
    rows = [
        f'{{"instruction": "Count to {number}{", please" * (number % 3)}", '
        f'"output": "{" ".join(map(str, range(1, number % 7 + 2)))}"}}\n'
        for number in range(1, 41)
    ]
    (folder / "rows.jsonl").write_text("".join(rows))
    return {
        "model_name_or_path": str(tiny_model_folder),
        "data_path": str(folder / "rows.jsonl"),
        "cache_dir": str(folder / "cache"),
        "max_length": 128,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "save_total_limit": None,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "ddp_timeout": 120,
    }
