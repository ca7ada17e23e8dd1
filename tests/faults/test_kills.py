"""kill -9 at random times and before every write and delete: the same command goes on, to the same weights."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from .conftest import KINDS, TRIALS, Case, Nursery, Straight, difference

KILLS_A_RUN = 4
"""Each run is killed so often before it may end: it goes on from checkpoints of runs that went on themselves."""


def test_killed_at_random_times(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, killed = random.Random(0), case("kill -9 at a random time")
    for trial in range(max(TRIALS, 8) // KILLS_A_RUN):
        reference, folder = straight(list(KINDS)[trial % len(KINDS)]), tmp_path / str(trial)
        config = {**reference.config, "output_dir": str(folder), "save_in_background": trial % 2 == 0}
        kills = 0
        while kills < KILLS_A_RUN:
            kills += nursery.run(config, after=chosen.uniform(0.02, reference.seconds * 0.9))["died"]
        last = nursery.run(config)
        seen = last["error"] or difference(folder, reference)
        for _ in range(kills):
            killed.note(not seen, f"run {trial}: {seen}")
        shutil.rmtree(folder)


def test_killed_before_every_write_and_delete(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, killed = straight("short"), case("kill -9 before a numbered write or delete")
    every = 1 if TRIALS else 40
    for point in range(0, len(reference.points), every):
        folder = tmp_path / str(point)
        config = {**reference.config, "output_dir": str(folder)}
        first = nursery.run(config, at=point)
        last = nursery.run(config)
        seen = last["error"] or difference(folder, reference)
        killed.note(first["died"] and not seen, f"point {point} ({reference.points[point]}): {seen or first}")
        shutil.rmtree(folder)
