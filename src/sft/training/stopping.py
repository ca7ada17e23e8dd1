"""SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 ask a run to stop: it finishes its optimizer step, saves, and exits with 75.

A second signal changes nothing: what is being saved is saved. Where several processes train, one that was asked tells
the others at steps at which all of them listen, so that all stop after the same one. An evaluation by generation is
given up as soon as the answers under way have come; the run goes on with that evaluation.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import TrainingStopped
from sft.training.checkpoints.layout import checkpoint_folder
from sft.training.launch import announce

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
LISTEN_EVERY = 1.0
"""Seconds between two steps at which several processes ask each other."""

MOST_STEPS = 16
"""And at most so many steps."""


class StopWhenAsked(TrainerCallback):  # type: ignore[misc]
    """Ends training after the step in which a signal came, with a checkpoint of it.

    Args:
        folder: where checkpoints are saved.
        go_on: how the run is gone on with, as a sentence (``how_to_go_on``).
    """

    def __init__(self, folder: Path, go_on: str) -> None:
        self.folder = folder
        self.go_on = go_on
        self.asked: int | None = None
        """The signal that came."""
        self.stopped_at: int | None = None
        """The step after which training ended because of it."""
        self._is_unfinished = False
        self._before: dict[int, Any] = {}
        self._listens_at = 0
        self._since = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._listens_at, self._since = state.global_step + 1, time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Give signals back to whom they belonged."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.stopped_at is None and self._is_to_stop(args, state.global_step):
            self.stop_at(state, control)

    @property
    def is_asked(self) -> bool:
        """Whether a signal came here, or the run is stopping because one came elsewhere."""
        return self.asked is not None or self.stopped_at is not None

    def is_asked_anywhere(self, args: TrainingArguments) -> bool:
        """The same of any process; all of them call it."""
        if args.world_size == 1:
            return self.is_asked
        told = torch.tensor(float(self.is_asked), device=args.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def stop_at(self, state: TrainerState, control: TrainerControl, *, is_unfinished: bool = False) -> None:
        """Save, and train no further. An evaluation loss that is due is measured first: by it the best step is known.

        Args:
            is_unfinished: something of this step is left to do, be it the last one.
        """
        self.stopped_at = state.global_step
        self._is_unfinished = is_unfinished
        control.should_save = control.should_training_stop = True

    def end_at(self, state: TrainerState) -> None:
        """End a run that has trained no step since it began.

        Raises:
            TrainingStopped: always.
        """
        self.stopped_at, self._is_unfinished = state.global_step, True
        self.require_end(state)

    def require_end(self, state: TrainerState) -> None:
        """Raise if training ended before its time.

        Raises:
            TrainingStopped: a signal asked for it, and everything is saved.
        """
        if self.stopped_at is None or (self.stopped_at >= state.max_steps and not self._is_unfinished):
            return
        name = signal.Signals(self.asked).name if self.asked is not None else "another process's signal"
        if not self.stopped_at:
            raise TrainingStopped(f"stopped by {name} before the first step: nothing is saved. Start it again.")
        raise TrainingStopped(
            f"stopped by {name} after step {self.stopped_at} of {state.max_steps}. Everything is saved in "
            f"{checkpoint_folder(self.folder, self.stopped_at)}. {self.go_on}"
        )

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            return  # it is being done
        self.asked = number
        # from a thread: the signal may have come in the middle of somebody's print, which cannot be entered twice
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        said = f"{name}: this step is finished, then all is saved as a checkpoint in {self.folder}. {self.go_on}"
        threading.Thread(target=announce, args=(said,)).start()

    def _is_to_stop(self, args: TrainingArguments, step: int) -> bool:
        if args.world_size == 1:
            return self.asked is not None
        if step < self._listens_at:
            return False
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        told = torch.tensor([float(self.asked is not None), seconds], device=args.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        is_asked, slowest = told.tolist()
        since = max(1, self._steps_between)
        self._steps_between = int(min(MOST_STEPS, max(1, LISTEN_EVERY / max(slowest / since, 1e-6))))
        self._listens_at = step + self._steps_between
        return bool(is_asked)

    _steps_between: int = 1
