"""One option: its default, what it means, and which values make sense.

The text given here is the `--help`, the reference page and the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of one option besides its name, type and default."""

    help: str
    """One or two sentences: what it does, its unit, and what None or a special value means."""

    minimum: float | None = None
    """Smallest value allowed."""

    above: float | None = None
    """Value that must be exceeded."""

    maximum: float | None = None
    """Largest value allowed."""

    choices: tuple[str, ...] | None = None
    """The only strings allowed."""


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declare a dataclass field that is an option. A list or dict default is copied for every config."""
    described = Option(
        help=help, minimum=minimum, above=above, maximum=maximum, choices=tuple(choices) if choices else None
    )
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata={"option": described})
    return field(default=default, metadata={"option": described})
