"""How far an evaluation is, for people: answers per second and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm.auto import tqdm

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
            return f"{self.task}: {self.total} rows are asked"
        left = tqdm.format_interval(self.seconds_left)
        return f"{self.task}: {self.done}/{self.total} answered, {self.samples_per_second:.2f} samples/s, {left} left"


OnProgress = Callable[[EvaluationProgress], None]


@dataclass
class ProgressDisplay:
    """A bar per task on a terminal; anywhere else a line now and then, and one at the end of each task."""

    write: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    """Says a line where there is no terminal."""

    _bar: Any = None
    _task: str = ""
    _said: float = 0.0

    def __call__(self, progress: EvaluationProgress) -> None:
        if sys.stderr.isatty():
            self._draw(progress)
            return
        now = time.monotonic()
        if progress.done == progress.total or now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            self.write(str(progress))

    def _draw(self, progress: EvaluationProgress) -> None:
        if self._bar is None or self._task != progress.task:
            self.close()
            self._task = progress.task
            self._bar = tqdm(total=progress.total, desc=progress.task, unit=" samples", dynamic_ncols=True)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.total:
            self.close()

    def close(self) -> None:
        """End a bar that was left unfinished."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
