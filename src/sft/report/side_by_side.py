"""Answers for the page: as many and as much of each as fit, and what is left out is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft.report.safe import shown
from sft.report.story import Answer, AskedRow, RunStory, TaskAnswers

LIMITS = (4000, 2000, 1200, 800, 600, 450, 300)
"""Characters of one text that are tried in turn until all rows fit; at the last, rows are left out."""

ROW = 160
"""Bytes of a row besides its texts: its name, scores and signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedAnswers:
    """The answers of one run as the page holds them."""

    tasks: list[dict[str, Any]]
    """Per task: its name, metric, models and rows; a row is [id, question, reference, [answers], [scores]]."""
    rows: int
    """Rows that were asked."""
    kept: int
    limit: int
    """Characters of a text before its middle is left out."""
    cut: int
    """Texts whose middle is left out."""


def fit_answers(story: RunStory, budget: int) -> FittedAnswers | None:
    """The answers of a run within so many bytes; None where there are none."""
    if not story.answers:
        return None
    total = sum(len(task.rows) for task in story.answers)
    limit = choose_limit(story, budget)
    rows = [[_as_list(row, limit) for row in task.rows] for task in story.answers]
    sizes = [[_size(row) for row in part] for part in rows]
    share = budget / max(1, sum(map(sum, sizes)))
    kept = [_choose(task, part, spent, share) for task, part, spent in zip(story.answers, rows, sizes, strict=True)]
    return FittedAnswers(
        tasks=[
            {
                "task": shown(task.task, 200),
                "metric": task.metric,
                "models": [{"title": model.title, "step": model.step} for model in task.models],
                "rows": part,
                "asked": len(task.rows),
                "counts": tally(task),
            }
            for task, part in zip(story.answers, kept, strict=True)
        ],
        rows=total,
        kept=sum(map(len, kept)),
        limit=limit,
        cut=sum(_num_cut(row, limit) for task in story.answers for row in task.rows),
    )


def choose_limit(story: RunStory, budget: int) -> int:
    """The most characters of a text with which all rows fit, or the fewest that are tried."""
    texts = [text for task in story.answers for row in task.rows for text in _texts(row)]
    sizes = [(len(text), len(text.encode("utf-8", "replace"))) for text in texts]
    for limit in LIMITS:
        taken = sum(size if length <= limit else size * (limit + 40) // length for length, size in sizes)
        if taken + ROW * sum(len(task.rows) for task in story.answers) <= budget:
            return limit
    return LIMITS[-1]


def tally(task: TaskAnswers) -> dict[str, int] | None:
    """Rows that the best model answers better, worse and equally well, by the task's own scores; None without them."""
    best = best_column(task)
    if best is None:
        return None
    found = {"better": 0, "worse": 0, "same": 0}
    for row in task.rows:
        first, other = row.answers[0], row.answers[best]
        if first is None or other is None or first.score is None or other.score is None:
            return None
        kind = "better" if other.score > first.score else "worse" if other.score < first.score else "same"
        found[kind] += 1
    return found


def best_column(task: TaskAnswers) -> int | None:
    """Where the best model stands beside the untrained one; None if one of them was not asked."""
    titles = [model.title for model in task.models]
    if not titles or titles[0] != "untrained" or len(titles) < 2:
        return None
    return 1


def _as_list(row: AskedRow, limit: int) -> list[Any]:
    return [
        shown(row.id, 200),
        None if row.question is None else shown(row.question, limit),
        None if row.reference is None else shown(row.reference, limit),
        [None if answer is None else _text(answer, limit) for answer in row.answers],
        [None if answer is None else answer.score for answer in row.answers],
    ]


def _text(answer: Answer, limit: int) -> str:
    if answer.unanswered is not None:
        return f"(could not be asked: {shown(answer.unanswered, limit)})"
    return shown(answer.text, limit)


def _num_cut(row: AskedRow, limit: int) -> int:
    return sum(len(text) > limit for text in _texts(row))


def _texts(row: AskedRow) -> list[str]:
    texts = [row.question, row.reference, *(answer.text for answer in row.answers if answer is not None)]
    return [text for text in texts if text is not None]


def _size(row: list[Any]) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")) + 1


def _choose(task: TaskAnswers, rows: list[list[Any]], sizes: Sequence[int], share: float) -> list[list[Any]]:
    """All rows, or that share of their bytes: those whose score changed most, better and worse in turn, first."""
    if share >= 1:
        return rows
    room, kept = share * sum(sizes), set()
    for at in _most_telling(task):
        if sizes[at] > room:
            break  # a smaller one further on changed less
        room -= sizes[at]
        kept.add(at)
    return [row for at, row in enumerate(rows) if at in kept]


def _most_telling(task: TaskAnswers) -> list[int]:
    best = best_column(task)

    def changed(row: AskedRow) -> float:
        first, other = row.answers[0], row.answers[best] if best is not None else None
        if first is None or other is None or first.score is None or other.score is None:
            return 0.0
        return other.score - first.score

    changes = [changed(row) for row in task.rows]
    order = sorted(range(len(changes)), key=lambda at: (-abs(changes[at]), at))
    return order
