"""From a file of predictions to scores, without a model.

Two kinds of lines are read: LongBench's own (``pred``, ``answers``, ``all_classes``, ``length``) and what our
evaluation writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.data.types import Row
from sft.errors import DataError
from sft.tasks import TASKS, TaskOptions, resolve_task
from sft.tasks.longbench import LongBenchTask, average_categories
from sft.tasks.sources.rows import read_lines
from sft.tasks.task import Results, Scored, Task

_OFFICIAL = "pred"
"""The key that only LongBench's own files call an answer by."""


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """The scores of one file."""

    score: float
    """What the task counts by: LongBench 0 to 100 (a whole benchmark: the mean over its subsets), the others 0 to 1."""

    rows: list[Scored]
    """One a line, in the order of the file."""

    results: dict[str, Results]
    """By task."""

    averages: dict[str, Any] | None = None
    """LongBench's overall scores, where the file holds a whole benchmark."""


def score_file(name: str, path: str, options: TaskOptions | None = None) -> ScoredFile:
    """Score every line of a predictions file.

    Args:
        name: a name in ``sft.tasks.TASKS``. With `longbench` and `longbench_e`, lines say their subset as ``dataset``.

    Raises:
        ConfigError: no such task.
        DataError: no such file, a line that is not whole, or a line of another task.
    """
    rows = _read(path)
    known = resolve_task(name)
    if known == "qmsum" and _OFFICIAL in rows[0].values:
        known = "longbench/qmsum"  # the same rows are published with another scorer, and that one's files show it
    tasks = {_subset(task): task for task in TASKS[known]((options or TaskOptions()).with_environment())}
    scores: list[Scored] = [{}] * len(rows)
    results: dict[str, Results] = {}
    for subset, numbers in _by_subset(rows, tasks).items():
        task = tasks[subset]
        answers = [task.read_prediction(rows[number].values, rows[number].source) for number in numbers]
        examples = [example for _, example in answers]
        scored = task.score_all([prediction for prediction, _ in answers], examples)
        for number, one in zip(numbers, scored, strict=True):
            scores[number] = one
        results[task.name] = task.aggregate(scored, examples)
    return _put_together(scores, results, is_whole=len(tasks) > 1)


def _put_together(scores: list[Scored], results: dict[str, Results], *, is_whole: bool) -> ScoredFile:
    found = {name.rpartition("/")[2]: float(result["main_score"]) for name, result in results.items()}
    if not is_whole:
        return ScoredFile(next(iter(found.values())), scores, results)
    mean = round(sum(found.values()) / len(found), 2)
    return ScoredFile(mean, scores, results, average_categories(found))


def _read(path: str) -> list[Row]:
    if not os.path.isfile(path):
        raise DataError(f"predictions {path!r}: there is no such file; paths count from {os.getcwd()!r}")
    try:
        with open(path, "rb") as file:
            rows = list(read_lines(file, path))
    except OSError as error:
        raise DataError(f"predictions {path!r}: the file cannot be read: {error.strerror}") from error
    if not rows:
        raise DataError(f"predictions {path!r}: the file holds no line; expected one JSON object a line")
    return rows


def _by_subset(rows: Sequence[Row], tasks: Mapping[str, Task]) -> dict[str, list[int]]:
    """Positions of the rows of each task, tasks in the order of the benchmark."""
    found: dict[str, list[int]] = {subset: [] for subset in tasks}
    only = next(iter(tasks)) if len(tasks) == 1 else None
    for number, row in enumerate(rows):
        subset = row.values.get("dataset", only)
        if subset is None:
            raise DataError(
                f"{row.source}: the row does not say its subset as 'dataset', and the task is a whole benchmark. Score "
                f"the file of each subset for itself, with one of {', '.join(tasks)} as task"
            )
        if subset not in found:
            raise DataError(
                f"{row.source}: the row is of {subset!r}, but {', '.join(tasks)} is asked for. Give each task its own "
                "file; a file with rows of several LongBench subsets is scored as task longbench"
            )
        found[subset].append(number)
    return {subset: numbers for subset, numbers in found.items() if numbers}


def _subset(task: Task) -> str:
    """What rows of a task call it as ``dataset``."""
    return task.subset.name if isinstance(task, LongBenchTask) else task.name
