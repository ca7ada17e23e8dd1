"""A full disk, a read-only one, a clock that goes back, weights that are no numbers: what was saved before stays."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.training.checkpoints import list_checkpoints
from sft.training.checkpoints.manifest import damage

from .conftest import TRIALS, Case, Nursery, Straight, difference


def left_behind(folder: Path) -> list[str]:
    """Folders of saves that were not completed."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.is_dir()]


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
def test_a_disk_that_is_full_for_one_save_costs_that_save(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path, behind: bool
) -> None:
    reference, full = (
        straight("full"),
        case(f"disk full for one save, {'in the background' if behind else 'waited for'}"),
    )
    for step in (3, 6, 9, 12) if TRIALS else (6, 12):
        folder = tmp_path / str(step)
        config = {**reference.config, "output_dir": str(folder), "save_in_background": behind, "save_total_limit": None}
        seen = nursery.run(config, script="full_disk_at", step=step)
        kept = [path.name for path in list_checkpoints(folder)]
        expected = [f"checkpoint-{one}" for one in (3, 6, 9, 12) if one != step]
        told = f"checkpoint-{step} could not be written: [Errno 28] No space left on device" in seen["said"]
        good = not seen["error"] and not difference(folder, reference) and not left_behind(folder)
        full.note(told and good and kept == expected, f"{seen}, kept {kept}, left {left_behind(folder)}")


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
def test_a_full_disk_ends_the_run_if_asked_and_it_goes_on_when_there_is_room(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path, behind: bool
) -> None:
    reference, stopped = straight("full"), case("disk full, on_failed_save: stop, then resumed")
    config = {
        **reference.config,
        "output_dir": str(tmp_path / "run"),
        "save_in_background": behind,
        "on_failed_save": "stop",
    }
    seen = nursery.run(config, script="full_disk_at", step=6)
    ended = "The run ends, as on_failed_save: stop says" in (seen["error"] or "")
    again = nursery.run(config)
    same = "resuming from" in again["said"] and not again["error"] and not difference(tmp_path / "run", reference)
    stopped.note(ended and same, f"{seen} {again}")


def test_files_may_not_grow_so_large(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, limited = straight("full"), case("every save refused by the system (file size limit)")
    seen = nursery.run({**reference.config, "output_dir": str(tmp_path / "run")}, limit=200_000)
    folder = tmp_path / "run"
    good = not seen["error"] and not difference(folder, reference) and not left_behind(folder)
    limited.note(good and "File too large" in seen["said"] and list_checkpoints(folder) == [], seen)


def test_too_little_room_is_said_before_the_first_step(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, refused = straight("full"), case("too little disk at the start")
    seen = nursery.run({**reference.config, "output_dir": str(tmp_path / "run")}, script="little_room")
    message = seen["error"] or ""
    refused.note("10 MiB free and this run will need about" in message and "step 1/" not in seen["said"], seen)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_model_is_loaded(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, refused = straight("full"), case("read-only or impossible output_dir")
    (tmp_path / "file").write_text("no folder")
    for folder, script in (
        (tmp_path / "run", "read_only"),
        (tmp_path / "file" / "run", None),
        (Path("/proc/run"), None),
    ):
        seen = nursery.run({**reference.config, "output_dir": str(folder)}, script=script)
        early = "plan\n" not in seen["said"]  # which is told once the model is there
        refused.note(early and f"{str(folder)!r} cannot be written to" in (seen["error"] or ""), seen)


def test_a_clock_that_goes_back_changes_nothing(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, chosen, dated = straight("full"), random.Random(3), case("clock set back, times of files scrambled")
    for trial in range(12 if TRIALS else 2):
        folder = tmp_path / str(trial)
        config = {**reference.config, "output_dir": str(folder)}
        nursery.run(config, script="clock_goes_back", after=reference.seconds * chosen.uniform(0.3, 0.9))
        for path in list_checkpoints(folder):
            os.utime(path, (chosen.random() * 1e9,) * 2)
        seen = nursery.run(config, script="clock_goes_back")
        kept = [path.name for path in list_checkpoints(folder)]
        good = not seen["error"] and not difference(folder, reference) and kept == ["checkpoint-9", "checkpoint-12"]
        dated.note(good, f"{seen}, kept {kept}")


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
def test_weights_that_are_no_numbers_replace_no_checkpoint(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path, behind: bool
) -> None:
    reference, lost = straight("full"), case("weights that are not finite at a save")
    folder = tmp_path / "run"
    config = {**reference.config, "output_dir": str(folder), "save_in_background": behind, "save_total_limit": 1}
    seen = nursery.run(config, script="weights_are_lost_at", step=9)
    kept = [path for path in list_checkpoints(folder) if not damage(path)]
    named = "holds values that are not numbers" in (seen["error"] or "")
    again = nursery.run(config)
    good = [path.name for path in kept] == ["checkpoint-6"] and not again["error"] and not difference(folder, reference)
    lost.note(named and good, f"{seen}, kept {kept}, {again}")
