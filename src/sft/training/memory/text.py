"""The estimate for people."""

from __future__ import annotations

from sft.export.merge_result import describe_bytes
from sft.training.memory.estimate import Estimate
from sft.training.memory.fit import DOUBT, Fit

TIGHT = 1 - DOUBT
"""Share of the free memory from which on a run is called close."""


def describe_fit(fit: Fit) -> list[str]:
    """The peak with its parts, the memory that there is, and what else is to be known."""
    lines = [describe_estimate(fit.estimate), *_others(fit.estimate), f"with {fit.estimate.batch}; {_beside(fit)}"]
    if fit.estimate.host:
        lines.append(f"{describe_bytes(fit.estimate.host)} more in the memory of the machine")
    if fit.estimate.paged:
        lines.append(
            f"{describe_bytes(fit.estimate.paged)} of optimizer states are paged: on the GPU where there is room"
        )
    return [*lines, *fit.estimate.notes]


def describe_estimate(estimate: Estimate) -> str:
    """'about 3.2 GB on each device in forward and backward: weights 1.1 GB, ...'."""
    peak = estimate.peak
    parts = ", ".join(f"{name} {describe_bytes(size)}" for name, size in peak.parts.items() if size)
    return f"about {describe_bytes(peak.total)} on each device in {peak.name}: {parts}"


def _others(estimate: Estimate) -> list[str]:
    others = [f"{one.name} {describe_bytes(one.total)}" for one in estimate.moments if one is not estimate.peak]
    return [f"less in {', '.join(others)}"] if others else []


def _beside(fit: Fit) -> str:
    share, place = fit.share, fit.place
    if share is None or place.free is None:
        return "how much memory there is, is not known"
    there = f"{place.name} has {describe_bytes(place.free)} free"
    if share > 1:
        return f"{there}: it does not fit"
    return f"{there}: {'it is close' if share > TIGHT else 'it fits'} ({share:.0%})"
