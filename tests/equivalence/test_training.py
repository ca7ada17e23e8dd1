"""Settings that must not matter do not: the same rows, split, packed, checkpointed or resumed, give the same model.

All in fp32 on the CPU. Adam divides by the square root of tiny second moments, so a difference of 1e-7 in a gradient
can move a weight by much more than that; losses and gradient norms are the sharper witnesses.
"""

from __future__ import annotations

import json
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
from safetensors.torch import load_file

from sft.config import SFTConfig
from sft.training.metrics_file import read_metrics
from sft.training.run import run_training

# Observed: at most 6e-7 relative in losses and gradient norms over six steps.
LOSS = {"rel": 1e-5}


def assert_same_course(one: Any, other: Any) -> None:
    assert one.losses == pytest.approx(other.losses, **LOSS)
    assert one.gradient_norms == pytest.approx(other.gradient_norms, rel=1e-4)


def test_loss_falls(train: Callable[..., Any]) -> None:
    losses = train("plain", max_steps=30).losses
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (1, 8)])
def test_splitting_a_step_changes_nothing(train: Callable[..., Any], batch: int, accumulation: int) -> None:
    whole = train("whole")
    split = train("split", per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    assert_same_course(whole, split)


def test_a_step_that_does_not_divide_evenly_loses_nothing(train: Callable[..., Any]) -> None:
    # 40 rows in steps of 12: 12, 12, 12 and 4
    whole = train("whole", per_device_train_batch_size=12, max_steps=8)
    split = train("split", per_device_train_batch_size=3, gradient_accumulation_steps=4, max_steps=8)
    assert_same_course(whole, split)


def test_gradient_checkpointing_changes_nothing(train: Callable[..., Any]) -> None:
    assert_same_course(train("off"), train("on", gradient_checkpointing=True))


def test_only_the_ratio_of_weights_matters(train: Callable[..., Any], tmp_path: Path) -> None:
    """A step whose weights add up to less than one token is divided by their sum like any other."""

    def weighed(by: float) -> dict[str, Any]:
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"Count to {number}"},
                    {"role": "assistant", "content": "one two three"[:number], "weight": by * (1 + number % 2)},
                ]
            }
            for number in range(1, 9)
        ]
        path = tmp_path / f"{by}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"data_path": str(path), "per_device_train_batch_size": 2}

    whole, thousandth = train("whole", **weighed(1.0)), train("thousandth", **weighed(1 / 1024))
    assert_same_course(whole, thousandth)
    counts = [
        [line["trained_tokens"] for line in read_metrics(run.folder / "metrics.jsonl") if "loss" in line]
        for run in (whole, thousandth)
    ]
    assert counts[0] == counts[1]
    assert sum(counts[0][:4]) == json.loads((whole.folder / "run.json").read_text())["plan"]["trained_tokens"]


def test_packed_rows_train_like_rows_apart(train: Callable[..., Any]) -> None:
    # one step over all forty rows: the same examples, whatever rows they stand in
    apart = train("apart", per_device_train_batch_size=40, max_steps=3)
    packed = train("packed", per_device_train_batch_size=40, max_steps=3, packing=True)
    assert_same_course(apart, packed)


def test_lora_with_and_without_accumulation(train: Callable[..., Any]) -> None:
    lora = {"use_lora": True, "lora_dropout": 0.0}
    assert_same_course(
        train("whole", **lora), train("split", per_device_train_batch_size=2, gradient_accumulation_steps=4, **lora)
    )


@pytest.mark.parametrize("kind", ["full", "lora with dropout", "packed"])
@pytest.mark.parametrize("stop", [2, 6, 8])
def test_a_resumed_run_is_the_straight_run_bit_for_bit(
    train: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    tmp_path: Path,
    kind: str,
    stop: int,
) -> None:
    """Ten steps are two epochs of forty rows; checkpoints lie inside the first epoch, and inside the second."""
    changes = {
        "full": {},
        "lora with dropout": {"use_lora": True, "lora_dropout": 0.3},
        "packed": {"packing": True, "per_device_train_batch_size": 2},
    }[kind]
    straight = train("straight", max_steps=10, **changes)
    resumed = tmp_path / "resumed"
    shutil.copytree(straight.folder, resumed)
    for path in resumed.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > stop:
            shutil.rmtree(path)
    shutil.rmtree(resumed / "final_model")
    result = run_training(SFTConfig(**{**settings, "max_steps": 10, "output_dir": str(resumed), **changes}))
    assert result.resumed_from == resumed / f"checkpoint-{stop}"
    again = read_run(resumed)
    assert again.losses == straight.losses
    assert again.weights.keys() == straight.weights.keys()
    assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights)


def test_a_finished_run_started_again_trains_nothing_and_saves_the_same(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # seven steps end inside the second epoch, where the Trainer alone would go one step too far
    first = train("run", max_steps=7)
    shutil.rmtree(first.folder / "final_model")
    again = train("run", max_steps=7)
    assert "nothing left to train" in capsys.readouterr().err
    assert again.losses == first.losses
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)


def test_a_finished_run_started_again_saves_its_best_model(train: Callable[..., Any]) -> None:
    changes = {
        "learning_rate": 0.2,  # so much that the loss soon rises
        "validation_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
    }
    first = train("run", **changes)
    state = json.loads((first.folder / "checkpoint-6" / "trainer_state.json").read_text())
    assert not state["best_model_checkpoint"].endswith("checkpoint-6")
    shutil.rmtree(first.folder / "final_model")
    again = train("run", **changes)
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)


def test_a_run_that_ended_early_trains_no_further_when_it_is_started_again(
    train: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "learning_rate": 0.2,
        "max_steps": 12,
        "validation_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "early_stopping_patience": 1,
    }
    first = train("run", **changes)
    assert "training ends here" in capsys.readouterr().err
    assert len(first.losses) < 12
    shutil.rmtree(first.folder / "final_model")
    again = train("run", **changes)
    assert "nothing left to train" in capsys.readouterr().err
    assert again.losses == first.losses
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)
    longer = train("run", **{**changes, "early_stopping_patience": 10})
    assert longer.losses[: len(first.losses)] == first.losses
    assert len(longer.losses) == 12


@pytest.mark.parametrize(
    ("rate", "eval_steps", "save_steps"), [(0.2, 1, 3), (10.0, 2, 2)], ids=["between saves", "the untrained model"]
)
def test_the_model_to_end_with_is_a_checkpoint_and_its_loss_is_told(
    train: Callable[..., Any], rate: float, eval_steps: int, save_steps: int
) -> None:
    """The lowest loss of all is one that was not saved: of step 2, and of step 0."""
    run = train(
        "run",
        learning_rate=rate,
        validation_size=8,
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_steps=save_steps,
        load_best_model_at_end=True,
    )
    logged = read_metrics(run.folder / "metrics.jsonl")
    losses = {line["step"]: line["eval_loss"] for line in logged if "eval_loss" in line}
    saved = {step: loss for step, loss in losses.items() if step and step % save_steps == 0}
    assert min(losses.values()) < min(saved.values())
    best = min(saved, key=lambda step: saved[step])
    checkpoint = load_file(run.folder / f"checkpoint-{best}" / "model.safetensors")
    assert all(torch.equal(run.weights[name], checkpoint[name]) for name in run.weights)
    result = json.loads((run.folder / "run.json").read_text())["result"]
    assert (result["eval_loss_before"], result["eval_loss"]) == (losses[0], saved[best])


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_train_like_one(
    train: Callable[..., Any], read_run: Callable[..., Any], settings: dict[str, Any], tmp_path: Path, resume: bool
) -> None:
    # 40 rows in steps of 12 do not divide among two processes of three rows: empty rows fill up
    alone = train("alone", per_device_train_batch_size=3, gradient_accumulation_steps=4, max_steps=8, seed=7)
    folder = tmp_path / "two"
    changes = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "max_steps": 8, "seed": 7}
    _torchrun({**settings, **changes, "output_dir": str(folder)})
    if resume:
        for step in (8, 6):
            shutil.rmtree(folder / f"checkpoint-{step}")
        _torchrun({**settings, **changes, "output_dir": str(folder)})
    assert_same_course(alone, read_run(folder))


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
