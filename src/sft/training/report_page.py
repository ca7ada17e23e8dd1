"""The page of a run, kept up to date while it trains. It can fail, and be slow, without the run noticing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.report.names import PAGE
from sft.training.launch import announce

FIRST_SECONDS = 5.0
"""Of training before the first page: a run that is over by then writes it once, at its end."""

LEAST_SECONDS = 15.0
"""Between two pages."""

SHARE = 0.02
"""Of the time of a run that its pages may cost."""


class ReportPage(TrainerCallback):  # type: ignore[misc]
    """Writes the page again after figures were logged, as seldom as its cost asks for. The first process does.

    The last page of a run is not its matter: it is written when all else is (``run_record.py``, ``ending.py``).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._due = 0.0
        self._failed = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._due = time.monotonic() + FIRST_SECONDS

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and not self._failed and time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write it now, and settle when the next one is due."""
        began = time.monotonic()
        self._failed = leave_page(self.folder) is None
        self._due = time.monotonic() + max(LEAST_SECONDS, (time.monotonic() - began) / SHARE)


def leave_page(folder: Path) -> Path | None:
    """Write the page of a run into its folder; where that fails, say so and go on."""
    from sft.report.page import write_page  # at the first page, which is later than the first step

    try:
        return write_page([folder], folder / PAGE)
    except Exception as error:  # hours of training are worth more than a page
        announce(
            f"{folder / PAGE} could not be written: {type(error).__name__}: {error}. The run goes on without it; "
            f"`sft report {folder}` tries again."
        )
        return None
