"""Configurations of other programs, read as ours. One file per dialect; none of them trains, reads data or loads torch.

A dialect is two functions over values that still know their file and line: ``recognises(values)`` and
``translate(values, overrides)``. To add one, write its file and its line in DIALECTS. It may say LISTS (its names that
take several words of a command line) and TAKES_PAIRS (``key=value`` after a file replaces the file's keys).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sft.config.values import RawValue
from sft.dialects import accelerate_yaml, axolotl, firefly_args, llama_factory, longbench_args, qwen3_args, trl
from sft.dialects.translation import STATUSES, Note, Translation


class Dialect(Protocol):
    """What a dialect's file offers."""

    def recognises(self, values: Mapping[str, RawValue], /) -> bool:
        """Whether a file with these values is written in the dialect."""

    def translate(self, values: Mapping[str, RawValue], overrides: Mapping[str, RawValue], /) -> Translation:
        """The values in our words; never raises, for a refusal is a note."""


DIALECTS: dict[str, Dialect] = {
    accelerate_yaml.NAME: accelerate_yaml,
    firefly_args.NAME: firefly_args,
    llama_factory.NAME: llama_factory,
    trl.NAME: trl,
    axolotl.NAME: axolotl,
    qwen3_args.NAME: qwen3_args,
    longbench_args.NAME: longbench_args,
}

__all__ = ["DIALECTS", "STATUSES", "Dialect", "Note", "Translation", "recognise", "translate"]


def recognise(values: Mapping[str, RawValue]) -> str | None:
    """The name of the dialect that a file's values are written in; None for our own."""
    for name, dialect in DIALECTS.items():
        if dialect.recognises(values):
            return name
    return None


def translate(
    values: Mapping[str, RawValue], dialect: str, overrides: Mapping[str, RawValue] | None = None
) -> Translation:
    """Read a foreign configuration as ours.

    ``overrides`` are options of ours that will win over the result (the rest of a command line). A dialect looks at
    them only where one value decides another, as use_lora decides where the model is saved.
    """
    return DIALECTS[dialect].translate(values, overrides or {})
