"""A run before and after its training: everything it needs, and what it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.training.base import RunTrainer
from sft.training.checkpoints.layout import step_of
from sft.training.early_stopping import ended_early
from sft.training.memory.fit import Fit
from sft.training.plan import Plan
from sft.training.save import SavedModel


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    output_dir: Path
    saved: SavedModel
    steps: int
    """Optimizer steps of the whole run, those before a resume included."""
    train_loss: float | None
    """Mean loss per step since the start or the resume; None when no step was left to do."""
    eval_loss_before: float | None
    """Loss of the untrained model on the evaluation data, per trained token; in stage dpo per pair of answers."""
    eval_loss: float | None
    """The same of the saved model."""
    seconds: float
    resumed_from: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "output_dir": str(self.output_dir),
            "model_path": str(self.saved.model),
            "merged_path": None if self.saved.merged is None else str(self.saved.merged),
            "steps": self.steps,
            "train_loss": self.train_loss,
            "eval_loss_before": self.eval_loss_before,
            "eval_loss": self.eval_loss,
            "seconds": round(self.seconds, 3),
            "resumed_from": None if self.resumed_from is None else str(self.resumed_from),
        }


@dataclass(frozen=True)
class AssembledRun:
    """Everything a run needs, ready to train."""

    config: SFTConfig
    plan: Plan
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    trainer: RunTrainer
    checkpoint: Path | None
    """Where it goes on from."""
    fit: Fit | None = None
    """What it was estimated to need, where that was asked for and could be told."""


def is_last(checkpoint: Path | None, config: SFTConfig, plan: Plan) -> bool:
    """Whether nothing is left to train after a checkpoint: it is of the last step, or training ended early with it."""
    if checkpoint is None:
        return False
    return step_of(checkpoint) >= plan.steps or ended_early(checkpoint, config.early_stopping_patience)
