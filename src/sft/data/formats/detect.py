"""Finding out how rows are written, from all of the first rows and not from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sft.data.formats.custom import question_columns
from sft.data.formats.messages import CHAT_COLUMNS
from sft.data.sources import nearest
from sft.data.types import Row
from sft.errors import DataError

HEAD_ROWS = 200
"""Rows looked at."""

_COLUMNS_SHOWN = 12


class Detection(NamedTuple):
    """A format and why it is that one."""

    format_type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.format_type}: {self.reason}"


Fit = Callable[[Row, Mapping[str, str]], Detection | None]


def detect_format(rows: Sequence[Row], columns: Mapping[str, str]) -> Detection:
    """Return the format that rows are written in.

    Rows that fit no format do not count if others do; they are found bad when they are converted.

    Raises:
        DataError: no row fits a format, two rows fit different ones, or the data holds preferences and not answers.
    """
    for row in rows:
        _refuse_preferences(row, columns)
    return agree(rows, columns, _fit, nothing=_nothing_fits)


def agree(
    rows: Sequence[Row], columns: Mapping[str, str], fit: Fit, *, nothing: Callable[[Sequence[Row]], str]
) -> Detection:
    """Return the one format that ``fit`` finds; ``nothing`` says what to tell where it finds none.

    Raises:
        DataError: no row fits a format, or two rows fit different ones.
    """
    check_columns_exist(rows, columns)
    first: dict[str, tuple[Row, Detection]] = {}
    for row in rows:
        found = fit(row, columns)
        if found is not None and found.format_type not in first:
            first[found.format_type] = (row, found)
    if len(first) > 1:
        (one_row, one), (other_row, other) = list(first.values())[:2]
        raise DataError(
            f"{other_row.source}: this row reads as {other}; but {one_row.source} as {one}. Put them into different "
            f"files, or set format_type, which makes rows of another format bad rows"
        )
    if not first:
        raise DataError(nothing(rows))
    return next(iter(first.values()))[1]


def check_columns_exist(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Raise a DataError if `columns` names a column that no row has. One under its usual name may be absent."""
    seen = _seen(rows)
    for key, name in columns.items():
        if rows and name not in seen and name != key:
            raise DataError(
                f"{rows[0].source.path}: columns says that {key} is {name!r}, but no row has that column"
                f"{nearest(name, seen) or '.'} Columns seen: {', '.join(seen)}"
            )


def _fit(row: Row, columns: Mapping[str, str]) -> Detection | None:
    """Return the first format that fits; one that `columns` speaks of is the only one tried."""
    fits = {("messages",): _fit_chat, ("prompt", "response"): _fit_question, ("text",): _fit_text, (): _fit_tokens}
    named = [fit for keys, fit in fits.items() if any(key in columns for key in keys)]
    found = (fit(row.values, columns) for fit in named or fits.values())
    return next((one for one in found if one is not None), None)


def _fit_chat(values: Mapping[str, Any], columns: Mapping[str, str]) -> Detection | None:
    named = columns.get("messages")
    column = named if named in values else next((name for name in CHAT_COLUMNS if name in values), None)
    if column is None or not isinstance(values[column], list | str):
        return None
    first = values[column][0] if values[column] else None
    if isinstance(first, dict) and "from" in first:
        return Detection("sharegpt", f"rows have {column} with from and value")
    if column in (named, "messages") and not (isinstance(first, dict) and "human" in first):
        return Detection("messages", f"rows have {column}")
    return Detection("sharegpt", f"rows have {column}")


def _fit_question(values: Mapping[str, Any], columns: Mapping[str, str]) -> Detection | None:
    prompt, context, response = question_columns(values, columns)
    if prompt not in values or response not in values:
        return None
    if "prompt" not in columns and "response" not in columns:
        if (prompt, response) == ("instruction", "output"):
            return Detection("alpaca", "rows have instruction and output")
        if (prompt, response) == ("prompt", "completion"):
            return Detection("prompt_completion", "rows have prompt and completion")
    beside = f", {context} beside it" if context in values else ""
    return Detection("custom", f"{prompt} is the question{beside}, {response} the answer")


def _fit_text(values: Mapping[str, Any], columns: Mapping[str, str]) -> Detection | None:
    column = columns.get("text", "text")
    return Detection("text", f"rows have {column} and no answer apart from it") if column in values else None


def _fit_tokens(values: Mapping[str, Any], columns: Mapping[str, str]) -> Detection | None:
    return Detection("tokens", "rows have input_ids, and no text") if "input_ids" in values else None


def _refuse_preferences(row: Row, columns: Mapping[str, str]) -> None:
    """Pairs and marks of preference are data for DPO and KTO; half of their answers are the ones not wanted."""
    if "response" in columns or "messages" in columns:
        return
    if "chosen" in row.values and "rejected" in row.values:
        chosen = row.values["chosen"]
        key = "messages" if isinstance(chosen, list) else "response" if isinstance(chosen, str) else None
        hint = f", train on the chosen ones with columns: {{{key}: chosen}}" if key else ""
        raise DataError(
            f"{row.source}: the rows have chosen and rejected, so they are preference pairs for DPO, and half of their "
            f"answers are not wanted. Set stage: dpo{hint}, or use data with one answer a row"
        )
    if isinstance(row.values.get("label"), bool) and any(name in row.values for name in (*CHAT_COLUMNS, "completion")):
        raise DataError(
            f"{row.source}: the rows have a label that is true or false, so some answers are not wanted (KTO). "
            "Leave out the rows with label false and the column label, or set format_type to train on them all"
        )


_KNOWN: Mapping[str, str] = {
    "alpaca": "instruction, output",
    "sharegpt": "conversations",
    "messages": "messages",
    "prompt_completion": "prompt, completion",
    "text": "text",
    "custom": "such as question, answer",
    "tokens": "input_ids, labels",
}


def describe_columns(rows: Sequence[Row]) -> str:
    """The columns that rows have, the first dozen of them."""
    seen = _seen(rows)
    listed = ", ".join(map(repr, seen[:_COLUMNS_SHOWN])) or "none"
    return listed + (f" and {len(seen) - _COLUMNS_SHOWN} more" if len(seen) > _COLUMNS_SHOWN else "")


def _nothing_fits(rows: Sequence[Row]) -> str:
    known = "; ".join(f"{name} ({columns})" for name, columns in _KNOWN.items())
    return (
        f"{rows[0].source}: the rows are written in no format that sft knows. Columns seen: {describe_columns(rows)}. "
        f"Known: {known}. Name your columns with columns: {{prompt: YOUR_QUESTION_COLUMN, response: "
        "YOUR_ANSWER_COLUMN}, {messages: YOUR_CHAT_COLUMN} or {text: YOUR_TEXT_COLUMN}"
    )


def _seen(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.values))
