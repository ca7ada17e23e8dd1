"""Chat messages: `messages`, each with `role` and `content`, and beside them `tools`."""

from __future__ import annotations

from sft.data.formats.build import build_conversation
from sft.data.formats.fields import parsed, refuse, shown_columns
from sft.data.formats.options import FormatOptions
from sft.data.formats.turns import read_turns
from sft.data.types import Conversation, Row

CHAT_COLUMNS = ("messages", "conversations", "conversation")


def convert_messages(row: Row, options: FormatOptions) -> Conversation:
    """Every turn becomes a message."""
    column = chat_column(row, options, "messages")
    turns = parsed(row, row.values[column], column)
    return build_conversation(row, read_turns(row, turns, options, column), options)


def chat_column(row: Row, options: FormatOptions, usual: str) -> str:
    """Return the name of the column that holds the turns; ``usual`` is what its format calls it."""
    named = options.columns.get("messages")
    for column in (named,) if named else CHAT_COLUMNS:
        if column in row.values:
            return column
    refuse(row, f"no column {named or usual!r}", f"Its columns are {shown_columns(row)}")
