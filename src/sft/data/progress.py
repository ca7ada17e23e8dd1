"""How far preparation is: rows a second, and the time that is left."""

from __future__ import annotations

import time

from sft.data.lanes import Reading
from sft.terminal.line import clock, compose
from sft.terminal.screen import SCREEN

UNSEEN_SECONDS = 1.0
"""What is done so soon needs no line."""


class Progress:
    """A line over the bytes of the files; over rows, where it is known how many there will be.

    How many bytes a row took is not known while a file is being read; its characters stand for them until the file or
    segment ends.
    """

    def __init__(self, reading: Reading, *, quiet: bool) -> None:
        self._by_rows = reading.is_counted
        self._sizes = [lane.size for lane in reading.lanes]
        self._total = sum(self._sizes)
        self._place = self._first = 0
        self._done = 0
        self._rows = 0
        self._started = time.monotonic()
        self._quiet = quiet

    def begin(self, lane: int, rows: int) -> None:
        """A lane is begun, or gone on with after some rows."""
        self._done = sum(self._sizes[:lane])
        self._place = self._done + (rows if self._by_rows else 0)
        if not self._rows:
            self._first = self._place

    def count(self, rows: int, characters: int) -> None:
        """Rows were read."""
        self._rows += rows
        self._place += rows if self._by_rows else characters
        if not self._quiet and time.monotonic() - self._started > UNSEEN_SECONDS:
            SCREEN.show(self.draw)

    def draw(self, width: int) -> str:
        """The line that changes."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        if not self._total:
            return compose(f"preparing, {self._rows:,} rows", None, [(0, f"{self._rows / seconds:,.0f} rows/s")], width)
        place = min(self._place, self._total)
        left = (self._total - place) * seconds / max(1, place - self._first)
        figures = [(1, f"{self._rows / seconds:,.0f} rows/s"), (0, f"{clock(left)} left")]
        return compose(f"preparing, {self._rows:,} rows", place / self._total, figures, width)

    def close(self) -> None:
        """The line goes."""
        SCREEN.hide(self.draw)
