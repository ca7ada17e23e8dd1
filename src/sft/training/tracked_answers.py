"""What trackers are given to read: answers to the tasks of an evaluation and to the user's questions, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft.evaluation.history import EvaluationEntry, EvaluationHistory
from sft.report.answers import read_answers
from sft.report.names import QUESTIONS
from sft.report.reading import read_lines
from sft.trackers.tracker import Table

MOST_ROWS = 100
"""Rows of a table; the file in the run's folder has all."""

LONGEST = 2_000
"""Characters of a cell. A longer one is cut in its middle: prompts end with what is asked."""

SCORE = "score"

COLUMNS = ("id", "prompt", "answer", "reference", "score")


def scores(entry: EvaluationEntry) -> dict[str, float]:
    """``score/TASK/METRIC`` of an evaluation, and what it is ranked by. A plain ``score`` is named by its scorer."""
    found = {"score/mean" if entry.combined_score is None else "score/combined": entry.score or 0.0}
    for task, values in entry.results.items():
        metric = values.get("main_metric", SCORE)
        found[f"score/{task}/{values.get('scorer', SCORE) if metric == SCORE else metric}"] = float(
            values["main_score"]
        )
    return found


def answer_tables(folder: Path, record: Mapping[str, Any], entry: EvaluationEntry) -> Iterator[Table]:
    """A table a task, of one evaluation.

    Args:
        folder: the run folder.
        record: its ``run.json``.
    """
    asked = {
        (str(line.get("task")), str(line.get("id"))): str(line.get("question", ""))
        for line in read_lines(folder / QUESTIONS, [])
    }
    for task in read_answers(folder, record, EvaluationHistory([entry]), asked):
        rows = []
        for row in task.rows[:MOST_ROWS]:
            answer = row.answers[0]
            text, score = (None, None) if answer is None else (answer.unanswered or answer.text, answer.score)
            rows.append((row.id, cut(row.question), cut(text), cut(row.reference), score))
        yield Table(name=task.task, columns=COLUMNS, rows=tuple(rows), left_out=len(task.rows) - len(rows))


def question_table(path: Path) -> Table | None:
    """The answers to ``gen_questions_file``, where they were asked at a step."""
    if not path.is_file():
        return None
    answered: Sequence[Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple((cut(row["question"]), cut(row["output"])) for row in answered[:MOST_ROWS])
    return Table(name="questions", columns=("prompt", "answer"), rows=rows, left_out=len(answered) - len(rows))


def cut(text: str | None) -> str | None:
    """A text of at most about ``LONGEST`` characters, which says how many are missing."""
    if text is None or len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"
