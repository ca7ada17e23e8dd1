"""``eval_questions.jsonl``: what the evaluations of a run ask, once for all steps, for people who read its answers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sft.tasks.task import Task, TaskExample

QUESTIONS = "eval_questions.jsonl"
LONGEST = 2000
"""Characters of a question that are kept."""

EXCERPT = 600
"""Characters of the text that is asked about, where nothing else is asked."""


def write_questions(folder: Path, tasks: Sequence[Task], samples: int | None) -> None:
    """Write what is asked of each task, a line a row: task, id, question.

    Args:
        samples: rows asked of each task, the first ones; None: all.
    """
    lines = [
        json.dumps({"task": task.name, "id": example.id, "question": question_of(example)}, ensure_ascii=False) + "\n"
        for task in tasks
        for example in task.examples()[:samples]
    ]
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{QUESTIONS}.{os.getpid()}"
    beside.write_bytes("".join(lines).encode("utf-8", "backslashreplace"))
    os.replace(beside, folder / QUESTIONS)


def question_of(example: TaskExample) -> str:
    """What is asked, without the text it is asked about; the beginning of that text where there is no question."""
    asked = [text.strip() for name, text in example.inputs.items() if name != "context" and text.strip()]
    if asked:
        return cut("\n".join(asked), LONGEST)
    return cut(example.inputs.get("context", "").strip(), EXCERPT)


def cut(text: str, limit: int) -> str:
    """The beginning of a text, and how much of it is left out."""
    return text if len(text) <= limit else f"{text[:limit]} […{len(text) - limit:,} characters left out…]"
