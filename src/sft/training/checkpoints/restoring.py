"""transformers' Trainer, restored from checkpoints of ours: tensors mapped from the file, no code in what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import TrainerState

from sft.errors import ConfigError
from sft.training.checkpoints.find import describe_damage
from sft.training.checkpoints.layout import STATE, STATES, TENSORS, checkpoint_folder
from sft.training.checkpoints.manifest import damage
from sft.training.checkpoints.pickles import refuse_code
from sft.training.checkpoints.saving import SavingTrainer
from sft.training.checkpoints.states import from_plain, set_random_states
from sft.training.checkpoints.trackers import go_on_in_trackers
from sft.training.launch import warn


class RestoringTrainer(SavingTrainer):
    """Takes up the weights, optimizer, schedule, scaler, random numbers, history and best step of a checkpoint.

    Where the data stands follows from the step: order is a function of seed and epoch.
    """

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, checkpoint: Any, trial: Any
    ) -> Any:
        """The history; the best step is looked for in this run's folder, wherever the file says it was."""
        found = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, checkpoint, trial)
        if checkpoint is not None:
            self._find_best()
            runs = read_states(Path(checkpoint)).get("trackers", {})
            go_on_in_trackers(runs, self.callback_handler.callbacks)
        return found

    def _find_best(self) -> None:
        best, self.state.best_model_checkpoint = self.state.best_global_step, None
        if not best:
            return
        folder = checkpoint_folder(self.keeper.output_dir, best)
        if wrong := damage(folder, hashes=False):
            warn(f"the best checkpoint so far, {folder}, cannot be used: {describe_damage(wrong)}")
        else:
            self.state.best_model_checkpoint = str(folder)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        if resume_from_checkpoint is not None:
            require_states(Path(resume_from_checkpoint))
            refuse_code(Path(resume_from_checkpoint))
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        states = {} if checkpoint is None else read_states(Path(checkpoint))
        if checkpoint is None or "optimizer" not in states:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        tensors = load_file(Path(checkpoint) / TENSORS)  # mapped: a page is read, and becomes ours, when it is used
        self.optimizer.load_state_dict(from_plain(states["optimizer"], tensors))
        self.lr_scheduler.load_state_dict(from_plain(states["scheduler"], tensors))

    def _load_scaler(self, checkpoint: str | None) -> None:
        states = {} if checkpoint is None else read_states(Path(checkpoint))
        scaler = getattr(self.accelerator, "scaler", None)
        if "optimizer" not in states:
            super()._load_scaler(checkpoint)
        elif states["scaler"] is not None and scaler is not None:
            scaler.load_state_dict(from_plain(states["scaler"], {}))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        states, place = read_states(Path(checkpoint)).get("random", []), self.args.process_index
        if place < len(states):
            set_random_states(states[place])
        else:
            warn(f"{checkpoint} is of {len(states)} processes: random numbers of the others (dropout) begin anew")

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Only a step that is saved can be the one to end with; what is measured between two saves is not kept."""
        if self.args.load_best_model_at_end and not self.control.should_save:
            return False
        return bool(super()._determine_best_metric(metrics, trial))

    def _load_best_model(self) -> None:
        """The best checkpoint, if it still is what was written; else the model stays as it is now."""
        best = Path(self.state.best_model_checkpoint)
        if wrong := damage(best):
            warn(f"{best}, the best checkpoint, cannot be used: {describe_damage(wrong)}. The last model is kept.")
            self.args.load_best_model_at_end = False
            return
        refuse_code(best)
        super()._load_best_model()

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: Any) -> Any:
        self.finish_saving()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is None:
            warn("load_best_model_at_end: no evaluated checkpoint is there to end with. The last model is kept.")
        # transformers would remove the newest checkpoint here where one is kept and another is the best
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(trial, num_train_samples, start_time)
        finally:
            self.args.save_total_limit = limit

    def take_history(self, checkpoint: Path) -> Path:
        """Take the history of a checkpoint without training on.

        Returns:
            Where the weights to end with lie: there, or in the best checkpoint if that is what the run ends with.
        """
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        self._find_best()
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        return checkpoint if best is None else Path(best)


def read_states(checkpoint: Path) -> dict[str, Any]:
    """``training_state.json``; empty for a checkpoint that holds only weights."""
    path = checkpoint / STATES
    states: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return states


def require_states(checkpoint: Path) -> None:
    """Refuse to go on from weights alone.

    Raises:
        ConfigError: it was written with save_only_model.
    """
    if not (checkpoint / STATES).is_file():
        raise ConfigError(
            f"cannot go on from {checkpoint}: it holds weights and no optimizer state (save_only_model). Train on from "
            "its weights in another output_dir, with --model_name_or_path (or --adapter_name_or_path) and that folder, "
            "or start anew with --resume_from_checkpoint none."
        )
