"""TensorBoard: event files in the folder ``runs`` of a run, the same folder after every resume."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sft.trackers.tracker import Ending, RunFacts, Table, Tracker

FOLDER = "runs"
EVENTS = "events.out.tfevents.*"
VARIABLE = "TENSORBOARD_LOGGING_DIR"
"""Names another folder; transformers reads it, too."""


class TensorBoardTracker(Tracker):
    """Writes event files. What an interrupted run wrote after the checkpoint it goes on from is marked as void."""

    name = "tensorboard"

    def open(self, facts: RunFacts) -> str:
        asked = os.environ.get(VARIABLE) or facts.run_id or FOLDER
        folder = facts.folder / Path(asked).expanduser()
        first = facts.step + 1 if facts.step else 0
        self._writer = SummaryWriter(str(folder), purge_step=first if any(folder.glob(EVENTS)) else None)
        self._writer.add_text("config", markdown(("option", "value"), facts.config.items()), facts.step)
        self._writer.flush()
        return asked

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def add_table(self, step: int, table: Table) -> None:
        text = f"{html.escape(table.title)}\n\n{markdown(table.columns, table.rows)}"
        self._writer.add_text(f"answers/{table.name}", text, step)
        self._writer.flush()

    def add_page(self, page: Path, step: int) -> None:
        """TensorBoard keeps no files: where the page lies is all it can say."""
        self._writer.add_text("page", f"`{page.resolve()}`", step)

    def close(self, ending: Ending) -> None:
        self._writer.close()


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as TensorBoard shows it. Nothing in a cell counts as Markdown's or HTML's own."""
    return "\n".join([_line(columns), "|---" * len(columns) + "|", *map(_line, rows)])


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return html.escape(text).replace("|", "&#124;").replace("\n", "<br>")
