"""The checkpoints of one run: writes them here or in the background, keeps the good ones, and bears a full disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sft.errors import CheckpointError
from sft.training.checkpoints.find import list_checkpoints
from sft.training.checkpoints.manifest import FileSeal
from sft.training.checkpoints.memory_copy import MemoryCopy
from sft.training.checkpoints.rotate import rotate
from sft.training.checkpoints.write import Draft, complete
from sft.training.launch import warn

SAVE_ERRORS = (OSError, SafetensorError)
"""What a disk that is full, gone or read-only raises, in Python and in safetensors. PyTorch has no class for it."""


@dataclass
class CheckpointKeeper:
    """Where a run's checkpoints go and what is done with them; one per trainer. The first process writes."""

    output_dir: Path
    limit: int | None = None
    stop_on_failure: bool = False
    """End the run when a checkpoint cannot be written; else go on with the ones that are there."""
    background: bool | None = None
    """Write while training goes on. None: where memory takes a copy."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Of the run, kept in each checkpoint: fingerprints, processes, changes that were allowed."""
    memory: MemoryCopy = field(default_factory=MemoryCopy)
    failure: str | None = None
    """Why the last checkpoint is not there."""
    _thread: threading.Thread | None = None
    _crash: BaseException | None = None

    def write(self, draft: Draft, *, best: int | None, others: dict[str, FileSeal] | None = None) -> None:
        """Complete a draft, then let the oldest go. A disk that does not take it is announced, and noted."""
        try:
            complete(draft, others)
        except Exception as error:
            draft.discard()
            if not is_save_error(error):
                raise
            self.note_failure(draft.step, error)
            return
        self.failure = None
        try:
            rotate(self.output_dir, newest=draft.step, best=best, limit=self.limit)
        except OSError as error:
            warn(f"an old checkpoint could not be removed: {error}")

    def write_behind(self, draft: Draft, *, best: int | None) -> None:
        """The same in a thread; ``finish`` waits for it."""

        def work() -> None:
            try:
                self.write(draft, best=best)
            except BaseException as error:  # raised again where the run can hear it
                self._crash = error

        self._thread = threading.Thread(target=work, name=f"checkpoint-{draft.step}")
        self._thread.start()

    def finish(self) -> None:
        """Wait for a checkpoint that is being written.

        Raises:
            Exception: what its writing raised, unless the disk was to blame (see ``failure``).
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash

    def settle(self) -> None:
        """Wait for a checkpoint that is being written when the run ends or fails; what goes wrong is only said."""
        try:
            self.finish()
        except BaseException as error:
            warn(f"the last checkpoint could not be written: {type(error).__name__}: {error}")

    def note_failure(self, step: int, error: BaseException) -> None:
        """Say that a checkpoint is not there, and what is."""
        there = list_checkpoints(self.output_dir)
        last = f"the last one is {there[-1].name}" if there else "there is none yet"
        self.failure = f"checkpoint-{step} could not be written: {error}; {last}"
        warn(f"{self.failure}. " + ("" if self.stop_on_failure else "Training goes on (on_failed_save: continue)."))

    def require(self, failed: bool) -> None:
        """End the run if a checkpoint is missing and that is to end it.

        Args:
            failed: on any process.

        Raises:
            CheckpointError: as ``on_failed_save`` says.
        """
        if failed and self.stop_on_failure:
            raise CheckpointError(
                f"{self.failure or 'another process could not write its part of a checkpoint'}. The run ends, as "
                "on_failed_save: stop says. Make room on the disk and start the same command again: it goes on from "
                "the newest valid checkpoint."
            )


@contextmanager
def saying_what_stays(output_dir: Path) -> Iterator[None]:
    """While the trained model is written at the end of a run.

    Raises:
        CheckpointError: the disk did not take it; the message names the checkpoint to go on from.
    """
    try:
        yield
    except Exception as error:
        if not is_save_error(error):
            raise
        there = list_checkpoints(output_dir)
        again = f"the newest checkpoint is {there[-1].name}" if there else "there is no checkpoint (save_strategy)"
        raise CheckpointError(
            f"the trained model could not be written to {output_dir}: {error}; {again}. Make room on the disk and "
            "start the same command again: it trains what is left, if anything, and saves."
        ) from error


def is_save_error(error: BaseException) -> bool:
    """Whether it is the disk that failed, and not the program."""
    return isinstance(error, SAVE_ERRORS) or (isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error))
