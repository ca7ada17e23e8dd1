"""kill -9 at random times and before every write and delete: the same command goes on, to the same weights."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import KINDS, TRIALS, Case, Nursery, Straight, difference

KILLS_A_RUN = 4
"""At most so often is a run killed before it may end: it goes on from checkpoints of runs that went on themselves."""

DEFAULT = ("full", "lora with dropout")
"""Kinds of runs that `make test` has time for."""

PARTS = 4 if TRIALS else 1
"""Tests that the points are dealt out to, for several workers."""


@pytest.mark.parametrize("kind", KINDS if TRIALS else DEFAULT)
def test_killed_at_random_times(
    kind: str, nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, killed = random.Random(f"kills of {kind}"), case("kill -9 at a random time")
    reference, wanted, trial = straight(kind), max(TRIALS, 8) // len(KINDS if TRIALS else DEFAULT), 0
    while killed.tried < wanted:
        trial += 1
        folder, kills, last = tmp_path / str(trial), 0, {"died": True}
        config = {**reference.config, "output_dir": str(folder), "save_in_background": trial % 2 == 0}
        while last["died"]:
            more = kills < min(KILLS_A_RUN, wanted - killed.tried)
            last = nursery.run(config, after=chosen.uniform(0.02, reference.seconds * 0.9) if more else None)
            kills += last["died"]
        seen = last["error"] or difference(folder, reference)
        for _ in range(kills):
            killed.note(not seen, f"run {trial}: {seen}")
        shutil.rmtree(folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_before_every_write_and_delete(
    part: int, nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, killed = straight("short"), case("kill -9 before a numbered write or delete")
    every = 1 if TRIALS else 40
    for point in range(0, len(reference.points), every)[part::PARTS]:
        folder = tmp_path / str(point)
        config = {**reference.config, "output_dir": str(folder)}
        first = nursery.run(config, at=point)
        last = nursery.run(config)
        seen = last["error"] or difference(folder, reference)
        killed.note(first["died"] and not seen, f"point {point} ({reference.points[point]}): {seen or first}")
        shutil.rmtree(folder)
