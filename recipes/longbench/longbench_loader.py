"""LongBench's subsets, QMSum and TruthfulQA as tasks: rows, prompts, scores. They live in ``sft.tasks``.

(task,) = load("hotpotqa", longbench_dir="LongBench/data.zip")
example = task.examples()[0]
print(task.prompt(example), example.references)
"""

from __future__ import annotations

from sft.tasks import Task, TaskExample, TaskOptions, open_tasks
from sft.tasks.longbench import read_subsets

__all__ = ["SUBSETS", "Task", "TaskExample", "TaskOptions", "load"]

SUBSETS = tuple(read_subsets())


def load(names: str, **places: str) -> tuple[Task, ...]:
    """The tasks that names with commas between them mean. ``places`` are fields of TaskOptions."""
    return open_tasks(names, TaskOptions(**places))
