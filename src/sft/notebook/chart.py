"""A chart of a run's losses as SVG: no library, no script, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 24
MOST_POINTS = 400
"""Of a line. Of a longer one each stretch keeps its lowest and its highest point."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the steps."""

    name: str
    colour: str
    points: tuple[Point, ...]
    """(step, value) in order; values that are no finite numbers are gaps."""
    dotted: bool = False
    """Few points, each marked."""


def draw_chart(curves: Sequence[Curve], *, last_step: int) -> str:
    """The curves over one pair of axes; from step 0 to ``last_step``, so that it is seen how far a run is."""
    finite = [value for curve in curves for _, value in curve.points if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    marks = ticks(low, high)
    frame = Frame(0, max(1, last_step), min(low, marks[0]), max(high, marks[-1]))
    parts = [*_axes(frame, marks), *(part for curve in curves for part in _curve(curve, frame)), *_legend(curves)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="width:100%;max-width:{WIDTH}px;font:12px sans-serif" role="img" '
        f'aria-label="{describe(curves)}">{"".join(parts)}</svg>'
    )


def describe(curves: Sequence[Curve]) -> str:
    """What the chart shows, for those who cannot see it."""
    told = [f"{one.name} {one.points[0][1]:.4g} to {one.points[-1][1]:.4g}" for one in curves if one.points]
    return "; ".join(told) or "nothing is logged yet"


@dataclass(frozen=True)
class Frame:
    """From steps and values to places in the picture."""

    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        """Pixels from the left."""
        return LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (value - self.low) / ((self.high - self.low) or 1.0) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers at equal distances that hold ``low`` and ``high`` between them, or nearly."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> Sequence[Point]:
    """At most so many of the points; no peak and no dip is lost."""
    if len(points) <= most:
        return points
    stretches = most // 2
    kept: list[Point] = []
    for number in range(stretches):
        stretch = points[len(points) * number // stretches : len(points) * (number + 1) // stretches]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def _axes(frame: Frame, marks: Sequence[float]) -> Iterator[str]:
    for mark in marks:
        y = frame.y(mark)
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".15"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="currentColor">{mark:g}</text>'
        )
    for step in (mark for mark in ticks(0, frame.last) if mark <= frame.last and mark == int(mark)):
        place = f'x="{frame.x(step):.1f}" y="{HEIGHT - 6}"'
        yield f'<text {place} text-anchor="middle" fill="currentColor">{int(step):,}</text>'


def _curve(curve: Curve, frame: Frame) -> Iterator[str]:
    points = [point for point in curve.points if math.isfinite(point[1])]
    path = " ".join(f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in thinned(points))
    yield f'<polyline points="{path}" fill="none" stroke="{curve.colour}" stroke-width="1.6" stroke-linejoin="round"/>'
    if curve.dotted:
        for step, value in thinned(points):
            yield f'<circle cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}" r="3.5" fill="{curve.colour}"/>'


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    x = LEFT
    for curve in curves:
        yield f'<rect x="{x}" y="6" width="14" height="4" fill="{curve.colour}"/>'
        yield f'<text x="{x + 20}" y="12" fill="currentColor">{curve.name}</text>'
        x += 40 + 7 * len(curve.name)
