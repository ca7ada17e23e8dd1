"""How a run that ended early is gone on with."""

from __future__ import annotations

from sft.config import SFTConfig


def how_to_go_on(config: SFTConfig) -> str:
    """What to type after a run was stopped: the same command, unless that would start anew."""
    if config.overwrite_output_dir:
        return "The same command without overwrite_output_dir goes on from there."
    if config.resume_from_checkpoint != "auto":
        return "The same command with resume_from_checkpoint auto goes on from there."
    return "The same command goes on from there."
