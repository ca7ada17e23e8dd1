"""How the launchers that users have start it, and what is said where they do not do what they were asked."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import TORCHRUN, Launch

BIN = Path(sys.executable).parent


def words(settings: dict[str, Any], folder: Path, **changes: Any) -> list[str]:
    """The options of two steps as a command line."""
    options = {**settings, "max_steps": 2, "save_strategy": "no", "output_dir": str(folder / "run"), **changes}
    return [f"--{name}={value}" for name, value in options.items() if value is not None and name != "save_steps"]


@pytest.mark.slow  # two launchers of 10 s each
def test_accelerate_and_deepspeed_start_two_processes(launch: Launch, settings: dict[str, Any], tmp_path: Path) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    started = launch(
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0",
        "-m", "sft", "train", *words(settings, tmp_path),
    )  # fmt: skip
    assert started.returncode == 0, started.stdout
    assert "2 processes over gloo on cpu, as asked: DDP" in started.stdout
    for once in ("plan\n", "\nmodel\n", "step 1/2: loss", "step 2/2: loss", "\ndone: 2", "\nsaved: ", "\nnext:\n"):
        assert started.stdout.count(once) == 1, once
    assert not set("\r\x1b") & set(started.stdout)
    file = tmp_path / "zero2.json"
    block = {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}}
    auto = dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    file.write_text(json.dumps({**auto, "zero_optimization": {"stage": 2}, "scheduler": block}))
    changes = {"deepspeed": file, "overwrite_output_dir": True}
    started = launch(
        sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=2", f"--master_port={free_port()}",
        "--module", "sft", "train", *words(settings, tmp_path, **changes),
        DS_ACCELERATOR="cpu",
    )  # fmt: skip
    assert started.returncode == 0, started.stdout
    assert "2 processes over gloo on cpu, as asked: ZeRO-2" in started.stdout
    assert "its scheduler (WarmupLR) is left out" in started.stdout


def free_port() -> int:
    """For the one launcher that cannot find a free port by itself."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_accelerate_that_starts_one_process_of_two_is_an_error(
    launch: Launch, settings: dict[str, Any], tmp_path: Path
) -> None:
    started = launch(
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2",
        "-m", "sft", "train", *words(settings, tmp_path),
    )  # fmt: skip
    assert "accelerate launch was asked for several processes and started one" in started.stdout
    assert "returned non-zero exit status 2" in started.stdout
    assert not (tmp_path / "run").exists()


def test_zero_3_in_a_process_that_nobody_launched(launch: Launch, settings: dict[str, Any], tmp_path: Path) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    file = tmp_path / "zero3.json"
    auto = dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    file.write_text(json.dumps({**auto, "zero_optimization": {"stage": 3}}))
    started = launch(sys.executable, "-m", "sft", "train", *words(settings, tmp_path, deepspeed=file))
    assert started.returncode == 0, started.stdout
    assert "1 process over gloo on cpu, as asked: ZeRO-3" in started.stdout
    assert (tmp_path / "run" / "final_model" / "model.safetensors").is_file()


def test_a_mistake_that_all_processes_have_is_said_once(
    launch: Launch, settings: dict[str, Any], tmp_path: Path
) -> None:
    started = launch(
        *TORCHRUN, "--nproc_per_node=2", "-m", "sft", "train", *words(settings, tmp_path, data_path="nowhere.jsonl")
    )
    assert started.stdout.count("sft: error: ") == 1, started.stdout
    assert "nowhere.jsonl" in started.stdout
    assert "exitcode  : 2" in started.stdout
