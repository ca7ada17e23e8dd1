"""Fewer points that tell the same: of every stretch of a curve the first, lowest, highest and last point stay."""

from __future__ import annotations

from dataclasses import dataclass

from sft.report.story import Series

STRETCHES = 500
"""Stretches of a curve that is too long to draw every point of."""

FEW = 2000
"""Points of a curve that is drawn as it is."""

SPAN_SHARE = 50
"""A smoothed curve is a mean over about a fiftieth of the points."""

FEWEST_TO_SMOOTH = 100
"""Of fewer points a mean says less than the points themselves."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve as the page draws it."""

    series: Series
    of: int
    """Points that were logged."""

    @property
    def is_thinned(self) -> bool:
        """Whether some of them are left out."""
        return len(self.series) < self.of


def thin(series: Series, *, few: int = FEW, stretches: int = STRETCHES) -> Drawn:
    """Leave out points of a long curve. Every one that stays is a logged one; no peak and no dip is lost."""
    count = len(series)
    if count <= few:
        return Drawn(series, count)
    kept: list[int] = []
    for number in range(stretches):
        begin, end = count * number // stretches, count * (number + 1) // stretches
        kept += _told_by(series.values, begin, end) if end > begin else []
    return Drawn(Series([series.steps[at] for at in kept], [series.values[at] for at in kept]), count)


def _told_by(values: list[float | None], begin: int, end: int) -> list[int]:
    """Positions of a stretch that stay: its ends, its extremes, and one value that is no number."""
    numbers = [at for at in range(begin, end) if values[at] is not None]
    gap = next((at for at in range(begin, end) if values[at] is None), None)
    kept = {begin, end - 1} | ({gap} if gap is not None else set())
    if numbers:
        kept |= {min(numbers, key=lambda at: values[at] or 0.0), max(numbers, key=lambda at: values[at] or 0.0)}
    return sorted(kept)


def smooth(series: Series) -> tuple[Series, int] | None:
    """An exponential mean that starts at the first value, and the points it is about a mean over; None: too few."""
    if len(series) < FEWEST_TO_SMOOTH:
        return None
    span = max(5, len(series) // SPAN_SHARE)
    keep, mean, weight = 1 - 2 / (span + 1), 0.0, 0.0
    values: list[float | None] = []
    for value in series.values:
        if value is not None:
            mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        values.append(float(f"{mean / weight:.6g}") if weight else None)
    return Series(series.steps, values), span
