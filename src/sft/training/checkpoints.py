"""Where a run goes on from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sft.errors import ConfigError

OWN_FILES = (
    "run.json", "metrics.jsonl", "trainer_log.jsonl", "train_results.json", "eval_results.json", "all_results.json",
)  # fmt: skip
"""Removed with the checkpoints of a run that is started anew. What it writes anyway is not among them."""

CODE_PARTS = ("sft code",)
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


def refuse_changed_run(before: dict[str, Any] | None, now: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to go on from a checkpoint of a run that was not this one.

    Compared: data, chat template, tokenizer, mask and length rules, rows per step, their order and seed. Steps, epochs,
    learning rate and intervals may change; that is the user's choice and the schedule follows it.

    Raises:
        ConfigError: something else changed; the message names it.
    """
    if before is None:
        return
    changed = [
        name
        for name, fingerprint in now["fingerprints"].items()
        if name not in CODE_PARTS and before["fingerprints"].get(name) != fingerprint
    ]
    for part in ("rows_per_step", "packs", "order"):
        if before["plan"].get(part) != now["plan"].get(part):
            changed.append(f"{part} (was {before['plan'].get(part)}, is {now['plan'].get(part)})")
    if changed:
        raise ConfigError(
            f"cannot go on from {checkpoint}: since that run these changed: {', '.join(changed)}. "
            "It would not be the same run. Set them back, choose another output_dir, or start anew with "
            "--overwrite_output_dir (removes that run's checkpoints) or --resume_from_checkpoint none"
        )


def clear_run(output_dir: Path) -> None:
    """Remove what an earlier run left in ``output_dir``: its checkpoints, records and answers. Nothing else."""
    for path in list_checkpoints(output_dir):
        shutil.rmtree(path)
    for name in OWN_FILES:
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / "gen_results", ignore_errors=True)
