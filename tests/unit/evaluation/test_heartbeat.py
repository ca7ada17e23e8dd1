"""Processes that wait for each other's work notice when one is gone, and wait as long as it lives."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch.distributed as dist

from sft.errors import PeerLost
from sft.evaluation.heartbeat import Heartbeat


class Board(dist.HashStore):  # type: ignore[misc, name-defined]
    """A board that can go out of reach of one who holds it."""

    reachable = True

    def set(self, key: str, value: Any) -> None:
        while not self.reachable:
            threading.Event().wait()  # as a dead connection does: for ever
        super().set(key, value)


def test_all_wait_for_the_slowest_however_long_it_takes() -> None:
    board = Board()
    beats = [Heartbeat(board, rank, 3, silence_seconds=0.3) for rank in range(3)]
    waiting = [threading.Thread(target=beat.finish) for beat in beats[:2]]
    for thread in waiting:
        thread.start()
    waiting[0].join(0.6)  # twice the silence that would be taken for death
    assert all(thread.is_alive() for thread in waiting)
    beats[2].finish()
    for thread in waiting:
        thread.join(5)
    assert not any(thread.is_alive() for thread in waiting)


def test_one_that_never_gives_a_sign_is_named() -> None:
    with pytest.raises(PeerLost, match=r"rank 0 waits for rank 1, which gave no sign of life for 0.2 s"):
        Heartbeat(Board(), 0, 2, silence_seconds=0.2).finish()


def test_one_that_is_cut_off_says_so() -> None:
    board = Board()
    board.reachable = False
    with pytest.raises(PeerLost, match="rank 1 no longer reaches the other processes"):
        Heartbeat(board, 1, 2, silence_seconds=0.2).finish()
