"""What Arrow did to nested values, undone as far as it can be told.

A column store gives all objects of a column the same keys and fills those an object never had with null. Such nulls
would reach prompts as `"enum": null`, so nested keys that are null are left out. Top-level keys stay.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def restore_row(values: dict[str, Any], kept: Collection[str] = ()) -> dict[str, Any]:
    """Return a row without the nulls that Arrow put into nested objects; columns in ``kept`` stay as they are."""
    return {
        key: _restore(value) if isinstance(value, list | dict) and key not in kept else value
        for key, value in values.items()
    }


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restore(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_restore(child) for child in value]
    return value
