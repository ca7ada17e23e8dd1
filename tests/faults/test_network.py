"""A machine without a network: nothing of a run from local files asks for one, and nothing listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import HERE, Case

CUT_OFF = HERE / "cut_off"
WORK = """
import json, sys
from sft.cli.main import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["sft", *words]
    codes.append(main())
print("codes", json.dumps(codes))
"""
ASK = """
import socket, sys
try:
    socket.create_server(("127.0.0.1", 0))
except PermissionError:
    sys.exit(7)
"""
LISTEN = """
import ctypes, os, sys, time
given_up = time.monotonic() + 30
assert ctypes.CDLL(None).listen(ctypes.CDLL(None).socket(2, 1, 0), 1) == 0
while not os.path.exists(sys.argv[1]) and time.monotonic() < given_up:
    os.sched_yield()
sys.exit(7)
"""


def cut_off(log: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python without a network, and with nothing in the environment that would tell libraries so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment.update(PYTHONPATH=str(CUT_OFF), SFT_SOCKET_LOG=str(log), HF_HOME=str(log.parent / "hf"))
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def commands(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> list[list[str]]:
    """Prepare, train, score, draw the page and merge; then all that can be done again by a command of its own."""
    row = {"context": "The sea is wide.", "length": 4, "dataset": "hotpotqa", "language": "en", "all_classes": None}
    asked = {**row, "_id": "q", "input": "How wide?", "answers": ["9 miles"]}
    (tmp_path / "hotpotqa.jsonl").write_text(json.dumps(asked) + "\n")
    model, run = str(tiny_model_folder), tmp_path / "run"
    adapter = str(run / "final_model")
    return [
        [
            *("train", "--model_name_or_path", model, "--data_path", str(alpaca_file), "--output_dir", str(run)),
            *("--cache_dir", str(tmp_path / "cache"), "--max_length", "64", "--max_steps", "2", "--save_steps", "1"),
            *("--use_lora", "--merged_dir", "merged", "--validation_size", "5", "--eval_steps", "1"),
            *("--eval_tasks", "hotpotqa", "--longbench_dir", str(tmp_path)),
        ],
        ["report", str(run), "--output", str(tmp_path / "page.html")],
        ["merge", "--base_model", model, "--adapter_path", adapter, "--output_path", str(tmp_path / "merged")],
        ["inspect", "--model_name_or_path", model, "--data_path", str(alpaca_file), "--num_examples", "1"],
    ]


def test_a_whole_run_asks_for_no_network(
    case: Callable[[str], Case], commands: list[list[str]], tmp_path: Path
) -> None:
    log = tmp_path / "sockets.txt"
    done = cut_off(log, "-c", WORK, json.dumps(commands))
    asked = log.read_text().splitlines() if log.exists() else []
    codes = json.loads(done.stdout.rpartition("codes ")[2] or "null")
    assert codes == [0] * len(commands), done.stderr[-3000:]
    noted = case("sockets blocked: none is asked for, none listens")
    for _ in commands:
        noted.note(not asked, asked[:3])
    run = tmp_path / "run"
    scores = json.loads((run / "eval_history.json").read_text())["history"]
    assert [entry.get("failure") for entry in scores] == [None] * 3
    assert (run / "merged" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()


def test_the_block_holds_and_is_noted(tmp_path: Path) -> None:
    log = tmp_path / "sockets.txt"
    assert cut_off(log, "-c", ASK).returncode == 7
    assert log.read_text().startswith("socket.__new__")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are told by Linux")
def test_a_socket_of_other_code_than_pythons_is_noted(tmp_path: Path) -> None:
    log = tmp_path / "sockets.txt"
    assert cut_off(log, "-c", LISTEN, str(log)).returncode == 7
    assert log.read_text().startswith("open: socket:")
