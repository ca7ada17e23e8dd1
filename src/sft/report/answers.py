"""What the untrained, the best and the last model answered to the same questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sft.evaluation.files import predictions_path, result_stem
from sft.evaluation.history import UNTRAINED, EvaluationEntry, EvaluationHistory
from sft.report.names import STEP_FOLDER
from sft.report.story import Answer, AskedModel, AskedRow, TaskAnswers

ANSWERS = ("prediction", "pred")
REFERENCES = ("best_answer", "reference", "references", "answers", "correct_answers")


def read_answers(
    folder: Path, record: Mapping[str, Any], history: EvaluationHistory, questions: Mapping[tuple[str, str], str]
) -> tuple[TaskAnswers, ...]:
    """The answers of a run, by task, in the order of the data sets.

    Args:
        record: ``run.json``.
        questions: (task, id) -> what was asked, where the predictions themselves do not say it.
    """
    models = choose_models(history)
    results: dict[str, Mapping[str, Any]] = {}
    at_step = {entry.step: entry.results for entry in history.entries}
    for entry in history.entries:
        results.update(entry.results)
    found = []
    stem = _model_name(record)
    for task, measured in results.items():
        metric = str(measured["main_metric"]) if measured.get("main_metric") else None
        answered = [
            _with_scores(
                _read_rows(_find(folder / STEP_FOLDER.format(step=model.step), stem, model.step, task, results)),
                at_step.get(model.step, {}).get(task, {}),
            )
            for model in models
        ]
        rows = tuple(_join(task, answered, questions))
        if rows:
            found.append(TaskAnswers(task=task, metric=metric, models=models, rows=rows))
    return tuple(found)


def choose_models(history: EvaluationHistory) -> tuple[AskedModel, ...]:
    """The untrained, the best trained and the last evaluated model; one that is two of them is named so."""
    asked = [entry for entry in history.entries if entry.failure is None]
    trained = [entry for entry in asked if entry.step != UNTRAINED]
    best, last = history.best_trained, trained[-1] if trained else None
    found = [AskedModel(step=UNTRAINED, title="untrained")] if len(asked) > len(trained) else []
    if best is not None and best is not last:
        found.append(AskedModel(step=best.step, title="best"))
    if last is not None:
        found.append(AskedModel(step=last.step, title=_title_of_last(best, last)))
    return tuple(found)


def _title_of_last(best: EvaluationEntry | None, last: EvaluationEntry) -> str:
    return "best and last" if best is last else "last"


def _model_name(record: Mapping[str, Any]) -> str | None:
    entry = record.get("config", {}).get("model_name_or_path") if isinstance(record.get("config"), Mapping) else None
    value = entry.get("value") if isinstance(entry, Mapping) else None
    return value if isinstance(value, str) else None


def _find(folder: Path, model: str | None, step: int, task: str, tasks: Iterable[str]) -> Path | None:
    """The predictions of a task: by the usual name, else the one file that ends as it does for this task alone."""
    if model is not None:
        usual = predictions_path(folder, result_stem(model, step), task)
        if usual.is_file():
            return usual
    others = [other for other in tasks if other != task and len(other) > len(task)]
    ends = predictions_path(folder, "", task).name
    longer = tuple(predictions_path(folder, "", other).name for other in others)
    found = (
        [path for path in sorted(folder.glob(f"*{ends}")) if not path.name.endswith(longer)]
        if longer
        else sorted(folder.glob(f"*{ends}"))
    )
    return found[0] if found else None


def _read_rows(path: Path | None) -> dict[str, dict[str, Any]]:
    """The lines of a predictions file by their id; a half-written one is left out."""
    rows: dict[str, dict[str, Any]] = {}
    if path is None:
        return rows
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return rows
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(row, dict):
            rows[str(row.get("id", row.get("_id", number)))] = row
    return rows


def _with_scores(rows: dict[str, dict[str, Any]], results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows with the scores that results list for each (``per_sample_rougeL``), where rows have none themselves."""
    listed = results.get(f"per_sample_{results.get('main_metric')}")
    for pair in listed if isinstance(listed, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and str(pair[0]) in rows:
            rows[str(pair[0])].setdefault("score", pair[1])
    return rows


def _join(
    task: str,
    answered: list[dict[str, dict[str, Any]]],
    questions: Mapping[tuple[str, str], str],
) -> Iterable[AskedRow]:
    for identity in dict.fromkeys(identity for rows in answered for identity in rows):
        row = next(rows[identity] for rows in answered if identity in rows)
        question = row.get("question")
        yield AskedRow(
            id=identity,
            question=question if isinstance(question, str) else questions.get((task, identity)),
            reference=_reference(row),
            answers=tuple(_answer(rows.get(identity)) for rows in answered),
        )


def _reference(row: Mapping[str, Any]) -> str | None:
    for name in REFERENCES:
        value = row.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value:
            return " / ".join(str(one) for one in value)
    return None


def _answer(row: Mapping[str, Any] | None) -> Answer | None:
    if row is None:
        return None
    text = next((str(row[name]) for name in ANSWERS if row.get(name) is not None), "")
    score, unanswered = row.get("score"), row.get("unanswered")
    return Answer(
        text=text,
        score=float(score) if isinstance(score, int | float) else None,
        unanswered=None if unanswered is None else str(unanswered),
    )
