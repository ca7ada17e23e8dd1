"""A small table for the terminal: each score beside that of the untrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft.tasks.combined import CombinedWeights, combined_score, comparable
from sft.tasks.task import Results

Evaluation = Mapping[str, Results]

PARTS = {"truthfulqa": ("accuracy", "avg_max_score")}
"""Tasks with more than one score worth a row."""

PERCENT = "score"
"""Name of the scores that go from 0 to 100; two decimals say all of them."""


def compare_table(before: Evaluation | None, now: Evaluation, *, weights: CombinedWeights | None = None) -> str:
    """Each score of ``now`` beside the one before training, and the difference.

    A score that was measured otherwise (other rows, another scorer) is shown and not compared.
    """
    rows = [["", "metric", "step 0", "now", "change"]]
    for task, results in now.items():
        first = (before or {}).get(task)
        rows += [_row(task, metric, first, results) for metric in PARTS.get(task, (results["main_metric"],))]
    if is_combined(now):
        rows.append(_combined_row(before, now, weights))
    return "\n".join([*_lines(rows), *_remarks(before, now)])


def score_table(results: Evaluation) -> str:
    """Each score with its scorer and its number of rows."""
    rows = [["", "metric", "score", "rows", "scorer"]]
    for task, found in results.items():
        for metric in PARTS.get(task, (found["main_metric"],)):
            count = f"{found['num_samples']}{' of ' + str(found['num_available']) if 'num_available' in found else ''}"
            rows.append([task, metric, _shown(metric, _value(found, metric)), count, found["scorer"]])
    if is_combined(results):
        rows.append(["combined", "", _shown("", combined_score(results)), "", ""])
    return "\n".join([*_lines(rows, left=(0, 1, 4)), *_remarks(None, results)])


def is_combined(results: Evaluation) -> bool:
    """Whether both tasks of the combined score are there."""
    return {"truthfulqa", "qmsum"} <= set(results)


def _row(task: str, metric: str, before: Results | None, now: Results) -> list[str]:
    new, old = _value(now, metric), None if before is None else _value(before, metric)
    alike = before is not None and comparable({task: before}, {task: now})
    change = f"{new - old:+.{_decimals(metric)}f}" if alike and new is not None and old is not None else "-"
    return [task, metric, _shown(metric, old), _shown(metric, new), change]


def _combined_row(before: Evaluation | None, now: Evaluation, weights: CombinedWeights | None) -> list[str]:
    new = combined_score(now, weights)
    parts = [
        {task: results[task] for task in ("truthfulqa", "qmsum") if task in results} for results in (before or {}, now)
    ]
    old = combined_score(parts[0], weights) if is_combined(parts[0]) else None
    change = f"{new - old:+.4f}" if old is not None and comparable(*parts) else "-"
    return ["combined", "", _shown("", old), _shown("", new), change]


def _remarks(before: Evaluation | None, now: Evaluation) -> list[str]:
    lines = [
        f"{task}: {results['num_samples']} of {results['num_available']} rows, so the scores are partial"
        for task, results in now.items()
        if "num_available" in results
    ]
    for task, results in now.items():
        for reason, count in results.get("unanswered", {}).items():
            lines.append(f"{task}: {count} rows count as wrong, they could not be asked: {reason}")
        if before and task in before and not comparable({task: before[task]}, {task: results}):
            lines.append(f"{task}: measured otherwise than at step 0 (rows or scorer), so not compared")
    return lines


def _value(results: Results, metric: str) -> float | None:
    found: Any = results.get(metric, results["main_score"] if metric == results["main_metric"] else None)
    return None if found is None else float(found)


def _shown(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{_decimals(metric)}f}"


def _decimals(metric: str) -> int:
    return 2 if metric == PERCENT or metric.endswith("average") else 4


def _lines(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0, 1)) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
