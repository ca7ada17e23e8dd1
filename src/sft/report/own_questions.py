"""The user's own questions (``gen_questions_file``), and what the models of a run answered: no task, and no scores."""

from __future__ import annotations

import json
from pathlib import Path

from sft.evaluation.history import UNTRAINED, EvaluationHistory
from sft.report.names import OWN_ANSWERS, OWN_ANSWERS_FOLDER
from sft.report.story import Answer, AskedModel, AskedRow, TaskAnswers

NAME = "your questions"


def read_own_questions(folder: Path, history: EvaluationHistory, unread: list[str]) -> tuple[TaskAnswers, ...]:
    """The questions with the answers of the untrained, the best and the last model that was asked; empty without any.

    Args:
        folder: the run folder.
        history: says which step is the best; its questions are shown where they were asked at that step.
        unread: files that cannot be read are noted here.
    """
    paths = {
        int(named[1]): path
        for path in (folder / OWN_ANSWERS_FOLDER).glob("*")
        if (named := OWN_ANSWERS.fullmatch(path.name)) is not None
    }
    models = choose_asked(sorted(paths), history)
    answered = [_read(paths[model.step], unread) for model in models]
    questions = dict.fromkeys(question for answers in answered for question in answers)
    if not questions:
        return ()
    rows = tuple(
        AskedRow(
            id=f"question {number}",
            question=question,
            reference=None,
            answers=tuple(
                Answer(text=answers[question], score=None) if question in answers else None for answers in answered
            ),
        )
        for number, question in enumerate(questions, start=1)
    )
    return (TaskAnswers(task=NAME, metric=None, models=models, rows=rows),)


def choose_asked(steps: list[int], history: EvaluationHistory) -> tuple[AskedModel, ...]:
    """The models that are shown, of those that were asked at ``steps``."""
    best = None if history.best_trained is None else history.best_trained.step
    titles = {step: "best" for step in steps if step == best}
    titles.update({step: "best and last" if step == best else "last" for step in steps[-1:]})
    titles[UNTRAINED] = "untrained"
    return tuple(AskedModel(step=step, title=titles[step]) for step in steps if step in titles)


def _read(path: Path, unread: list[str]) -> dict[str, str]:
    """Question -> answer; a question that was asked twice got the same answer."""
    try:
        return {str(row["question"]): str(row["output"]) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        unread.append(f"{path.name}: {type(error).__name__}: {error}")
        return {}
