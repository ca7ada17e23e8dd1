"""Scores over the evaluated steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sft.report.story import RunStory
from sft.report.verdict import COMBINED_OF, is_of_hundred


def score_charts(stories: Sequence[RunStory]) -> list[dict[str, Any]]:
    """Scores over the evaluated steps, in a chart for each kind of scale; empty with fewer than three evaluations."""
    found = [curve for number, story in enumerate(stories) for curve in _score_curves(number, story)]
    charts = []
    for scale, title in SCALES.items():
        curves = [curve for curve in found if curve["scale"] == scale]
        kept = fewer_tasks(curves)
        if not kept:
            continue
        unit = "main score of each task" if scale != "combined" else "of TruthfulQA and QMSum"
        few = (
            f"{len(kept)} of {len(curves)} curves; every score is in the table above"
            if len(kept) < len(curves)
            else None
        )
        charts.append(
            {
                **{
                    "id": f"scores-{scale}",
                    "title": title,
                    "unit": unit,
                    "log": False,
                    "group": "scores",
                    "named": True,
                },
                **{"curves": kept, "thinned": few, "usual": True},
                "said": f"{title}: those of the tables above, over the evaluated steps.",
            }
        )
    return charts


def fewer_tasks(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as can be told apart: where there are more, those that others are the average of go first."""
    if len(curves) <= MOST_TASKS:
        return curves
    names = {curve["name"] for curve in curves}
    return [curve for curve in curves if curve["name"].rpartition("/")[0] not in names][:MOST_TASKS]


MOST_TASKS = 8
SCALES = {"combined": "Combined score", "1": "Scores from 0 to 1", "100": "Scores from 0 to 100"}


def _score_curves(number: int, story: RunStory) -> Iterator[dict[str, Any]]:
    entries = [entry for entry in story.history.entries if entry.failure is None]
    if len(entries) < 3:
        return
    if any(task in entry.results for entry in entries for task in COMBINED_OF):
        combined = [(entry.step, entry.combined_score) for entry in entries if entry.combined_score is not None]
        yield _scores_of(number, "combined", "combined", combined)
    for task in dict.fromkeys(task for entry in entries for task in entry.results):
        scores = [(entry.step, entry.results.get(task, {}).get("main_score")) for entry in entries]
        kept = [(step, float(score)) for step, score in scores if isinstance(score, int | float)]
        metric = next((entry.results[task].get("main_metric") for entry in entries if task in entry.results), None)
        is_percent = is_of_hundred(str(metric)) or any(abs(score) > 1 for _, score in kept)
        yield _scores_of(number, task, "100" if is_percent else "1", kept)


def _scores_of(number: int, name: str, scale: str, scores: Sequence[tuple[int, float]]) -> dict[str, Any]:
    steps, values = [step for step, _ in scores], [score for _, score in scores]
    return {
        **{"run": number, "style": "plain", "name": name, "scale": scale},
        **{"x": steps, "y": values, "of": len(steps)},
    }
