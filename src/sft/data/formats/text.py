"""Plain text: one column that is trained whole, as it is."""

from __future__ import annotations

from sft.data.formats.build import build_text
from sft.data.formats.fields import refuse, required_text
from sft.data.formats.options import FormatOptions
from sft.data.types import Conversation, Row


def convert_text(row: Row, options: FormatOptions) -> Conversation:
    """The text is the conversation."""
    column = options.column("text", "text")
    text = required_text(row, column)
    if not text or text.isspace():
        refuse(row, "empty text", f"The column {column!r} holds no text")
    return build_text(row, text, options)
