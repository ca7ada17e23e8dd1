"""Raw values, each with where it was written, and how they become the type an option declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value as it was read, before it is checked, and where it was read."""

    value: Any
    """What the YAML, JSON or TOML parser gave; a string or list of words from the command line; any Python value."""

    origin: str
    """'default', 'python', a file and line such as 'train.yaml:12', or a flag such as '--lora_r'."""
