"""The end of training when the evaluation loss no longer falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.training.launch import announce


class StopEarly(TrainerCallback):  # type: ignore[misc]
    """Ends training after ``patience`` evaluations in a row without a new lowest evaluation loss.

    The untrained model's loss counts. What was measured is read from the trainer's own history, which checkpoints
    hold, so a resumed run stops where the straight one would have.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        losses = {entry["step"]: entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry}
        if evaluations_since_best(list(losses.values())) >= self.patience:
            control.should_training_stop = True
            announce(
                f"step {state.global_step}: training ends here, for the evaluation loss has not fallen in "
                f"{self.patience} evaluation(s) (early_stopping_patience)"
            )


def evaluations_since_best(losses: Sequence[float]) -> int:
    """How many evaluations came after the first of the lowest loss; a loss that is not a number is never that."""
    best, place = float("inf"), -1
    for index, loss in enumerate(losses):
        if loss < best:
            best, place = loss, index
    return len(losses) - 1 - place
