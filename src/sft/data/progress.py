"""How far preparation is: rows a second, and the time that is left."""

from __future__ import annotations

import time

from tqdm.auto import tqdm

from sft.data.readings import Reading


class Progress:
    """A bar over the bytes of the files; over rows, where it is known how many there will be.

    How many bytes a row took is not known while a file is being read; its characters stand for them until the file or
    segment ends.
    """

    def __init__(self, reading: Reading, *, quiet: bool) -> None:
        self._by_rows = reading.is_counted
        self._sizes = [lane.size for lane in reading.lanes]
        self._done = 0
        self._rows = 0
        self._started = time.monotonic()
        self._bar = tqdm(
            total=sum(self._sizes) or None,
            desc="preparing",
            unit=" rows" if self._by_rows else "B",
            unit_scale=True,
            delay=1,
            disable=quiet or None,
        )

    def begin(self, lane: int, rows: int) -> None:
        """A lane is begun, or gone on with after some rows."""
        self._done = sum(self._sizes[:lane])
        self._move(self._done + (rows if self._by_rows else 0))

    def count(self, rows: int, characters: int) -> None:
        """Rows were read."""
        self._rows += rows
        speed = self._rows / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(f"{speed:,.0f} rows/s", refresh=False)
        self._move(self._bar.n + (rows if self._by_rows else characters))

    def close(self) -> None:
        """The bar goes."""
        self._bar.close()

    def _move(self, place: int) -> None:
        total = self._bar.total
        self._bar.update((place if total is None else min(place, total)) - self._bar.n)
