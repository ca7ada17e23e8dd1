"""One configuration from its sources, the later over the earlier: defaults, a file, the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft.config.argv import parse_cli, take_apart
from sft.config.files import read_file
from sft.config.renamed import apply_renames
from sft.config.sft_config import SFTConfig
from sft.config.values import RawValue
from sft.errors import ConfigError

__all__ = ["load_config", "parse_cli", "read_file"]


def load_config(
    file: str | Path | None,
    argv: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> SFTConfig:
    """Read a file, put the command line over it, check everything.

    Args:
        file: a YAML, JSON or TOML file of ours; None where there is none, or where ``argv`` names it.
        argv: words such as ``["train.yaml", "--lora_r", "8"]``.
        base: what the file holds, where it was read already, as by a dialect. RawValue entries keep their origin.
        notes: what the user should know about ``base``; kept in ``SFTConfig.notes``.
        defaults: of the program that ``base`` was written for, where they are not ours; messages tell them.

    Raises:
        ConfigError: every problem of every source, in one message.
    """
    words = take_apart(argv)
    if file is not None and words.file is not None:
        words.problems.append(f"two configuration files, {file} and {words.file}. Give one.")
    chosen = file if file is not None else words.file
    lower = _as_raw(base) if base is not None else _read(chosen, words.problems) if chosen is not None else {}
    return _checked(lower, words.overrides, words.problems, notes, defaults or {})


def _read(file: str | Path, problems: Sequence[str]) -> dict[str, RawValue]:
    """The file's values; what is wrong with the file is reported beside what is wrong with the command line."""
    try:
        return read_file(file)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None


def _checked(
    lower: Mapping[str, RawValue],
    upper: Mapping[str, RawValue],
    problems: Sequence[str],
    notes: Sequence[str],
    defaults: Mapping[str, Any],
) -> SFTConfig:
    """Old names are translated per source, so that --warmup_steps overrides the file's warmup_ratio."""
    below, above = apply_renames(lower), apply_renames(upper)
    found = [*problems, *below.problems, *above.problems]
    try:
        values = _with_defaults(below.values | above.values, defaults)
        config = SFTConfig(**values, notes=[*notes, *below.notes, *above.notes])
    except ConfigError as error:
        raise ConfigError([*found, *error.problems]) from None
    if found:
        raise ConfigError(found)
    return config


def _with_defaults(values: Mapping[str, RawValue], defaults: Mapping[str, Any]) -> dict[str, RawValue]:
    return {name: replace(raw, default=(defaults[name],)) if name in defaults else raw for name, raw in values.items()}


def _as_raw(values: Mapping[str, Any]) -> dict[str, RawValue]:
    return {name: value if isinstance(value, RawValue) else RawValue(value, "python") for name, value in values.items()}
