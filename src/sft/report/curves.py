"""A curve as the page's script takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sft.report.thinning import Drawn


def draw_curve(number: int, drawn: Drawn, style: str) -> dict[str, Any]:
    """The points of a run's curve, in a style (plain, faint, smooth), and how many were logged."""
    return {"run": number, "style": style, "x": drawn.series.steps, "y": drawn.series.values, "of": drawn.of}


def say_thinned(curves: Iterable[dict[str, Any]]) -> str | None:
    """How many of the logged points are drawn; None where all are."""
    left = [curve for curve in curves if curve["style"] != "smooth" and len(curve["x"]) < curve["of"]]
    if not left:
        return None
    drawn, logged = sum(len(curve["x"]) for curve in left), sum(curve["of"] for curve in left)
    return f"{drawn:,} of {logged:,} logged points"
