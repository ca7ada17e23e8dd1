"""Stage dpo against itself: split, resumed, on two processes, over an adapter that is trained on."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="the extra `dpo` is not installed (pip install -e '.[dpo]')")

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.training.metrics_file import read_metrics
from sft.training.run import run_training

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's own deprecations

# Observed: at most 3e-7 relative in losses and gradient norms over six steps.
LOSS = 1e-5


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Forty preference rows as LLaMA-Factory writes them."""
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Count to {number}" + ", please" * (number % 3)}],
            "chosen": {"from": "gpt", "value": " ".join(str(n) for n in range(1, number % 7 + 2))},
            "rejected": {"from": "gpt", "value": "No" + " no" * (number % 4) + "."},
        }
        for number in range(1, 41)
    ]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


@pytest.fixture
def changes(pairs: Path) -> dict[str, Any]:
    return {"stage": "dpo", "data_path": str(pairs)}


@pytest.fixture
def learn(train: Callable[..., Any], changes: dict[str, Any]) -> Callable[..., Any]:
    return lambda name, **more: train(name, **changes, **more)


def test_the_margin_grows_and_the_record_tells_it(
    learn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)  # where TRL would keep still by itself
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **_: pytest.fail("TRL reports the run"))
    run = learn("run", use_lora=True, merged_dir="merged", validation_size=8, eval_steps=3)
    lines = read_metrics(run.folder / "metrics.jsonl")
    evaluated = [line for line in lines if "eval_loss" in line]
    assert [line["step"] for line in evaluated] == [0, 3, 6]
    assert evaluated[0]["eval_loss"] == pytest.approx(math.log(2))
    assert evaluated[-1]["eval_rewards/margins"] > 0.1
    assert evaluated[-1]["eval_rewards/accuracies"] > 0.9
    assert run.losses[-1] < run.losses[0]
    told = capsys.readouterr().err
    assert "40 rows -> 32 pairs of answers" in told
    assert "held out   8 conversations for the evaluation loss (validation_size)" in told
    assert "evaluation loss 0.6931, reward margin 0.0000, 0% in the right order" in told
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert record["kernels"]["loss"] == "TRL's DPO, sigmoid"
    assert record["plan"]["pairs"] == 32
    assert record["result"]["eval_loss"] == evaluated[-1]["eval_loss"]
    assert (run.folder / "merged" / "model.safetensors").is_file()
    assert not list(run.folder.rglob("*.bin"))
    assert not (run.folder / "README.md").exists()  # TRL's card
    assert not list(run.folder.rglob("ref"))


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 3), (1, 12)])
def test_splitting_a_step_changes_nothing(learn: Callable[..., Any], batch: int, accumulation: int) -> None:
    # 40 pairs in steps of 12: the last has four, which TRL alone would weigh by batches and not by pairs
    whole = learn("whole", per_device_train_batch_size=12, max_steps=4)
    split = learn("split", per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=4)
    assert split.losses == pytest.approx(whole.losses, rel=LOSS)
    assert split.gradient_norms == pytest.approx(whole.gradient_norms, rel=1e-4)


@pytest.mark.parametrize("kind", ["full", "lora", "lora on lora"])
def test_a_resumed_run_is_the_straight_run_bit_for_bit(
    train: Callable[..., Any],
    learn: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    changes: dict[str, Any],
    alpaca_file: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    """Eight steps of eight pairs end inside the second epoch, the checkpoint lies in the first."""
    more: dict[str, Any] = {"max_steps": 8, "validation_size": 4, "eval_steps": 4, "use_lora": kind != "full"}
    if kind == "lora on lora":
        taught = train("taught", use_lora=True, max_steps=2, data_path=str(alpaca_file)).folder
        more |= {"adapter_name_or_path": str(taught / "final_model"), "learning_rate": 1e-3}
    straight = learn("straight", **more)
    resumed = tmp_path / "resumed"
    shutil.copytree(straight.folder, resumed)
    for step in (4, 6, 8):
        shutil.rmtree(resumed / f"checkpoint-{step}")
    result = run_training(SFTConfig(**{**settings, **changes, **more, "output_dir": str(resumed)}))
    assert result.resumed_from == resumed / "checkpoint-2"
    again = read_run(resumed)
    assert again.losses == straight.losses
    assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights)
    margins = [
        [line["rewards/margins"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]
        for folder in (straight.folder, resumed)
    ]
    assert margins[0] == margins[1]


def test_an_adapter_that_is_trained_on_is_compared_with_itself_as_it_was(
    train: Callable[..., Any], learn: Callable[..., Any], alpaca_file: Path
) -> None:
    taught = train("taught", use_lora=True, max_steps=4, data_path=str(alpaca_file))
    adapter = taught.folder / "final_model"
    run = learn(
        "run", use_lora=True, adapter_name_or_path=str(adapter), validation_size=8, eval_steps=6, learning_rate=1e-3
    )
    evaluated = [line for line in read_metrics(run.folder / "metrics.jsonl") if "eval_loss" in line]
    assert evaluated[0]["eval_loss"] == pytest.approx(math.log(2))
    assert evaluated[0]["eval_rewards/chosen"] == 0.0
    assert evaluated[-1]["eval_loss"] < evaluated[0]["eval_loss"]
    assert run.weights.keys() == taught.weights.keys()
    assert not list(run.folder.rglob("ref"))


def test_rows_that_trl_would_not_see_are_refused(learn: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="added tokens under LoRA, with a head that is tied"):
        learn("run", use_lora=True, added_tokens=["please"])


@pytest.mark.slow
def test_two_processes_train_like_one(
    learn: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    changes: dict[str, Any],
    tmp_path: Path,
) -> None:
    # 40 pairs in steps of 8 divide among two processes; where they do not, TRL's trainer sees some pairs twice
    more = {"use_lora": True, "max_steps": 6, "validation_size": 8, "eval_steps": 3, "seed": 7}
    alone = learn("alone", per_device_train_batch_size=8, **more)
    folder = tmp_path / "two"
    _torchrun({**settings, **changes, **more, "per_device_train_batch_size": 4, "output_dir": str(folder)})
    assert read_run(folder).losses == pytest.approx(alone.losses, rel=LOSS)
    one, two = (
        [line["eval_loss"] for line in read_metrics(path / "metrics.jsonl") if "eval_loss" in line]
        for path in (alone.folder, folder)
    )
    assert two == pytest.approx(one, rel=LOSS)


def _torchrun(config: dict[str, Any]) -> None:
    arguments = [f"--{name}={value}" for name, value in config.items() if value is not None]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    done = subprocess.run(
        [*command, "-m", "sft", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
