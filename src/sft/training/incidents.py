"""``incidents.jsonl``: what went wrong while training without ending it, each with its step and the rows it came of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.data.collate import EMPTY_ROW, TrainingRows
from sft.data.token_batches import RowGroups
from sft.training.order import RowOrder
from sft.training.window_rows import WindowRows

INCIDENTS = "incidents.jsonl"
EVALUATION_FAILED = "evaluation failed"
"""A kind of them, whose line has the reason as ``why``."""
ROWS_KEPT = 64
"""Rows of a step that are named; the number of all is kept beside them."""


class Incidents(TrainerCallback):  # type: ignore[misc]
    """The file of one run. The first process writes it; a resumed run drops what came after its checkpoint.

    Args:
        writes: whether this process does.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.path = folder / INCIDENTS
        self.writes = writes

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.writes or not self.path.exists():
            return
        step = state.global_step  # at 0 nothing is gone on with, and what was noted of step 0 happens again
        kept = [line for line in read_incidents(self.path.parent) if step and line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def add(self, kind: str, step: int, rows: Sequence[str] = (), **figures: Any) -> None:
        """Add a line.

        Args:
            kind: "not finite", "spike", "out of memory", ``EVALUATION_FAILED``.
            step: the optimizer step, counted from 1.
            rows: places of the rows of that step.
        """
        if self.writes:
            line = {"step": step, "kind": kind, **figures, "num_rows": len(rows), "rows": list(rows[:ROWS_KEPT])}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_incidents(folder: Path) -> list[dict[str, Any]]:
    """The incidents of a run folder; a last line that a kill tore is left out."""
    path = folder / INCIDENTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def rows_of_step(
    order: RowOrder, rows: TrainingRows | RowGroups | WindowRows, *, step: int, per_step: int
) -> list[str]:
    """Places ('train.jsonl:17') of all rows that an optimizer step takes, over all processes.

    Args:
        step: counted from 0.
        per_step: items of the data in one step, as ``Plan.rows_per_step`` counts.
    """
    steps_per_epoch = max(1, -(-len(order) // per_step))
    before, order.epoch = order.epoch, step // steps_per_epoch
    try:
        begin = step % steps_per_epoch * per_step
        chosen = list(dict.fromkeys(islice(order, begin, begin + per_step)))
    finally:
        order.epoch = before
    return [place for index in chosen if index != EMPTY_ROW for place in _places(rows, index)]


def _places(rows: TrainingRows | RowGroups | WindowRows, index: int) -> list[str]:
    if isinstance(rows, WindowRows):
        return rows.sources(index)
    if isinstance(rows, RowGroups):
        return [place for row in rows.batches[index] for place in _places(rows.rows, row)]
    examples = [index] if rows.packs is None else rows.packs[index]
    return [str(rows.store.source(example)) for example in examples]
