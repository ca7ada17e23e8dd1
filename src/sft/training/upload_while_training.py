"""`hub_strategy`: what the hub gets of a run that is not done.

transformers would send the run folder: page, answers, options, and its arguments as a pickle. Here each save
sends what the end of a run sends (``upload.py``), the model with its card; and the checkpoint where that is asked for.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.export.hub import begin_push, said
from sft.training.checkpoints.keeper import is_save_error
from sft.training.checkpoints.layout import checkpoint_folder
from sft.training.launch import doing, is_main_process, warn
from sft.training.peers import told_by_first
from sft.training.save import ModelSaver

UPLOADING = ".uploading"
"""In the run folder, while something is on its way."""


class UploadWhileTraining(TrainerCallback):  # type: ignore[misc]
    """Uploads the model of each save, in a thread. What the hub does not take is said, and the run goes on.

    A save that comes while the one before is still on its way is left out, unless ``hub_always_push`` is set.
    """

    def __init__(self, saver: ModelSaver) -> None:
        self.saver = saver
        self.folder = Path(saver.config.output_dir)
        self._on_its_way: dict[int, Future[Any]] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove what a killed run had on its way."""
        if is_main_process():
            shutil.rmtree(self.folder / UPLOADING, ignore_errors=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Every process comes here, for all of them may be needed to gather the weights; the first one uploads."""
        self._settle()
        is_busy = bool(self._on_its_way) and not args.hub_always_push
        has_checkpoint = self.saver.trainer.keeper.failure is None
        if told_by_first("no" if is_busy or not has_checkpoint else "yes") == "no":
            return
        step = int(state.global_step)
        place = Path(UPLOADING, str(step), Path(self.folder, self.saver.config.model_dir).absolute().name)
        try:
            self.saver.save(str(place), {"steps": step, "steps of the whole run": int(state.max_steps)})
        except Exception as error:
            if not is_save_error(error):
                raise
            self._give_up(step, error)
            self.saver.trainer.accelerator.wait_for_everyone()  # as saving would have
            return
        if not is_main_process():
            return
        try:
            self._add_checkpoint(args, step, self.folder / place)
        except OSError as error:
            self._give_up(step, error)
        else:
            self._begin(step, self.folder / place)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Nothing of training may arrive after the finished model."""
        with doing("uploading what was saved"):
            wait(self._on_its_way.values())
        self._settle()
        if is_main_process():
            shutil.rmtree(self.folder / UPLOADING, ignore_errors=True)

    def _add_checkpoint(self, args: TrainingArguments, step: int, folder: Path) -> None:
        """Beside the model, under the names that transformers uses. Links, so that its rotation takes nothing away."""
        checkpoint, strategy = checkpoint_folder(self.folder, step), str(args.hub_strategy.value)
        if strategy == "every_save" or not checkpoint.is_dir():
            return
        name = "last-checkpoint" if strategy == "checkpoint" else checkpoint.name
        shutil.copytree(checkpoint, folder / name, copy_function=link_or_copy)

    def _give_up(self, step: int, error: BaseException) -> None:
        shutil.rmtree(self.folder / UPLOADING / str(step), ignore_errors=True)
        warn(f"step {step}: nothing is uploaded, for the disk did not take the copy: {error}. The run goes on.")

    def _begin(self, step: int, folder: Path) -> None:
        repository = str(self.saver.trainer.hub_model_id)
        push = begin_push(folder, repository, message=f"Training in progress, step {step}")
        push.add_done_callback(lambda _: shutil.rmtree(folder.parent, ignore_errors=True))
        self._on_its_way[step] = push

    def _settle(self) -> None:
        """Say what did not arrive of what is done."""
        for step, push in [(step, push) for step, push in self._on_its_way.items() if push.done()]:
            if (error := push.exception()) is not None:
                warn(f"step {step}: the hub did not take the model: {said(error)} The run goes on, and tries again.")
            del self._on_its_way[step]


def link_or_copy(source: str, target: str) -> str:
    """A second name of a file; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
