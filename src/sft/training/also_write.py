"""Files that users of other tools look for in the run folder (option ``also_write``). The first process writes them.

``trainer_log.jsonl`` grows while training; the others are written when it ends, from the trainer's own history, so that
they tell of the whole run also where it was resumed.
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import ConfigError
from sft.training.checkpoints.disk import append_line, write_whole
from sft.training.launch import announce
from sft.training.metrics_file import read_metrics

if TYPE_CHECKING:
    from sft.config import SFTConfig

LOG = "trainer_log.jsonl"
ARGUMENTS = "train_args.json"
STATE = "trainer_state.json"
TRAIN_RESULTS, EVAL_RESULTS, ALL_RESULTS = "train_results.json", "eval_results.json", "all_results.json"
PLOTTED = ("loss", "eval_loss")
DPI = 100
COLOUR = "#1f77b4"


class TrainerLog(TrainerCallback):  # type: ignore[misc]
    """``trainer_log.jsonl`` as LLaMA-Factory's monitors read it; a resumed run goes on where its checkpoint was."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started, self._first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            lines = read_metrics(self.path) if state.global_step else []
            kept = [json.dumps(line) + "\n" for line in lines if line.get("current_steps", 0) <= state.global_step]
            write_whole(self.path, "".join(kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        seconds = time.monotonic() - self._started
        line = log_line(logs, state, seconds=seconds, done=state.global_step - self._first_step)
        append_line(self.path, json.dumps(line))


def log_line(logs: Mapping[str, float], state: TrainerState, *, seconds: float, done: int) -> dict[str, Any]:
    """One line: where training stands, and what was measured. Keys without a value are left out.

    Args:
        seconds: since the start or the resume.
        done: steps in that time, from which the time left is reckoned.
    """
    left = state.max_steps - state.global_step
    line = {
        "current_steps": state.global_step,
        "total_steps": state.max_steps,
        "loss": logs.get("loss"),
        "eval_loss": logs.get("eval_loss"),
        "accuracy": logs.get("rewards/accuracies"),
        "lr": logs.get("learning_rate"),
        "epoch": logs.get("epoch", state.epoch),
        "percentage": round(100 * state.global_step / state.max_steps, 2) if state.max_steps else 100.0,
        "elapsed_time": str(timedelta(seconds=int(seconds))),
        "remaining_time": str(timedelta(seconds=int(seconds / done * left))) if done else None,
    }
    return {key: value for key, value in line.items() if value is not None}


def require_what_is_written(config: SFTConfig) -> None:
    """Say before anything is trained that a file could not be written.

    Raises:
        ConfigError: loss_plot without matplotlib.
    """
    if "loss_plot" in config.also_write and importlib.util.find_spec("matplotlib") is None:
        where = config.origins.get("also_write", "")
        raise ConfigError(
            f"also_write: loss_plot ({where}) draws with matplotlib, which is not installed: pip install "
            "'sft-kit[plot]'. Or leave it out"
        )


def write_arguments(config: SFTConfig) -> None:
    """What the run was told, as a file that ``sft train`` takes; defaults of ours are left out."""
    given = {name: value for name, value in config.to_dict().items() if config.origins.get(name) != "default"}
    _write(Path(config.output_dir) / ARGUMENTS, given)


def write_at_the_end(
    config: SFTConfig,
    state: TrainerState,
    *,
    metrics: Mapping[str, Any] | None,
    eval_loss: float | None,
    resumed: bool,
) -> None:
    """The files of a run that has ended.

    Args:
        resumed: it went on from a checkpoint, so results that stand there already are its own.
        metrics: what training measured; None where no step was left to train.
        eval_loss: of the model that was saved; None where there is no evaluation data.
    """
    folder = Path(config.output_dir)
    if "results" in config.also_write:
        if not resumed:
            for name in (TRAIN_RESULTS, EVAL_RESULTS, ALL_RESULTS):
                (folder / name).unlink(missing_ok=True)
        write_results(folder, metrics, None if eval_loss is None else {"epoch": state.epoch, "eval_loss": eval_loss})
    if "trainer_state" in config.also_write:
        state.save_to_json(str(folder / STATE))
    if "loss_plot" in config.also_write:
        drawn = [plot_history(state.log_history, key, folder) for key in PLOTTED]
        if not any(drawn):
            announce("no loss was logged, so none is drawn; lower logging_steps for training_loss.png")


def write_results(folder: Path, train: Mapping[str, Any] | None, evaluation: Mapping[str, Any] | None) -> None:
    """``train_results.json``, ``eval_results.json``, and both in one; what an earlier part measured stays."""
    whole = folder / ALL_RESULTS
    both = json.loads(whole.read_text(encoding="utf-8")) if whole.is_file() else {}
    for name, values in ((TRAIN_RESULTS, train), (EVAL_RESULTS, evaluation)):
        if values is not None:
            _write(folder / name, values)
            both.update(values)
    _write(whole, both)


def plot_history(history: Sequence[Mapping[str, Any]], key: str, folder: Path) -> Path | None:
    """Draw a logged figure over the steps, raw and smoothed: ``training_KEY.png``; None where it was never logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if not points:
        return None
    steps, values = zip(*points, strict=True)
    figure = Figure()
    FigureCanvasAgg(figure)  # draws to a file, whatever display there is
    axes = figure.add_subplot()
    axes.plot(steps, values, color=COLOUR, alpha=0.4, label="original")
    axes.plot(steps, smooth(values), color=COLOUR, label="smoothed")
    axes.set_title(f"training {key} of {folder}")
    axes.set_xlabel("step")
    axes.set_ylabel(key)
    axes.legend()
    path = folder / f"training_{key}.png"
    figure.savefig(path, format="png", dpi=DPI)
    return path


def smooth(values: Sequence[float]) -> list[float]:
    """The exponential moving average of LLaMA-Factory's plots: the more values, the heavier the past weighs."""
    weight = 1.8 * (1 / (1 + math.exp(-0.05 * len(values))) - 0.5)
    smoothed: list[float] = []
    for value in values:
        before = smoothed[-1] if smoothed else value
        smoothed.append(before * weight + (1 - weight) * value)
    return smoothed


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=4, ensure_ascii=False), encoding="utf-8")
