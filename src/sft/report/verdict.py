"""Did the model get better? Every score against the untrained model, and one plain sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.evaluation.history import UNTRAINED, EvaluationEntry, is_score
from sft.evaluation.table import PERCENT
from sft.report.story import RunStory
from sft.tasks.combined import comparable

COMBINED_OF = ("truthfulqa", "qmsum")
"""Tasks that the combined score is made of; without any of them it is 0 for every model."""

UNDER_MAIN = {"truthfulqa": ("avg_max_score",)}
"""Scores that count beside the main one."""


def is_of_hundred(metric: str) -> bool:
    """Whether a score goes from 0 to 100, by its name."""
    return metric == PERCENT or metric.endswith("average")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One score of the untrained, the best and the last model."""

    task: str
    metric: str
    is_main: bool
    rows: int | None
    available: int | None
    """Rows of the whole task, where not all were asked."""
    scorer: str | None
    untrained: float | None
    best: float | None
    last: float | None
    is_first: bool
    """Of its task."""
    is_comparable: bool
    """Whether untrained and best were measured on the same rows by the same scorer."""

    @property
    def decimals(self) -> int:
        """Scores from 0 to 100 have two that say anything."""
        return 2 if is_of_hundred(self.metric) else 4

    @property
    def change(self) -> float | None:
        """Best less untrained."""
        if self.best is None or self.untrained is None or not self.is_comparable:
            return None
        return self.best - self.untrained


@dataclass(frozen=True, slots=True, kw_only=True)
class LossChange:
    """The evaluation loss before and after training."""

    before: float | None
    after: float | None
    after_step: float | None
    lowest: float | None
    lowest_step: float | None
    counted: float | None
    """Trained tokens it is taken over."""
    per: str
    """trained token, or pair of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer, for people."""

    answer: str
    """Yes, No, In part, Not measured, Not known yet."""
    sentence: str
    best_step: int | None
    last_step: int | None
    scores: tuple[ScoreRow, ...]
    loss: LossChange | None


def judge(story: RunStory) -> Verdict:
    """What the run's own measurements say."""
    best, last = best_entry(story), last_entry(story)
    scores = tuple(_score_rows(story, best, last))
    loss = loss_change(story)
    answer, sentence = _by_scores(story, scores) or _by_loss(story, loss) or _not_measured(story)
    return Verdict(
        answer=answer,
        sentence=sentence,
        best_step=None if best is None else best.step,
        last_step=None if last is None else last.step,
        scores=scores,
        loss=loss,
    )


def last_entry(story: RunStory) -> EvaluationEntry | None:
    """The last evaluation of a trained model that did not fail."""
    trained = [one for one in story.history.entries if one.step != UNTRAINED and one.failure is None]
    return trained[-1] if trained else None


def best_entry(story: RunStory) -> EvaluationEntry | None:
    """The best trained step, as the run itself chose it."""
    return story.history.best_trained


def has_combined(story: RunStory) -> bool:
    """Whether the combined score says anything: one of its tasks was asked."""
    return any(task in entry.results for entry in story.history.entries for task in COMBINED_OF)


def loss_change(story: RunStory) -> LossChange | None:
    """Evaluation loss at step 0, of the saved model and at its lowest; None where it was never measured."""
    series = story.logged.series.get("eval_loss")
    result = story.part("result")
    if series is None and result.get("eval_loss") is None:
        return None
    before = result.get("eval_loss_before")
    if before is None and series is not None:
        before = series.at(UNTRAINED)
    trained = [] if series is None else [at for at, step in enumerate(series.steps) if step != UNTRAINED]
    latest = series.values[trained[-1]] if series is not None and trained else None
    after = result["eval_loss"] if result.get("eval_loss") is not None else latest
    low = None if series is None else series.lowest()
    counted = story.logged.series.get("eval_trained_tokens")
    return LossChange(
        before=before,
        after=after,
        after_step=series.steps[trained[-1]] if series is not None and trained else None,
        lowest=None if low is None else low[1],
        lowest_step=None if low is None else low[0],
        counted=None if counted is None else counted.last,
        per="pair of answers" if story.option("stage") == "dpo" else "trained token",
    )


def _score_rows(story: RunStory, best: EvaluationEntry | None, last: EvaluationEntry | None) -> list[ScoreRow]:
    untrained = next((one for one in story.history.entries if one.step == UNTRAINED and one.failure is None), None)
    tasks = dict.fromkeys(task for entry in (untrained, best, last) if entry is not None for task in entry.results)
    rows = []
    for task in tasks:
        first, chosen, latest = (_results(entry, task) for entry in (untrained, best, last))
        newest = latest or chosen or first
        main = str(newest.get("main_metric", "score"))
        alike = bool(first) and bool(chosen) and comparable({task: first}, {task: chosen})
        for metric in (main, *other_metrics(newest, main)):
            rows.append(
                ScoreRow(
                    task=task,
                    metric=metric,
                    is_main=metric == main or metric in UNDER_MAIN.get(task, ()),
                    rows=newest.get("num_samples"),
                    available=newest.get("num_available"),
                    scorer=newest.get("scorer"),
                    untrained=score_of(first, metric),
                    best=score_of(chosen, metric),
                    last=score_of(latest, metric),
                    is_first=metric == main,
                    is_comparable=alike,
                )
            )
    return rows


def _results(entry: EvaluationEntry | None, task: str) -> Mapping[str, Any]:
    return {} if entry is None else entry.results.get(task, {})


def other_metrics(results: Mapping[str, Any], main: str) -> list[str]:
    """Names of the other scores of a task: whatever is a number with a fraction, 'english.average' where nested."""
    found = []
    for name, value in results.items():
        if isinstance(value, float) and name not in ("main_score", main):
            found.append(name)
        elif isinstance(value, Mapping):
            inner_names = [inner for inner, number in value.items() if isinstance(number, float)]
            found += [f"{name}.{inner}" for inner in inner_names if f"{name} {inner}" != main]
    return found


def score_of(results: Mapping[str, Any], metric: str) -> float | None:
    """A score by its name."""
    value = results.get(metric, results.get("main_score") if metric == results.get("main_metric") else None)
    if value is None and "." in metric:
        outer, inner = metric.split(".", 1)
        value = results[outer].get(inner) if isinstance(results.get(outer), Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _by_scores(story: RunStory, scores: tuple[ScoreRow, ...]) -> tuple[str, str] | None:
    history = story.history
    best, trained, untrained = history.best, history.best_trained, history.untrained
    measured = [entry for entry in history.entries if entry.failure is None]
    if not measured:
        return None
    count = f"{len(measured)} evaluations" if len(measured) != 1 else "1 evaluation"
    if failed := len(history.entries) - len(measured):
        count += f"; {failed} more failed"
    if trained is None:
        if any(entry.step != UNTRAINED for entry in history.entries):
            return "Not known", "Every evaluation of a trained step failed."
        waits = "The untrained model is measured; no trained step is yet."
        return "Not known yet" if not story.is_over else "Not known", waits
    if untrained is None:
        return "Not known", f"The untrained model was not measured, so nothing can be held against it ({count})."
    if not has_combined(story):
        return _by_main_scores(scores, trained.step, count)
    change = f"{untrained.combined_score:.4f} untrained, {trained.combined_score:.4f} at step {trained.step:,}"
    if best is untrained:
        return "No", f"No evaluated step beats the untrained model. Combined score: {change}, the best of {count}."
    return "Yes", f"Combined score: {change}, the best of {count}.{_of_the_last(story, trained, untrained)}"


def _of_the_last(story: RunStory, best: EvaluationEntry, untrained: EvaluationEntry) -> str:
    """What became of the model after its best step; empty where the best is the last."""
    last = last_entry(story)
    if last is None or last is best or last.combined_score is None or untrained.combined_score is None:
        return ""
    worse = last.combined_score < untrained.combined_score
    than = "worse than the untrained one" if worse else "below the best"
    if not worse and last.combined_score >= (best.combined_score or 0.0):
        return ""
    kept = "" if story.best_kept is None else f" The best is kept in {story.best_kept}."
    return f" The last model, of step {last.step:,}, is {than}: {last.combined_score:.4f}.{kept}"


def _by_main_scores(scores: tuple[ScoreRow, ...], step: int, count: str) -> tuple[str, str]:
    compared = [row for row in scores if row.is_main and row.change is not None]
    better = [row for row in compared if (row.change or 0) > 0]
    worse = [row for row in compared if (row.change or 0) < 0]
    if not compared:
        return "Not known", "No score was measured alike before and after."
    tally = (
        f"At step {step:,}, {len(better)} of {len(compared)} scores are above the untrained model's, "
        f"{len(worse)} below ({count})."
    )
    if not better:
        return "No", tally
    return ("Yes" if not worse else "In part"), tally


def _by_loss(story: RunStory, loss: LossChange | None) -> tuple[str, str] | None:
    if loss is None:
        return None
    if loss.before is None or not is_score(loss.before):
        return "Not known", "The evaluation loss of the untrained model was not recorded."
    if loss.after is None or not is_score(loss.after):
        waits = f"The evaluation loss is {loss.before:.4f} per {loss.per} before training, and not measured since."
        return "Not known" if story.is_over else "Not known yet", waits
    change = f"from {loss.before:.4f} to {loss.after:.4f} per {loss.per}"
    if loss.after >= loss.before:
        return "No", f"The evaluation loss went {change}."
    asked = "Every evaluation of answers failed" if story.history.entries else "No task was asked"
    return "Yes", f"The evaluation loss fell {change}. {asked}, so this says nothing of answers."


def _not_measured(story: RunStory) -> tuple[str, str]:
    if story.history.entries:
        return "Not known", "Every evaluation failed."
    return "Not measured", "The run had neither evaluation data (eval_data_path) nor tasks to ask (eval_tasks)."
