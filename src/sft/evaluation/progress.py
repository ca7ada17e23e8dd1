"""How far an evaluation is, for people: answers per second and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sft.terminal.line import clock, compose
from sft.terminal.screen import SCREEN

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationProgress:
    """How far one task is."""

    task: str
    done: int
    """Rows answered, of all processes together (those of the others are estimated from this one's)."""

    total: int
    seconds: float
    """Since the task's first row was asked."""

    @property
    def samples_per_second(self) -> float:
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None until the first answers are there."""
        return (self.total - self.done) / self.samples_per_second if self.samples_per_second else None

    def __str__(self) -> str:
        if self.seconds_left is None:
            return f"{self.task}: {'1 row is' if self.total == 1 else f'{self.total} rows are'} asked"
        left = clock(self.seconds_left)
        return f"{self.task}: {self.done}/{self.total} answered, {self.samples_per_second:.2f} samples/s, {left} left"


OnProgress = Callable[[EvaluationProgress], None]


@dataclass
class ProgressDisplay:
    """A line that changes on a terminal; anywhere else a line now and then, and one at the end of each task."""

    _now: EvaluationProgress | None = None
    _said: float = 0.0

    def __call__(self, progress: EvaluationProgress) -> None:
        is_done = progress.done == progress.total
        self._now = progress
        if not is_done:
            SCREEN.show(self.draw)
        now = time.monotonic()
        if is_done or (not SCREEN.is_live and now - self._said >= SECONDS_BETWEEN_LINES):
            self._said = now
            self.close()
            SCREEN.say(str(progress))

    def draw(self, width: int) -> str:
        """The line that changes."""
        if self._now is None:
            return ""
        return compose(str(self._now), self._now.done / max(1, self._now.total), [], width)

    def close(self) -> None:
        """Take the line away."""
        SCREEN.hide(self.draw)
