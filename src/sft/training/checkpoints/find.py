"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path

from sft.errors import ConfigError
from sft.training.checkpoints.layout import checkpoint_folders
from sft.training.checkpoints.manifest import damage, is_sealed
from sft.training.launch import warn

SHOWN = 6
"""Damaged files of one checkpoint that a message names."""


def find_checkpoint(resume_from_checkpoint: str | None, output_dir: Path) -> Path | None:
    """The checkpoint asked for: a folder, the newest valid one of ``output_dir`` ('auto'), or none.

    'auto' passes over what is damaged and says what is wrong with it, file by file.

    Raises:
        ConfigError: a folder was named that is no valid checkpoint.
    """
    if resume_from_checkpoint in (None, "none"):
        return None
    if resume_from_checkpoint == "auto":
        return newest_valid(output_dir)
    folder = Path(str(resume_from_checkpoint)).expanduser()
    wrong = damage(folder) if folder.is_dir() else ["there is no such folder"]
    if wrong:
        here = ", ".join(path.name for path in list_checkpoints(output_dir)) or "none"
        raise ConfigError(
            f"resume_from_checkpoint {str(folder)!r} is no checkpoint to go on from: {describe_damage(wrong)}. "
            f"Checkpoints in {output_dir}: {here}. Name one of them, or write auto for the newest valid one. Weights "
            "that other programs saved are trained on with --model_name_or_path or --adapter_name_or_path."
        )
    return folder


def newest_valid(output_dir: Path) -> Path | None:
    """The checkpoint of the highest step that is as it was written."""
    for folder in reversed(checkpoint_folders(output_dir)):
        wrong = damage(folder)
        if not wrong:
            return folder
        warn(f"{folder} is not used: {describe_damage(wrong)}")
    return None


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoints that were completed, the lowest step first; whether they are damaged since is not looked at."""
    return [path for path in checkpoint_folders(output_dir) if is_sealed(path)]


def describe_damage(wrong: list[str]) -> str:
    """The lines of ``damage`` as one."""
    more = f"; and {len(wrong) - SHOWN} more files" if len(wrong) > SHOWN else ""
    return "; ".join(wrong[:SHOWN]) + more
