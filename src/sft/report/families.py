"""The loss of each source, and of each answer of a conversation: one chart a family (``log_token_figures``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft.report.curves import draw_curve, say_thinned
from sft.report.story import RunStory, Series
from sft.report.thinning import smooth, thin

FAMILIES: Mapping[str, tuple[str, str]] = {
    "loss_of/": ("Loss by source", ""),
    "loss_of_answer/": ("Loss by answer of the conversation", "answer "),
}
"""What the names of a family's figures begin with: its title, and what stands before the rest of a name."""

MOST_CURVES = 8


def is_of_family(metric: str) -> bool:
    """Whether a figure has its place in a chart of several."""
    return metric.startswith(tuple(FAMILIES))


def draw_families(stories: Sequence[RunStory], few: int, stretches: int) -> list[dict[str, Any]]:
    """A chart for each family that was logged; with 100 points or more its curves are means."""
    charts = []
    for begins, (title, before) in FAMILIES.items():
        found = [
            (number, name, series)
            for number, story in enumerate(stories)
            for name, series in story.logged.series.items()
            if name.startswith(begins) and len(series)
        ]
        if not found:
            continue
        kept = found[: MOST_CURVES * len(stories)]
        curves = [
            {**_curve(number, series, few, stretches), "name": before + name[len(begins) :].replace("_", " ")}
            for number, name, series in kept
        ]
        left = f"; {len(found) - len(kept)} more figures are not drawn" if len(kept) < len(found) else ""
        thinned = (say_thinned(curves) or "") + left
        charts.append(
            {
                **{"id": begins, "title": title, "unit": "per trained token, unweighted", "log": True},
                **{"group": "course", "named": True, "usual": True, "curves": curves, "thinned": thinned or None},
                "said": f"{title}: {len(curves)} curves. Their values are in the table below.",
            }
        )
    return charts


def _curve(number: int, series: Series, few: int, stretches: int) -> dict[str, Any]:
    smoothed = smooth(series)
    if smoothed is None:
        return draw_curve(number, thin(series, few=few, stretches=stretches), "plain")
    mean, span = smoothed
    return {**draw_curve(number, thin(mean, few=few, stretches=stretches), "smooth"), "span": span}
