"""Which checkpoints stay, and how the others go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sft.training.checkpoints.disk import remove_folder
from sft.training.checkpoints.find import list_checkpoints
from sft.training.checkpoints.layout import (
    FOREIGN,
    REPLACED,
    STATE,
    TRASH,
    UNFINISHED,
    checkpoint_folder,
    checkpoint_folders,
    step_of,
)
from sft.training.checkpoints.manifest import is_sealed
from sft.training.launch import warn

OWN_FILES = (
    "run.json", "metrics.jsonl", "incidents.jsonl", "bad_rows.jsonl", "trainer_log.jsonl", "train_results.json",
    "eval_results.json", "all_results.json", "eval_history.json", "eval_questions.jsonl", "data_summary.json",
    "report.html",
)  # fmt: skip
"""Removed with the checkpoints of a run that is started anew. What it writes anyway is not among them."""


def rotate(output_dir: Path, *, newest: int, best: int | None, limit: int | None) -> list[int]:
    """Remove the lowest steps until ``limit`` checkpoints are left; never ``newest``, never ``best``.

    ``newest`` was written and sealed a moment ago. Folders without a manifest are nobody's business here.

    Returns:
        The steps that went.
    """
    sealed = [step_of(path) for path in list_checkpoints(output_dir)]
    if limit is None:
        return []
    free_to_go = [step for step in sealed if step not in (newest, best)]
    gone = free_to_go[: max(0, len(sealed) - max(limit, 1))]
    for step in gone:
        folder = checkpoint_folder(output_dir, step)
        remove_folder(folder, output_dir / f"{TRASH}{folder.name}")
    return gone


def make_place(place: Path) -> Path | None:
    """Free the place of a new checkpoint. An older one of that step is renamed; so is a folder that is none, for good.

    Returns:
        What is to be removed once the new one stands there.
    """
    if not place.exists():
        return None
    is_ours = was_checkpoint(place)
    aside = place.with_name(f"{REPLACED if is_ours else FOREIGN}{place.name}")
    if aside.exists() and is_ours:
        shutil.rmtree(aside)
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-")
    os.rename(place, aside)
    if not is_ours:
        warn(f"{place} is no checkpoint and stood where one is written now; it is kept as {aside.name}")
    return aside if is_ours else None


def remove_leftovers(output_dir: Path) -> list[str]:
    """Remove what a killed run left half-written or half-deleted. Only who holds the run's lock may call it.

    A checkpoint that was renamed to make place for a new one, which never came, gets its name back.

    Returns:
        Names of the folders that went.
    """
    if not output_dir.is_dir():
        return []
    gone = []
    for path in sorted(output_dir.iterdir()):
        if not path.name.startswith((UNFINISHED, TRASH, REPLACED)) or not path.is_dir():
            continue
        place = path.with_name(path.name.removeprefix(REPLACED))
        if path.name.startswith(REPLACED) and not place.exists():
            os.rename(path, place)
        else:
            shutil.rmtree(path)
            gone.append(path.name)
    return gone


def was_checkpoint(folder: Path) -> bool:
    """Whether a folder is, or was before it was damaged, a checkpoint of ours or of transformers' Trainer."""
    return is_sealed(folder) or (folder / STATE).is_file()


def clear_run(output_dir: Path) -> None:
    """Remove what an earlier run left in ``output_dir``: its checkpoints, records and answers. Nothing else."""
    for path in filter(was_checkpoint, reversed(checkpoint_folders(output_dir))):
        remove_folder(path, output_dir / f"{TRASH}{path.name}")
    for name in OWN_FILES:
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / "gen_results", ignore_errors=True)
