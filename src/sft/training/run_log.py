"""``train.log``: what a run tells people, kept in its folder (``also_write`` with log). The first process writes it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.training.launch import SPOKEN

NAME = "train.log"
FORMAT = "%(asctime)s %(message)s"


class RunLog(logging.FileHandler):
    """The file, told from handlers that others may put on the same logger."""


def keep_log(folder: Path, said: Sequence[str] = ()) -> None:
    """Write what is announced from now on to the end of the log, each line with its time.

    Args:
        folder: of the run. A resumed run goes on in the log that is there.
        said: what was announced before.
    """
    end_log()
    handler = RunLog(folder / NAME, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    SPOKEN.addHandler(handler)
    for line in said:
        SPOKEN.info(line)


def end_log() -> None:
    """Close the log, if one is kept."""
    for handler in [one for one in SPOKEN.handlers if isinstance(one, RunLog)]:
        SPOKEN.removeHandler(handler)
        handler.close()


class LoggedFigures(TrainerCallback):  # type: ignore[misc]
    """A line for every logged step, which the progress bar of a terminal leaves none of."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            figures = ", ".join(f"{name} {value:.6g}" for name, value in logs.items() if isinstance(value, int | float))
            SPOKEN.info(f"step {state.global_step}/{state.max_steps}: {figures}")
