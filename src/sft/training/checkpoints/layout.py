"""Names in a run folder, and the order of checkpoints: by step, never by time or by name."""

from __future__ import annotations

import re
from pathlib import Path

MANIFEST = "manifest.json"
"""Written last; a folder without it is no checkpoint."""
STATE = "trainer_state.json"
IDENTITY = "identity.json"
"""Which run it belongs to: what `changes` compares."""
STATES = "training_state.json"
TENSORS = "training_state.safetensors"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
UNFINISHED = ".saving-"
"""Begins the name of a folder that is being written. What a killed run left is removed by the next."""
TRASH = ".removed-"
"""Begins the name of a folder on its way out: first renamed, then deleted, so that nothing partial looks whole."""
REPLACED = ".replaced-"
"""Begins the name of a checkpoint that makes place for a new one of its step."""
FOREIGN = "set-aside-"
"""Begins the name of a folder that stood in a checkpoint's place and is none. It stays."""


def checkpoint_folder(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return output_dir / f"checkpoint-{step}"


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(folder.name.rsplit("-", 1)[-1])


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Everything that has a checkpoint's name, the lowest step first; what is in it is not looked at."""
    if not output_dir.is_dir():
        return []
    named = [path for path in output_dir.iterdir() if CHECKPOINT.fullmatch(path.name)]
    return sorted(named, key=lambda path: (step_of(path), path.name))
