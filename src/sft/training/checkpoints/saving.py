"""transformers' Trainer with checkpoints that are never half there, and that hold no pickle where we write them.

One process, or DDP: weights, ``training_state.safetensors`` and ``training_state.json``. FSDP and DeepSpeed write their
own pieces; those go through the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Trainer
from transformers.trainer_callback import ExportableState

from sft.errors import CheckpointError
from sft.training.checkpoints.caught import TensorFile, catching_weights
from sft.training.checkpoints.find import list_checkpoints
from sft.training.checkpoints.finite import weights_not_finite
from sft.training.checkpoints.keeper import CheckpointKeeper, is_save_error
from sft.training.checkpoints.layout import IDENTITY, STATE, STATES, TENSORS, checkpoint_folder
from sft.training.checkpoints.manifest import FileSeal, files_of
from sft.training.checkpoints.memory_copy import live_storages
from sft.training.checkpoints.states import random_states, to_plain
from sft.training.checkpoints.trackers import tracker_runs, wants_folder
from sft.training.checkpoints.write import Draft, seal_files
from sft.training.launch import doing


class SavingTrainer(Trainer):  # type: ignore[misc]
    """Writes checkpoints; restoring is ``RestoringTrainer``'s."""

    @property
    def keeper(self) -> CheckpointKeeper:
        """Of this run; made from the trainer's arguments where no other was set."""
        if not hasattr(self, "_keeper"):
            self._keeper = CheckpointKeeper(Path(self.args.output_dir), self.args.save_total_limit)
        return self._keeper

    @keeper.setter
    def keeper(self, keeper: CheckpointKeeper) -> None:
        self._keeper = keeper

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.finish_saving()
        self._refuse_lost_weights()
        self.store_flos()
        self._note_best()
        self._note_callbacks()
        draft, random = Draft(self.keeper.output_dir, int(self.state.global_step)), self._gathered(random_states())
        with doing(f"saving {draft.place.name}"):
            if self._saves_pieces():
                self._save_pieces(draft, random)
            elif self.args.should_save:
                self._save_whole(draft, random)

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written. Every process calls it.

        Raises:
            CheckpointError: it could not be written, and that is to end the run.
        """
        self.keeper.finish()
        if self.keeper.stop_on_failure:
            self.keeper.require(any(self._gathered(self.keeper.failure is not None)))

    # One process, or several that hold the same: the first one writes all of it.

    def _save_whole(self, draft: Draft, random: list[Any]) -> None:
        try:
            draft.begin()
            behind = self._fill(draft, random)
        except Exception as error:
            draft.discard()
            if not is_save_error(error):
                raise
            self.keeper.note_failure(draft.step, error)
            return
        if behind:
            self.keeper.write_behind(draft, best=self.state.best_global_step)
            return
        self.keeper.write(draft, best=self.state.best_global_step)

    def _fill(self, draft: Draft, random: list[Any]) -> bool:
        """Write what is small, and list what is large. True: as copies, which can be written while training goes on."""
        with catching_weights() as weights:
            self.save_model(str(draft.folder), _internal_call=True)
        tensors: dict[str, torch.Tensor] = {}
        if not self.args.save_only_model:
            self._write_states(draft.folder, random, tensors)
        self._write_facts(draft.folder)
        draft.tensor_files = [*weights, TensorFile(draft.folder / TENSORS, tensors, {})] if tensors else weights
        size = sum(tensor.nbytes for file in draft.tensor_files for tensor in file.tensors.values())
        if not self._may_write_behind(size):
            return False
        live = live_storages(self.model, tensors.values())
        for file in draft.tensor_files:
            file.tensors = self.keeper.memory.take(file.path.name, file.tensors, live)
        return True

    def _may_write_behind(self, size: int) -> bool:
        """Not where somebody wants the finished folder at once: a callback of ``on_save``, such as the hub's."""
        if self.keeper.background is False:
            return False
        if any(map(wants_folder, self.callback_handler.callbacks)):
            return False
        return self.keeper.background is True or self.keeper.memory.has_room(size)

    def _write_states(self, folder: Path, random: list[Any], tensors: dict[str, torch.Tensor]) -> None:
        """Optimizer, schedule, scaler, random numbers. Tensors of an optimizer's own kind go to a file of PyTorch's."""
        scaler = getattr(self.accelerator, "scaler", None)
        states: dict[str, Any] = {"random": random, "trackers": tracker_runs(self.callback_handler.callbacks)}
        found: dict[str, torch.Tensor] = {}
        try:
            states["optimizer"] = to_plain(self.optimizer.state_dict(), found, "optimizer")
            states["scheduler"] = to_plain(self.lr_scheduler.state_dict(), found, "scheduler")
            states["scaler"] = None if scaler is None else to_plain(scaler.state_dict(), found, "scaler")
            tensors.update(found)
        except TypeError:
            states = {"random": random, "trackers": tracker_runs(self.callback_handler.callbacks)}
            self._save_optimizer_and_scheduler(str(folder))  # read back with weights_only
            self._save_scaler(str(folder))
        (folder / STATES).write_text(json.dumps(states), encoding="utf-8")

    def _write_facts(self, folder: Path) -> None:
        self.state.save_to_json(str(folder / STATE))
        (folder / IDENTITY).write_text(json.dumps(self.keeper.identity, indent=1), encoding="utf-8")

    # Several that hold pieces: each writes its own, and the first one lets the checkpoint count when all are there.

    def _saves_pieces(self) -> bool:
        holds_pieces = any(isinstance(weight, DTensor) for weight in self.model.parameters())
        return bool(self.is_deepspeed_enabled or self.is_fsdp_enabled or holds_pieces)

    def _save_pieces(self, draft: Draft, random: list[Any]) -> None:
        first, sealed = self.args.should_save, dict[str, FileSeal]()
        stages: tuple[Callable[[], Any], ...] = (
            lambda: draft.begin() if first else None,
            lambda: self._write_pieces(draft.folder, random),
            lambda: sealed.update(seal_files(draft.folder, self._share_of_files(draft.folder))),
        )
        if not all(self._everywhere(draft, stage) for stage in stages):
            return
        parts = self._gathered(sealed)
        if first:
            others = {name: seal for part in parts for name, seal in part.items()}
            self.keeper.write(draft, best=self.state.best_global_step, others=others)
        self.accelerator.wait_for_everyone()

    def _write_pieces(self, folder: Path, random: list[Any]) -> None:
        self.save_model(str(folder), _internal_call=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
        if self.args.should_save:
            states = {"random": random, "trackers": tracker_runs(self.callback_handler.callbacks)}
            (folder / STATES).write_text(json.dumps(states), encoding="utf-8")
            self._write_facts(folder)

    def _share_of_files(self, folder: Path) -> list[str]:
        """The files that this process hashes, so that the first one does not read all of them."""
        return files_of(folder)[self.args.process_index :: self.args.world_size]

    def _everywhere(self, draft: Draft, stage: Callable[[], Any]) -> bool:
        """Do a part of a save on every process. False on all of them, and the draft is gone, if one had no room."""
        failed = None
        try:
            stage()
        except Exception as error:
            if not is_save_error(error):
                raise
            failed = str(error)
        reasons = [reason for reason in self._gathered(failed) if reason is not None]
        if not reasons:
            return True
        if self.args.should_save:
            draft.discard()
        self.keeper.note_failure(draft.step, OSError(reasons[0]))
        return False

    # What both need

    def _gathered(self, value: Any) -> list[Any]:
        """The value of every process, by rank."""
        if self.args.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.args.world_size
        dist.all_gather_object(values, value)
        return values

    def _refuse_lost_weights(self) -> None:
        lost = next((name for name in self._gathered(weights_not_finite(self.model)) if name is not None), None)
        if lost is None:
            return
        there = list_checkpoints(self.keeper.output_dir)
        last = f"{there[-1]}, the last good one, stays" if there else "there is none to fall back on"
        raise CheckpointError(
            f"step {self.state.global_step}: weight {lost} holds values that are not numbers: nothing is left to "
            f"train. No checkpoint is written of it; {last}. Lower the learning rate, look at the rows of the last "
            "steps (metrics.jsonl), or train in bfloat16 instead of float16; then start again."
        )

    def _note_best(self) -> None:
        best = self.state.best_global_step
        if best and self.args.save_strategy != "no":
            folder = checkpoint_folder(self.keeper.output_dir, best)
            if best == self.state.global_step or folder.exists():
                self.state.best_model_checkpoint = str(folder)

    def _note_callbacks(self) -> None:
        """Keep the state of callbacks that have one, as transformers does."""
        for one in [*self.callback_handler.callbacks, self.control]:
            if isinstance(one, ExportableState):
                name, state = type(one).__name__, one.state()
                kept = self.state.stateful_callbacks.get(name)
                if isinstance(kept, list):
                    kept.append(state)
                else:
                    self.state.stateful_callbacks[name] = state
