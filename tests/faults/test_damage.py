"""Files of a checkpoint that are cut, emptied, deleted or changed by a bit, and folders that are none."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.training.checkpoints import find_checkpoint
from sft.training.checkpoints.manifest import MANIFEST, files_of

from .conftest import KINDS, TRIALS, Case, Nursery, Straight, difference

DAMAGES = max(TRIALS * 5, 1000)


def cut(path: Path, data: bytes, chosen: random.Random) -> None:
    path.write_bytes(data[: chosen.randrange(len(data))])


def flip(path: Path, data: bytes, chosen: random.Random) -> None:
    changed = bytearray(data)
    changed[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    path.write_bytes(changed)


def empty(path: Path, data: bytes, chosen: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, data: bytes, chosen: random.Random) -> None:
    path.unlink()


HOWS = (cut, flip, empty, delete)


def test_every_damage_is_found_and_the_newest_valid_checkpoint_is_used(
    straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = random.Random(1)
    cases = {how: case(f"a file of the newest checkpoint: {how.__name__}") for how in HOWS}
    for kind in ("full", "lora with dropout"):
        folder = tmp_path / kind
        shutil.copytree(straight(kind).folder, folder)
        newest, older = folder / "checkpoint-12", folder / "checkpoint-9"
        names = [*files_of(newest), MANIFEST]
        for trial in range(DAMAGES // 2):
            name, how = names[trial % len(names)], chosen.choice(HOWS)
            data = (newest / name).read_bytes()
            how(newest / name, data, chosen)
            found = find_checkpoint("auto", folder)
            said = capsys.readouterr().err
            cases[how].note(found == older and "checkpoint-12 is not used" in said and name in said, f"{name}: {said}")
            (newest / name).write_bytes(data)
        assert find_checkpoint("auto", folder) == newest


def test_folders_that_are_no_checkpoints_are_passed_over_and_kept(
    straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, reference = case("a foreign, empty or renamed folder as the newest"), straight("full")
    for trial in range(60 if TRIALS else 12):
        folder = tmp_path / str(trial)
        shutil.copytree(reference.folder, folder)
        newest = folder / f"checkpoint-{100 + trial}"
        if trial % 3 == 0:
            newest.mkdir()
        elif trial % 3 == 1:
            shutil.copytree(folder / "final_model", newest)  # what another program saved
        else:
            shutil.copytree(folder / "checkpoint-9", newest)  # under another step's name
        found = find_checkpoint("auto", folder)
        said = capsys.readouterr().err
        foreign.note(found == folder / "checkpoint-12" and newest.name in said and newest.is_dir(), said)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, resumed = random.Random(2), case("resumed past a damaged checkpoint, to the same weights")
    for trial in range(24 if TRIALS else len(KINDS)):
        reference, folder = straight(list(KINDS)[trial % len(KINDS)]), tmp_path / str(trial)
        shutil.copytree(reference.folder, folder)
        shutil.rmtree(folder / "final_model")
        newest = folder / "checkpoint-12"
        path = newest / chosen.choice([*files_of(newest), MANIFEST])
        chosen.choice(HOWS)(path, path.read_bytes(), chosen)
        last = nursery.run({**reference.config, "output_dir": str(folder)})
        resumed.note(
            not last["error"] and not difference(folder, reference), last["error"] or difference(folder, reference)
        )
