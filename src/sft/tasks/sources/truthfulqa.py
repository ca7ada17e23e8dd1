"""TruthfulQA's questions: the authors' CSV, or the hub's rows."""

from __future__ import annotations

import os

from sft.data.types import Row
from sft.errors import DataError
from sft.tasks.fields import text_field, texts_field
from sft.tasks.options import TRUTHFULQA_VARIABLE
from sft.tasks.sources.rows import read_file
from sft.tasks.task import TaskExample

REPOSITORY = "truthfulqa/truthful_qa"
PARQUET = "generation/validation-00000-of-00001.parquet"
_INSTEAD = f"give the authors' TruthfulQA.csv as --truthfulqa_file or {TRUTHFULQA_VARIABLE}"
_CSV_MARK = "Correct Answers"


def read_truthfulqa(file: str | None) -> tuple[TaskExample, ...]:
    """All questions in order, with their true and false answers; empty answers are left out.

    Raises:
        DataError: the file cannot be had or read, or a row is not whole.
    """
    if file is None:
        from sft.tasks.sources.hub import fetch_file

        path = fetch_file(REPOSITORY, PARQUET, instead=_INSTEAD)
    else:
        path = os.path.expanduser(file)
        if not os.path.isfile(path):
            raise DataError(
                f"truthfulqa_file {file!r}: there is no such file. It is the authors' CSV, or the hub's rows as "
                f".parquet or .jsonl; paths count from {os.getcwd()!r}"
            )
    examples = tuple(_example(row, number) for number, row in enumerate(read_file(path)))
    if not examples:
        raise DataError(f"{file or REPOSITORY}: the file holds no question; copy it again")
    return examples


def _example(row: Row, number: int) -> TaskExample:
    values, source = row.values, row.source
    if _CSV_MARK in values:
        question, best = (text_field(values, (name,), source) for name in ("Question", "Best Answer"))
        correct, incorrect = (_split(values[name]) for name in (_CSV_MARK, "Incorrect Answers"))
    else:
        question, best = (text_field(values, (name,), source) for name in ("question", "best_answer"))
        correct, incorrect = (
            _filled(texts_field(values, (name,), source)) for name in ("correct_answers", "incorrect_answers")
        )
    return TaskExample(
        id=f"truthfulqa-{number}",
        inputs={"question": question},
        references=correct,
        incorrect=incorrect,
        taught=best,
        source=source,
    )


def _split(answers: str) -> tuple[str, ...]:
    return _filled(answers.split(";"))


def _filled(answers: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(answer.strip() for answer in answers if answer.strip())
