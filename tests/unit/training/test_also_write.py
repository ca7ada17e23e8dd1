"""Files that other tools' users look for, over a run that is cut off and goes on."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from sft.config import SFTConfig, load_config
from sft.errors import ConfigError
from sft.training.also_write import (
    log_line,
    plot_history,
    require_what_is_written,
    smooth,
    write_at_the_end,
    write_results,
)
from sft.training.early_stopping import evaluations_since_best
from sft.training.run import run_training

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

EVERYTHING = ["trainer_log", "results", "loss_plot", "trainer_state", "arguments"]


def config(model: Path, data: Path, folder: Path, **more: Any) -> SFTConfig:
    values = {
        "model_name_or_path": str(model),
        "data_path": str(data),
        "output_dir": str(folder / "out"),
        "cache_dir": str(folder / "cache"),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "save_steps": 2,
        "max_steps": 4,
        "max_length": 128,
        "learning_rate": 1e-3,
        "validation_size": 4,
        "eval_steps": 2,
        "also_write": EVERYTHING,
    }
    return SFTConfig(**{**values, **more})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_of_a_run_that_goes_on(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_training(config(tiny_model_folder, alpaca_file, tmp_path, max_steps=3))
    cut_off = lines(out / "trainer_log.jsonl")
    assert [line["current_steps"] for line in cut_off if "loss" in line] == [1, 2, 3]
    result = run_training(
        config(tiny_model_folder, alpaca_file, tmp_path, resume_from_checkpoint=str(out / "checkpoint-2"))
    )

    log = lines(out / "trainer_log.jsonl")
    trained = [line for line in log if "loss" in line]
    assert [line["current_steps"] for line in trained] == [1, 2, 3, 4], "step 3 was done anew and stands there once"
    assert trained[:2] == [line for line in cut_off if "loss" in line][:2]
    assert set(trained[-1]) == {
        "current_steps", "total_steps", "loss", "lr", "epoch", "percentage", "elapsed_time", "remaining_time",
    }  # fmt: skip
    assert (trained[-1]["percentage"], trained[-1]["total_steps"], trained[-1]["remaining_time"]) == (100, 4, "0:00:00")
    assert [line["eval_loss"] for line in log if "eval_loss" in line][-1] == result.eval_loss

    state = TrainerState.load_from_json(str(out / "trainer_state.json"))
    logged = {entry["step"]: entry["loss"] for entry in state.log_history if "loss" in entry}
    assert logged == {line["current_steps"]: line["loss"] for line in trained}
    train, evaluation, both = (
        json.loads((out / f"{name}_results.json").read_text()) for name in ("train", "eval", "all")
    )
    assert train["train_loss"] == result.train_loss
    assert evaluation["eval_loss"] == result.eval_loss
    assert both == train | evaluation
    assert png_size(out / "training_loss.png") == png_size(out / "training_eval_loss.png") == (640, 480)
    again = load_config(out / "train_args.json")
    assert again.to_dict() == {**config(tiny_model_folder, alpaca_file, tmp_path).to_dict()} | {
        "resume_from_checkpoint": str(out / "checkpoint-2")
    }


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_training_ends_when_the_loss_on_held_out_rows_no_longer_falls(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path
) -> None:
    """At a rate that ruins the model every evaluation is worse than the untrained model's."""
    ruin = config(
        tiny_model_folder,
        alpaca_file,
        tmp_path,
        learning_rate=5,
        warmup_steps=0,
        eval_steps=1,
        max_steps=20,
        save_strategy="no",
        early_stopping_patience=3,
        also_write=[],
        report_page=False,
    )
    assert run_training(ruin).steps == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"final_model", "metrics.jsonl", "run.json"}


@pytest.mark.parametrize(
    ("losses", "since"),
    [([], 0), ([2.0], 0), ([2.0, 1.0], 0), ([1.0, 2.0, 1.0], 2), ([1.0, math.nan, 2.0], 2), ([3.0, 2.0, 2.5, 1.9], 0)],
)
def test_evaluations_since_best(losses: list[float], since: int) -> None:
    assert evaluations_since_best(losses) == since


def test_smoothing_is_the_formula_of_llama_factory() -> None:
    """Weight 1.8 (sigmoid(0.05 n) - 0.5) of what was, the rest of what is."""
    weight = 1.8 * (1 / (1 + math.exp(-0.05 * 3)) - 0.5)
    second = weight * 4.0 + (1 - weight) * 2.0
    assert smooth([4.0, 2.0, 3.0]) == pytest.approx([4.0, second, weight * second + (1 - weight) * 3.0])
    assert smooth([]) == []


def test_nothing_logged_is_not_drawn(tmp_path: Path) -> None:
    assert plot_history([{"step": 1, "loss": 2.0}], "eval_loss", tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_time_left_is_reckoned_from_the_steps_since_the_resume() -> None:
    line = log_line({"loss": 1.5}, TrainerState(global_step=6, max_steps=10, epoch=0.6), seconds=3.7, done=2)
    assert (line["elapsed_time"], line["remaining_time"], line["percentage"]) == ("0:00:03", "0:00:07", 60.0)


def test_results_of_an_earlier_part_stay(tmp_path: Path) -> None:
    write_results(tmp_path, {"train_loss": 2.0}, None)
    write_results(tmp_path, None, {"eval_loss": 1.0})
    assert json.loads((tmp_path / "all_results.json").read_text()) == {"train_loss": 2.0, "eval_loss": 1.0}
    assert json.loads((tmp_path / "train_results.json").read_text()) == {"train_loss": 2.0}


@pytest.mark.parametrize(
    ("resumed", "left"), [(True, {"train_loss": 2.0, "eval_loss": 1.0}), (False, {"train_loss": 2.0})]
)
def test_results_of_another_run_in_the_folder_go(tmp_path: Path, resumed: bool, left: dict[str, float]) -> None:
    write_results(tmp_path, {"train_loss": 3.0}, {"eval_loss": 1.0})
    told = SFTConfig(output_dir=str(tmp_path), also_write=["results"])
    write_at_the_end(told, TrainerState(), metrics={"train_loss": 2.0}, eval_loss=None, resumed=resumed)
    assert json.loads((tmp_path / "all_results.json").read_text()) == left
    assert (tmp_path / "eval_results.json").exists() is resumed


def test_a_plot_without_matplotlib_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sft-kit\[plot\]'"):
        require_what_is_written(SFTConfig(also_write=["loss_plot"]))
    require_what_is_written(SFTConfig(also_write=["trainer_log"]))
