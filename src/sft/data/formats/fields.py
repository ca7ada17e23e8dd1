"""Reading typed values out of a row. Text is never changed; what is not of the right type is a RowError."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from sft.data.sources.json_text import Problem, StrictDecoder
from sft.data.types import Row
from sft.errors import RowError

LONGEST_REASON, LONGEST_ADVICE = 120, 400
"""Names of columns and roles are shown, and data can give them any length."""
LONGEST_NAME = 32


def refuse(row: Row, reason: str, advice: str = "") -> NoReturn:
    """Say that the row cannot be used. ``reason`` is what such rows are counted by. Neither repeats texts of it."""
    raise RowError(row.source, clip(reason, LONGEST_REASON), clip(advice, LONGEST_ADVICE))


def clip(text: str, longest: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def shown_name(name: str) -> str:
    """The name of a role, part or column; one so long that it may be a text of the data is counted only."""
    return repr(name) if len(name) <= LONGEST_NAME and "\n" not in name else f"of {len(name)} characters"


def shown_columns(row: Row) -> str:
    """The columns of a row, for advice."""
    return ", ".join(map(shown_name, row.values)) or "none"


def required_text(row: Row, column: str) -> str:
    """Return the text of a column that must be there."""
    text = row.values.get(column)
    if isinstance(text, str):
        return text
    if column not in row.values:
        refuse(row, f"no column {column!r}", f"Its columns are {shown_columns(row)}")
    refuse(row, f"{column!r} is {describe(text)}, not text", f"Found {shorten(text)}")


def optional_text(row: Row, column: str) -> str | None:
    """Return the text of a column, or None where it is absent, null or empty."""
    text = row.values.get(column)
    if text is None or isinstance(text, str):
        return text or None
    refuse(row, f"{column!r} is {describe(text)}, not text", f"Found {shorten(text)}")


def parsed(row: Row, value: Any, name: str) -> Any:
    """Return a nested value that columns of text hold as JSON text; other values as they are."""
    if not isinstance(value, str):
        return value
    found = StrictDecoder().decode_all(value)
    if isinstance(found, Problem):
        refuse(row, f"{name!r} is text that is {found.reason}", found.advice)
    return found


def read_weight(row: Row, value: Any, name: str) -> float:
    """Return a weight: a finite number from 0 on, also as text, as tables write it."""
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and number >= 0:
            return number
    refuse(row, f"{name!r} is not a number from 0 on", f"Found {shorten(value)}")


_SWITCH = {"true": True, "false": False, "1": True, "0": False}


def read_switch(row: Row, value: Any, name: str) -> bool:
    """Return a switch: true or false, also as 1 or 0 and as text, as tables write it."""
    found = _SWITCH.get(str(value).lower()) if isinstance(value, bool | int | str) else None
    if found is None:
        refuse(row, f"{name!r} is neither true nor false", f"Found {shorten(value)}")
    return found


def describe(value: Any) -> str:
    """Return what JSON calls the type of a value."""
    if value is None:
        return "null"
    for kinds, word in (((bool,), "true or false"), ((int, float), "a number"), ((str,), "text")):
        if isinstance(value, kinds):
            return word
    return "a list" if isinstance(value, list | tuple) else "an object" if isinstance(value, dict) else "no JSON value"


def shorten(value: Any) -> str:
    """Say of a value what may stand in a message: a number as it is, of anything else how large it is."""
    if value is None or isinstance(value, bool):
        return describe(value) if value is None else str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value):,} characters"
    if isinstance(value, dict | list | tuple):
        return f"{describe(value)} of {len(value):,}"
    return f"a {type(value).__name__}"
