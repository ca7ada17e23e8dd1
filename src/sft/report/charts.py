"""Which curves are drawn: the usual ones in their order, then whatever else a run logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft.report.curves import draw_curve, say_thinned
from sft.report.families import draw_families, is_of_family
from sft.report.figures import spoken
from sft.report.safe import shown
from sft.report.story import Mark, RunStory, Series
from sft.report.thinning import FEW, STRETCHES, smooth, thin

MOST_POINTS = 60_000
"""Of all curves of a page together; several runs share them."""

MOST_MARKS = 300
"""Drawn of each kind; the list names as many."""

KIND = 40
"""Characters of the name of a kind of mark."""

MOST_CHARTS = 40
"""Figures that are drawn; others are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartKind:
    """One chart and the figure that it shows."""

    metric: str
    title: str
    unit: str
    smoothed: bool = False
    log: bool = False
    """Can also be drawn on a logarithmic scale."""
    zero: bool = False
    """Drawn from 0: an amount, of which a thousandth more should not look like a climb."""
    scale: float = 1.0
    """What logged values are multiplied with, for their unit."""


USUAL = (
    ChartKind(metric="loss", title="Training loss", unit="per trained token", smoothed=True, log=True),
    ChartKind(metric="eval_loss", title="Evaluation loss", unit="per trained token", log=True),
    ChartKind(metric="learning_rate", title="Learning rate", unit="", log=True),
    ChartKind(metric="grad_norm", title="Gradient norm", unit="before clipping", smoothed=True, log=True),
    ChartKind(metric="tokens_per_second", title="Tokens per second", unit="all processes", smoothed=True, zero=True),
    ChartKind(metric="memory_gib", title="Memory", unit="GB that process 0 holds", zero=True, scale=2**30 / 1e9),
)
UNDRAWN = {
    "train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss",
    "eval_perplexity", "eval_trained_tokens", "eval_seconds", "eval_runtime",
}  # fmt: skip
"""Logged once, or saying the same as a curve that is drawn."""


def draw_charts(stories: Sequence[RunStory]) -> list[dict[str, Any]]:
    """The charts of section "How it went", each as plain values for the page's own script."""
    logged = dict.fromkeys(name for story in stories for name in story.logged.series if name not in UNDRAWN)
    usual = [kind for kind in USUAL if kind.metric in logged]
    known = {kind.metric for kind in USUAL}
    rest = [name for name in logged if name not in known and not is_of_family(name)]
    more = [ChartKind(metric=name, title=name, unit="as logged", smoothed=True, log=True) for name in rest]
    kinds = [*usual, *more[: MOST_CHARTS - len(usual)]]
    few, stretches = _fineness(len(stories) * max(1, len(kinds)))
    charts = [_draw(kind, stories, few, stretches) for kind in kinds]
    drawn = [{**chart, "usual": chart["id"] in known} for chart in charts if chart["curves"]]
    families = draw_families(stories, few, stretches)
    return [*drawn[:2], *families, *drawn[2:]]


def undrawn_figures(stories: Sequence[RunStory]) -> list[str]:
    """Names of figures that were logged and have no chart, because there are too many."""
    logged = dict.fromkeys(name for story in stories for name in story.logged.series if name not in UNDRAWN)
    rest = [name for name in logged if name not in {kind.metric for kind in USUAL} and not is_of_family(name)]
    return rest[MOST_CHARTS - len(USUAL) :]


def _fineness(curves: int) -> tuple[int, int]:
    """Points of a curve that is drawn whole, and stretches of one that is not."""
    room = max(200, MOST_POINTS // (2 * curves))
    return min(FEW, room), min(STRETCHES, room // 4)


def _draw(kind: ChartKind, stories: Sequence[RunStory], few: int, stretches: int) -> dict[str, Any]:
    curves: list[dict[str, Any]] = []
    for number, story in enumerate(stories):
        series = _scaled(story.logged.series.get(kind.metric), kind.scale)
        if series is None or not len(series):
            continue
        smoothed = smooth(series) if kind.smoothed else None
        drawn = thin(series, few=few, stretches=stretches)
        curves.append(draw_curve(number, drawn, "faint" if smoothed else "plain"))
        if smoothed is not None:
            mean, span = smoothed
            curves.append({**draw_curve(number, thin(mean, few=few, stretches=stretches), "smooth"), "span": span})
    return {
        "id": kind.metric,
        "title": kind.title,
        "unit": kind.unit,
        "log": kind.log,
        "zero": kind.zero,
        "group": "course",
        "curves": curves,
        "said": describe(
            kind, [(story.name, _scaled(story.logged.series.get(kind.metric), kind.scale)) for story in stories]
        ),
        "thinned": say_thinned(curves),
    }


def _scaled(series: Series | None, scale: float) -> Series | None:
    if series is None or scale == 1.0:
        return series
    return Series(series.steps, [None if value is None else value * scale for value in series.values])


def describe(kind: ChartKind, found: Sequence[tuple[str, Series | None]]) -> str:
    """A curve in words, for whoever cannot see it."""
    parts = []
    for name, series in found:
        low = None if series is None else series.lowest()
        if series is None or low is None or series.first is None or series.last is None:
            continue
        who = f"{name}: " if len(found) > 1 else ""
        parts.append(
            f"{who}{spoken(series.first)} at step {spoken(series.steps[0])}, lowest {spoken(low[1])} at step "
            f"{spoken(low[0])}, {spoken(series.last)} at step {spoken(series.steps[-1])}"
        )
    return f"{kind.title}. {'; '.join(parts)}." if parts else f"{kind.title}: no finite value was logged."


def draw_marks(stories: Sequence[RunStory]) -> list[dict[str, Any]]:
    """What happened at which step, for the charts; of many of a kind an even choice, the first and last among them."""
    return [
        {"run": number, "step": mark.step, "kind": shown(kind, KIND)}
        for number, story in enumerate(stories)
        for kind in dict.fromkeys(mark.kind for mark in story.marks)
        for mark in few_of([mark for mark in story.marks if mark.kind == kind])
    ]


def count_marks(stories: Sequence[RunStory]) -> dict[str, int]:
    """How many marks there are of each kind, drawn or not."""
    return dict(Counter(shown(mark.kind, KIND) for story in stories for mark in story.marks))


def few_of(marks: Sequence[Mark], most: int = MOST_MARKS) -> list[Mark]:
    """At most so many, evenly chosen."""
    if len(marks) <= most:
        return list(marks)
    return [marks[at * (len(marks) - 1) // (most - 1)] for at in range(most)]
