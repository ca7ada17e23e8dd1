"""Does a run fit into the memory that there is?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sft.errors import ConfigError
from sft.export.merge_result import describe_bytes
from sft.training.memory.estimate import Estimate
from sft.training.memory.place import Place

DOUBT = 0.15
"""How far an estimate may be from what will be measured. A run is refused where it could not fit all the same."""

ANYWAY = "memory_check"
"""The option by which a run is begun all the same."""


@dataclass(frozen=True)
class Fit:
    """An estimate beside the memory that there is."""

    estimate: Estimate
    place: Place

    @property
    def share(self) -> float | None:
        """Of the free memory that training would take; None where it is not known how much there is."""
        return None if not self.place.free else self.estimate.training_peak.total / self.place.free

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the free memory; True where that is not known."""
        return self.share is None or self.share <= 1

    @property
    def is_impossible(self) -> bool:
        """Whether it would not fit even if the estimate were too high by as much as estimates are."""
        return self.share is not None and self.share * (1 - DOUBT) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "estimate": self.estimate.to_dict(),
            "device": self.place.kind,
            "free_bytes": self.place.free,
            "total_bytes": self.place.total,
            "fits": self.fits,
        }


def refuse(fit: Fit, proposals: str) -> None:
    """Raise ConfigError for a run that cannot fit.

    Args:
        proposals: what would make it fit, in words.
    """
    peak, free = fit.estimate.training_peak, fit.place.free or 0
    raise ConfigError(
        f"this run would need about {describe_bytes(peak.total)} on each device (in {peak.name}, with "
        f"{fit.estimate.batch}), and {fit.place.name} has {describe_bytes(free)} free. {proposals} To begin it all the "
        f"same: --{ANYWAY} warn."
    )
