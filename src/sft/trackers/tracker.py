"""What a tracker is told of a run, and what each of them must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

Figure = TypeVar("Figure")

Ending = Literal["finished", "stopped", "failed"]
"""How a run ended: by itself, because a signal asked for it, by an error."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a tracker is told when a run begins or goes on."""

    name: str
    project: str
    """Where trackers that know projects put it, unless the environment says otherwise."""
    folder: Path
    """The run folder."""
    config: Mapping[str, Any]
    """Every option with its value, and what is known of the run beside; plain JSON values without secrets."""
    step: int = 0
    """Optimizer steps that are already done."""
    run_id: str | None = None
    """The tracker's own name of the run that this one goes on from."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """transformers' own arguments, some of which are a tracker's (``trackio_space_id``)."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    left_out: int = 0
    """Rows that there are beside these."""

    @property
    def title(self) -> str:
        """The name, and how many of how many rows these are."""
        total = len(self.rows) + self.left_out
        return f"{self.name}: {len(self.rows):,} of {total:,} rows" if self.left_out else f"{self.name}: {total:,} rows"


class Tracker(ABC):
    """One tracker. Whatever its methods raise leaves it out of the rest of the run; it never ends the run."""

    name: str
    """As ``report_to`` has it."""

    @abstractmethod
    def open(self, facts: RunFacts) -> str:
        """Begin a run, or go on with ``facts.run_id``.

        Returns:
            What a later ``facts.run_id`` must be to go on with this one.
        """

    @abstractmethod
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures of a step."""

    @abstractmethod
    def add_table(self, step: int, table: Table) -> None:
        """Take a table of a step; one of the same name and step takes its place."""

    @abstractmethod
    def add_page(self, page: Path, step: int) -> None:
        """Take the page of the run."""

    @abstractmethod
    def close(self, ending: Ending) -> None:
        """Send what is not sent, and end."""


def not_there_yet(figures: Mapping[str, Figure], step: int, last: Mapping[str, int]) -> dict[str, Figure]:
    """The figures of a step without those that a tracker holds already.

    A run that is gone on with does the steps after its checkpoint again.

    Args:
        last: name -> the last step that the tracker had of it when the run was gone on with.
    """
    return {name: value for name, value in figures.items() if step > last.get(name, -1)}
