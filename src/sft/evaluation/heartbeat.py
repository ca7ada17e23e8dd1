"""Whether the other processes still live while one works for hours and the rest wait for it.

A collective with a short timeout would end good work, one with a long timeout would wait for a machine that is gone. So
each process leaves a sign of life on a board that all can write to, and a wait ends when somebody's signs stop.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from sft.errors import PeerLost

SILENCE_SECONDS = 300.0
"""Without a sign for so long, a process is taken for lost: it died, hangs, or its machine is cut off."""


class Heartbeat:
    """Signs of life of one process on a board, and what it sees of the others'.

    The board (a torch.distributed.Store) is only touched by a thread of its own: over a dead connection an answer never
    comes, and the process must notice that too.

    Args:
        board: what all processes of one wait, and no other wait, write to.
        rank: of this process.
        size: how many there are.
        silence_seconds: see ``SILENCE_SECONDS``; a sign is given twenty times as often.
    """

    def __init__(self, board: Any, rank: int, size: int, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.board, self.rank = board, rank
        self.silence_seconds = silence_seconds
        self.others = [other for other in range(size) if other != rank]
        now = time.monotonic()
        self._answered = now
        self._seen = dict.fromkeys(self.others, now)
        self._signs = dict.fromkeys(self.others, b"")
        self._done = threading.Event()
        self._all_done = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def finish(self) -> None:
        """Say that this process has done its part, and wait for the others.

        Raises:
            PeerLost: one of them gave no sign of life for ``silence_seconds``.
        """
        self._done.set()
        try:
            while not self._all_done.wait(0.05):
                self._refuse_silence()
        finally:
            self._all_done.set()

    def _refuse_silence(self) -> None:
        deadline = time.monotonic() - self.silence_seconds
        if self._answered < deadline:
            raise PeerLost(
                f"rank {self.rank} no longer reaches the other processes, which it waits for: they are gone, or this "
                f"machine is cut off ({self.silence_seconds:g} s without an answer). Start all of them again with the "
                "same command: it goes on from the newest checkpoint."
            )
        for other, seen in self._seen.items():
            if seen < deadline:
                raise PeerLost(
                    f"rank {self.rank} waits for rank {other}, which gave no sign of life for "
                    f"{self.silence_seconds:g} s: it died, hangs or is cut off. Start all of them again with the same "
                    "command: it goes on from the newest checkpoint."
                )

    def _beat(self) -> None:
        number, pause = 0, 0.02
        finished = [f"done/{rank}" for rank in [*self.others, self.rank]]
        try:
            while not self._all_done.is_set():
                number += 1
                self.board.set(f"beat/{self.rank}", str(number))
                if self._done.is_set():
                    self.board.set(f"done/{self.rank}", "")
                for other in self.others:
                    self._look_at(other)
                self._answered = time.monotonic()
                if self._done.is_set() and self.board.check(finished):
                    self._all_done.set()
                if self._done.is_set():
                    time.sleep(pause)
                    pause = min(2 * pause, 1.0, self.silence_seconds / 20)
                else:
                    self._done.wait(self.silence_seconds / 20)
        except Exception:  # the board is gone; ``_answered`` grows old, and ``finish`` says so
            return

    def _look_at(self, other: int) -> None:
        key = f"beat/{other}"
        sign = self.board.get(key) if self.board.check([key]) else b""
        if sign != self._signs[other] or self.board.check([f"done/{other}"]):
            self._signs[other], self._seen[other] = sign, time.monotonic()
