"""The history of a run as a pandas table: one row a logged step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

COUNTS = ("step", "tokens", "trained_tokens", "eval_trained_tokens")
"""Columns of whole numbers; all others are real numbers. What a step did not measure is missing."""

FIRST = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "trained_tokens",
    "tokens_per_second",
    "trained_tokens_per_second",
)
"""Columns that are always there, in this order; what else was logged follows in the order in which it came."""

SUMMARY = "train_runtime"
"""The entry that has it is transformers' summary of a whole training, not a step."""


def history_frame(history: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """The entries of ``TrainerState.log_history`` by step: a step's loss and its evaluation stand in one row.

    ``loss`` and ``eval_loss`` are per trained token (in stage dpo per pair of answers). ``tokens`` and
    ``trained_tokens`` are those of the steps since the row before that has a loss, or since the run was resumed.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "trainer.history is a pandas table, and pandas is not installed here. Install it (pip install pandas), or "
            "read metrics.jsonl in the run's folder: the same figures, one JSON object a line.",
            name="pandas",
        ) from error
    rows = rows_by_step(history)
    names = dict.fromkeys([*FIRST, *(name for row in rows for name in row)])
    types = {name: "Int64" if name in COUNTS else "Float64" for name in names}
    return pandas.DataFrame(
        {name: pandas.array([row.get(name) for row in rows], dtype=kind) for name, kind in types.items()}
    )


def rows_by_step(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One dict a step with all that was logged at it; of a figure logged twice the later one."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if SUMMARY in entry:
            continue
        row = rows.setdefault(int(entry["step"]), {})
        row.update({name: value for name, value in entry.items() if is_figure(value)})
    return [rows[step] for step in sorted(rows)]


def is_figure(value: Any) -> bool:
    """Whether it is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
