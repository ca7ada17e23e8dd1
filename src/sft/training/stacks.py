"""Where each process of a run stood when it hung or was left alone: ``stacks-rank-N.txt`` in the run folder.

A timer of the interpreter's own, which needs no lock of Python's and so works inside of hung native code, too, writes
the stacks of all threads unless the process shows a sign of life first. It is shorter than ``ddp_timeout``: of a rank
that hangs, and of those that wait for it, the stacks are there before the run ends.
"""

from __future__ import annotations

import faulthandler
import os
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import SftError

NAME = "stacks-rank-{}.txt"
SHARE = 0.75
"""Of ``ddp_timeout``: a rank may reach its wait this much earlier than another its hang, and both are still written."""

_watch: StackWatch | None = None
"""Of this process: the interpreter has one such timer."""


class StackWatch(TrainerCallback):  # type: ignore[misc]
    """Winds the timer at whatever the trainer does.

    Args:
        folder: of the run.
        timeout_seconds: after which a process that waits for another gives up.
    """

    def __init__(self, folder: Path, rank: int, timeout_seconds: float) -> None:
        self.path = folder / NAME.format(rank)
        self.seconds = SHARE * timeout_seconds
        self.file: TextIO | None = None

    def wind(self) -> None:
        """A sign of life. What was written meanwhile is of a process that was slow."""
        if self.file is not None:
            if os.fstat(self.file.fileno()).st_size:
                self.file.truncate(0)
                self.file.seek(0)
            faulthandler.dump_traceback_later(self.seconds, file=self.file)

    def keep(self, error: BaseException) -> None:
        """Write where this process was when it failed, below what the timer wrote."""
        if self.file is not None:
            faulthandler.cancel_dump_traceback_later()
            with suppress(OSError):
                self.file.write("".join(["\nended by:\n", *traceback.format_exception(error)]))
                self.file.flush()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to watch. Without a place for the file there is no watch."""
        global _watch
        with suppress(OSError):
            self.file = self.path.open("w", encoding="utf-8")
            _watch = self
        self.wind()

    def on_event(self, *args: Any, **kwargs: Any) -> None:
        """Something was done."""
        self.wind()

    on_step_begin = on_substep_end = on_step_end = on_prediction_step = on_log = on_save = on_evaluate = on_event

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """It went well: nothing is left."""
        self.stop()

    def stop(self) -> None:
        """End the watch and take its file away."""
        global _watch
        if self.file is None:
            return
        faulthandler.cancel_dump_traceback_later()
        self.file.close()
        self.file = _watch = None
        self.path.unlink(missing_ok=True)


def keep_stacks(error: BaseException) -> str:
    """Write where this process failed, and say where those of all lie; nothing where no run was under way."""
    if _watch is None:
        return ""
    if isinstance(error, SftError):  # an end in order: a signal, a mistake, a disk that is full
        _watch.stop()
        return ""
    _watch.keep(error)
    return f"{_watch.path.with_name(NAME.format('*'))} show where each rank stood. "
