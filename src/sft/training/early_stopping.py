"""The end of training when the evaluation loss no longer falls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.training.checkpoints.layout import STATE
from sft.training.launch import announce


class StopEarly(TrainerCallback):  # type: ignore[misc]
    """Ends training after ``patience`` evaluations in a row without a new lowest evaluation loss.

    The untrained model's loss counts. What was measured is read from the trainer's own history, which checkpoints
    hold, so a resumed run stops where the straight one would have, and one that has stopped trains no further.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if is_over(state.log_history, self.patience):
            control.should_training_stop = True
            announce(
                f"step {state.global_step}: training ends here, for the evaluation loss has not fallen in "
                f"{self.patience} evaluation(s) (early_stopping_patience)"
            )


def ended_early(checkpoint: Path, patience: int | None) -> bool:
    """Whether training ended with this checkpoint, for the evaluation loss had not fallen; None: it never does."""
    if patience is None:
        return False
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return is_over(state["log_history"], patience)


def is_over(log_history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` evaluations were no new lowest ones."""
    losses = {entry["step"]: entry["eval_loss"] for entry in log_history if "eval_loss" in entry}
    return evaluations_since_best(list(losses.values())) >= patience


def evaluations_since_best(losses: Sequence[float]) -> int:
    """How many evaluations came after the first of the lowest loss; a loss that is not a number is never that."""
    best, place = float("inf"), -1
    for index, loss in enumerate(losses):
        if loss < best:
            best, place = loss, index
    return len(losses) - 1 - place
