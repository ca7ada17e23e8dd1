"""Where a run goes on from."""

from __future__ import annotations

import re
from pathlib import Path

from sft.errors import ConfigError

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
STATE = "trainer_state.json"


def find_checkpoint(resume_from_checkpoint: str | None, output_dir: Path) -> Path | None:
    """The checkpoint asked for: a folder, the newest of ``output_dir`` ('auto'), or none.

    Raises:
        ConfigError: a folder was named that is no checkpoint.
    """
    if resume_from_checkpoint in (None, "none"):
        return None
    if resume_from_checkpoint == "auto":
        found = list_checkpoints(output_dir)
        return found[-1] if found else None
    folder = Path(str(resume_from_checkpoint)).expanduser()
    if not (folder / STATE).is_file():
        here = ", ".join(path.name for path in list_checkpoints(output_dir)) or "none"
        raise ConfigError(
            f"resume_from_checkpoint {str(folder)!r} is no checkpoint: it has no {STATE}. "
            f"Checkpoints in {output_dir}: {here}"
        )
    return folder


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    if not output_dir.is_dir():
        return []
    complete = [path for path in output_dir.iterdir() if CHECKPOINT.fullmatch(path.name) and (path / STATE).is_file()]
    return sorted(complete, key=lambda path: int(path.name.split("-")[1]))
