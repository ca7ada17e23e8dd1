"""How a run ended that did not come to its end: kept in ``run.json``, and told by its page."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

from sft.config.secrets import without_secrets
from sft.errors import SftError, TrainingStopped
from sft.training.assembled import AssembledRun
from sft.training.launch import announce, is_main_process
from sft.training.record import read_record, write_record
from sft.training.report_page import leave_page

LONGEST = 2_000
"""Characters of a message that are kept."""

Result = TypeVar("Result")


def told_how_it_ended(train: Callable[[AssembledRun], Result]) -> Callable[[AssembledRun], Result]:
    """Around the function that trains a run: what it raises is kept with the run before it is raised on.

    A run that is killed keeps nothing; its page says that it is not finished.
    """

    @wraps(train)
    def telling(run: AssembledRun) -> Result:
        try:
            return train(run)
        except BaseException as error:
            if is_main_process():
                tell_ending(run, error)
            raise

    return telling


def tell_ending(run: AssembledRun, error: BaseException) -> None:
    """Write when, after which step and with what message it ended, and its page once more."""
    run.trainer.keeper.settle()  # the page names checkpoints
    folder = Path(run.config.output_dir)
    was_asked = isinstance(error, TrainingStopped | KeyboardInterrupt)
    ended = {
        "how": "stopped" if was_asked else "failed",
        "step": int(run.trainer.state.global_step),
        "time": round(time.time(), 3),
        "why": told(error),
    }
    try:
        write_record(folder, {**(read_record(folder) or {}), "ended": ended})
    except Exception as failure:  # a full disk may be what ended the run: that is to be heard, and not this
        announce(f"how the run ended could not be kept in {folder}: {type(failure).__name__}: {failure}")
    if run.config.report_page:
        leave_page(folder)


def told(error: BaseException) -> str:
    """What people are told of it: the message of an error of ours, the name of any other before its message."""
    text = str(error).strip()
    if not isinstance(error, SftError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = without_secrets(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [... {len(text) - LONGEST:,} more characters]"
