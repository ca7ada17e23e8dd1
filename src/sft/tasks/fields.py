"""Reading the fields of rows whose shape a benchmark fixes. A row that lacks one stops the reading: a score over the
rest would be another benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft.data.types import Source
from sft.errors import DataError


def text_field(values: Mapping[str, Any], names: Sequence[str], source: Source) -> str:
    """The text under the first of ``names`` that the row has."""
    value = _find(values, names, source)
    if not isinstance(value, str):
        raise _wrong(value, names, "text", source)
    return value


def texts_field(values: Mapping[str, Any], names: Sequence[str], source: Source) -> tuple[str, ...]:
    """A list of texts with at least one entry; a single text is a list of one."""
    value = _find(values, names, source)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise _wrong(value, names, "a list of texts, at least one", source)
    return tuple(found)


def number_field(values: Mapping[str, Any], name: str, source: Source, *, required: bool) -> int | None:
    """A whole number, or None where there is none and it is not ``required``."""
    value = values.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, (name,), "a whole number", source)
    return value


def _find(values: Mapping[str, Any], names: Sequence[str], source: Source) -> Any:
    for name in names:
        if values.get(name) is not None:
            return values[name]
    wanted = " or ".join(map(repr, names))
    raise DataError(f"{source}: the row has no {wanted}; it has {', '.join(map(repr, values)) or 'nothing'}")


def _wrong(value: Any, names: Sequence[str], wanted: str, source: Source) -> DataError:
    return DataError(f"{source}: {names[0]!r} is {str(value)[:60]!r}, but it must be {wanted}")
