"""What can be asked and scored. A task opens its rows when they are first wanted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from sft.data.sources.spec import nearest
from sft.errors import ConfigError
from sft.tasks.longbench import LongBenchTask, make_longbench, read_subsets
from sft.tasks.options import TaskOptions
from sft.tasks.qmsum import QmsumTask, make_qmsum
from sft.tasks.similarity import open_similarity
from sft.tasks.sources.longbench import read_longbench
from sft.tasks.sources.qmsum import SPLITS, read_qmsum
from sft.tasks.sources.truthfulqa import read_truthfulqa
from sft.tasks.task import Task, TaskExample
from sft.tasks.truthfulqa import TruthfulQaTask, make_truthfulqa

__all__ = ["TASKS", "Task", "TaskExample", "TaskOptions", "open_tasks", "resolve_task"]

Builder = Callable[[TaskOptions], tuple[Task, ...]]


def build_longbench(options: TaskOptions, *, name: str, by_length: bool = False) -> tuple[LongBenchTask]:
    """One subset of LongBench, or of LongBench-E."""
    task = make_longbench(name, by_length=by_length)
    load = functools.cache(lambda: read_longbench(options.longbench_dir, task))
    return (make_longbench(name, load=load, by_length=by_length),)


def build_all_longbench(options: TaskOptions) -> tuple[Task, ...]:
    """All 21 subsets."""
    return tuple(build_longbench(options, name=name)[0] for name in read_subsets())


def build_longbench_e(options: TaskOptions) -> tuple[Task, ...]:
    """The 13 subsets of LongBench-E."""
    return tuple(
        build_longbench(options, name=subset.name, by_length=True)[0]
        for subset in read_subsets().values()
        if subset.longbench_e
    )


def build_qmsum(options: TaskOptions) -> tuple[QmsumTask]:
    """The 200 rows of QMSum that LongBench chose; its own test split where only QMSum's files are at hand."""
    if options.qmsum_dir and not options.longbench_dir:
        return build_qmsum_split(options, split="test", name="qmsum")
    rows = make_longbench("qmsum")
    return (make_qmsum("longbench", load=functools.cache(lambda: read_longbench(options.longbench_dir, rows))),)


def build_qmsum_split(options: TaskOptions, *, split: str, name: str | None = None) -> tuple[QmsumTask]:
    """One split of QMSum's own files."""
    load = functools.cache(lambda: read_qmsum(options.qmsum_dir, split))
    return (make_qmsum(split, load=load, name=name or f"qmsum/{split}"),)


def build_truthfulqa(options: TaskOptions) -> tuple[TruthfulQaTask]:
    """All questions of TruthfulQA."""
    similarity = open_similarity(options.truthfulqa_scorer, options.bleurt_checkpoint)
    return (make_truthfulqa(similarity, load=functools.cache(lambda: read_truthfulqa(options.truthfulqa_file))),)


_SUBSETS: dict[str, Builder] = {name: functools.partial(build_longbench, name=name) for name in read_subsets()}

TASKS: dict[str, Builder] = {
    **_SUBSETS,
    **{f"longbench/{name}": builder for name, builder in _SUBSETS.items()},
    **{
        f"longbench_e/{subset.name}": functools.partial(build_longbench, name=subset.name, by_length=True)
        for subset in read_subsets().values()
        if subset.longbench_e
    },
    **{f"qmsum/{split}": functools.partial(build_qmsum_split, split=split) for split in SPLITS},
    "longbench": build_all_longbench,
    "longbench_e": build_longbench_e,
    "qmsum": build_qmsum,
    "truthfulqa": build_truthfulqa,
}
"""Name -> what builds the task, or the tasks of a whole benchmark. `qmsum` is QMSum with stemmed ROUGE; LongBench's own
scoring of the same rows is `longbench/qmsum`.
"""

SPELLINGS = {
    "trivia_qa": "triviaqa",
    "hotpot_qa": "hotpotqa",
    "repobench_p": "repobench-p",
    "truthful_qa": "truthfulqa",
    "longbench-e": "longbench_e",
}
"""Other ways to write a name, or the last part of one."""


def resolve_task(name: str) -> str:
    """The name in TASKS that is meant.

    Raises:
        ConfigError: no such task, with the nearest name.
    """
    head, slash, last = name.strip().lower().rpartition("/")
    known = f"{SPELLINGS.get(head, head)}{slash}{SPELLINGS.get(last, last)}"
    if known not in TASKS:
        raise ConfigError(
            f"there is no task {name!r}{nearest(known, list(TASKS)) or '.'} Tasks are longbench, longbench_e, qmsum, "
            f"truthfulqa and the subsets of LongBench: {', '.join(_SUBSETS)}."
        )
    return known


def open_tasks(names: str | Sequence[str], options: TaskOptions | None = None) -> tuple[Task, ...]:
    """The tasks meant by some names (a list, or one text with commas), each once, in the order asked.

    Places that ``options`` does not give are taken from the environment, else from the hub.

    Raises:
        ConfigError: an unknown name, or a scorer that cannot be used.
    """
    listed = names.split(",") if isinstance(names, str) else names
    places = (options or TaskOptions()).with_environment()
    resolved = [resolve_task(name) for name in listed if name.strip()]
    tasks = [task for name in resolved for task in TASKS[name](places)]
    return tuple({task.name: task for task in tasks}.values())
